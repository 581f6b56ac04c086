"""Stored dense labels to probabilities, in torch: the one decoder behind records and batches.

Each function is the twin of the numpy one in `ladd_data.encodings`, and tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ladd_data.manifest import Coding
from ladd_data.types import Array


def to_tensors(columns: Mapping[str, Array], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return label columns as tensors on a device, in the types they are stored in.

    Except two that torch cannot gather: ids become signed integers, bfloat16 bit patterns bfloat16.
    """
    tensors = {}
    for name, values in columns.items():
        if name == "dense_topk_ids":
            values = values.astype(np.int64 if values.dtype == np.uint32 else np.int32)
        tensor = torch.from_numpy(values.view(np.int16).copy() if values.dtype == np.uint16 else values.copy())
        tensors[name] = (tensor.view(torch.bfloat16) if values.dtype == np.uint16 else tensor).to(device)
    return tensors


def decode_probs(stored: Mapping[str, Tensor], coding: Coding, classes: int) -> Tensor:
    """Turn stored columns, each [records, ...], into probabilities, float32 [records, views, classes].

    The row of a view that is missing is all 0: no label, and nothing in a cross-entropy.

    Source: spec/ladd-1.0.md, LADD-032, LADD-037, LADD-038, LADD-045.
    """
    probs = _decode_all(stored, coding, classes)
    if "view_present" in stored:
        return probs * stored["view_present"][..., None]
    return probs


def find_soft(stored: Mapping[str, Tensor]) -> Tensor | None:
    """Return the whole-image soft labels among the columns, float32 [records, classes], if there are any."""
    return next((values for name, values in stored.items() if name.startswith("soft_")), None)


def _decode_all(stored: Mapping[str, Tensor], coding: Coding, classes: int) -> Tensor:
    if coding.encoding == "topk":
        return _decode_topk(stored, classes)
    if coding.encoding == "dense":
        values = stored[f"dense_{coding.space}"].to(torch.float32)
        return values if coding.space == "probs" else torch.softmax(values, dim=-1)
    scale = stored[f"dense_{coding.encoding}_scale"].to(torch.float32)
    codes = _unpack(stored[f"dense_{coding.encoding}"], coding.encoding, scale.shape[-1], classes)
    return torch.softmax(-(scale[..., None] * codes.to(torch.float32)), dim=-1)


def _unpack(packed: Tensor, encoding: str, views: int, classes: int) -> Tensor:
    codes = packed.reshape(len(packed), views, -1)
    if encoding == "q4":
        codes = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(2)
    return codes[..., :classes]


def _decode_topk(stored: Mapping[str, Tensor], classes: int) -> Tensor:
    ids = stored["dense_topk_ids"].to(torch.int64)
    tail = torch.exp(stored["dense_tail_log_prob"].to(torch.float32))[..., None]
    other = tail / (classes - ids.shape[-1])
    kept = torch.maximum(torch.exp(stored["dense_topk_log_probs"].to(torch.float32)), other)
    probs = other.expand(*ids.shape[:-1], classes).scatter(-1, ids, kept)
    return probs / probs.sum(-1, keepdim=True)
