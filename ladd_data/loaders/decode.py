"""Stored dense labels to probabilities, in torch: the one decoder behind records and batches."""

from __future__ import annotations

import torch
from torch import Tensor

from ladd_data.types import LabelSpace


def decode_probs(stored: Tensor, space: LabelSpace) -> Tensor:
    """Turn stored dense labels [..., classes] into probabilities, float32, rows summing to 1.

    Source: spec/ladd-1.0.md, LADD-032; the numpy twin is `ladd_data.encodings.decode_probs`.
    """
    wide = stored.to(torch.float32)
    return wide if space == "probs" else torch.softmax(wide, dim=-1)
