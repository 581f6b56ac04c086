"""Stored dense labels to probabilities and their kin, in torch: the one decoder behind records and batches.

Each function is the twin of the numpy one in `ladd_data.encodings`, and tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Coding
from ladd_data.types import Array, DenseSpace, SoftSpace

_MANY_CLASSES = 32
"""From here torch's softmax is the faster one."""


def to_tensors(
    columns: Mapping[str, Array], device: torch.device | str = "cpu", *, copy: bool = True
) -> dict[str, Tensor]:
    """Return columns as tensors on a device, in the types they are stored in.

    Except two that torch cannot gather: ids become signed integers, bfloat16 bit patterns bfloat16. With `copy`
    False, tensors on the CPU share the arrays' memory, which must be writable.
    """
    tensors = {}
    for name, values in columns.items():
        if name == "dense_topk_ids":
            values = values.astype(np.int64 if values.dtype == np.uint32 else np.int32)
        plain = values.view(np.int16) if values.dtype == np.uint16 else values
        tensor = torch.from_numpy(plain.copy() if copy else plain)
        tensors[name] = (tensor.view(torch.bfloat16) if values.dtype == np.uint16 else tensor).to(device)
    return tensors


def decode_dense(stored: Mapping[str, Tensor], coding: Coding, classes: int, space: DenseSpace) -> Tensor:
    """Turn stored columns, each [records, ...], into float32 [records, views, classes] in a space.

    The row of a view that is missing is all 0: as probabilities no label, and nothing in a cross-entropy.

    Source: spec/ladd-1.0.md, LADD-032, LADD-033, LADD-037, LADD-038, LADD-045.
    """
    if space == "probabilities":
        values = _decode_probs(stored, coding, classes)
    elif space == "logits" and coding.space == "logits" and coding.encoding == "dense":
        values = stored["dense_logits"].to(torch.float32)
    else:
        values = _decode_log_probs(stored, coding, classes)
        if space == "logits":
            values = values + stored["dense_logz"][..., None]
    if "view_present" in stored:
        return torch.where(stored["view_present"][..., None], values, 0.0)
    return values


def decode_probs(stored: Mapping[str, Tensor], coding: Coding, classes: int) -> Tensor:
    """Turn stored columns into probabilities, float32 [records, views, classes] (`decode_dense`)."""
    return decode_dense(stored, coding, classes, "probabilities")


def check_space(space: DenseSpace, coding: Coding | None) -> None:
    """Refuse a space that labels so stored cannot be had in; `coding`: None for a dataset without dense labels.

    Raises:
        UsageError: says what to store instead.
    """
    if space not in get_args(DenseSpace):
        raise UsageError(f'space "{space}" is not known. {nearest(str(space), get_args(DenseSpace))}')
    if coding is None and space != "probabilities":
        raise UsageError(f'space "{space}": this dataset has no dense labels. Run "ladd label" first.')
    if coding is not None and space == "logits" and coding.space != "logits" and not coding.logz:
        raise UsageError(
            f'space "logits": this dataset stores {coding.space} without logz, from which logits cannot be had. '
            'Take "log_probabilities", or label again with a coding that keeps logz (profile default does).'
        )


def find_soft(stored: Mapping[str, Tensor]) -> Tensor | None:
    """Return the whole-image soft labels among the columns, float32 [records, classes], if there are any."""
    return next((values for name, values in stored.items() if name.startswith("soft_")), None)


def find_soft_space(stored: Mapping[str, Tensor]) -> SoftSpace | None:
    """Return what the numbers of `find_soft` are, if there are any."""
    return next((space for space in get_args(SoftSpace) if f"soft_{space}" in stored), None)


def _decode_probs(stored: Mapping[str, Tensor], coding: Coding, classes: int) -> Tensor:
    if coding.encoding == "topk":
        return _decode_topk(stored, classes)
    values = _decode_scores(stored, coding, classes)
    return values if coding.space == "probs" else _softmax(values)


def _decode_log_probs(stored: Mapping[str, Tensor], coding: Coding, classes: int) -> Tensor:
    if coding.encoding != "topk" and coding.space != "probs":
        scores = _decode_scores(stored, coding, classes)
        return scores - torch.logsumexp(scores, dim=-1, keepdim=True)
    probs = _decode_probs(stored, coding, classes)
    return torch.log(probs.clamp_min(torch.finfo(torch.float32).tiny))


def _softmax(scores: Tensor) -> Tensor:
    """Turn scores into probabilities; torch's own kernel is five times slower over 10 classes on a CPU (torch 2.15)."""
    if scores.is_cuda or scores.shape[-1] >= _MANY_CLASSES:
        return torch.softmax(scores, dim=-1)
    raised = (scores - scores.amax(-1, keepdim=True)).exp_()
    return raised.div_(raised.sum(-1, keepdim=True))


def _decode_scores(stored: Mapping[str, Tensor], coding: Coding, classes: int) -> Tensor:
    """Return what is stored as float32: probabilities, or what a softmax turns into them."""
    if coding.encoding == "dense":
        return stored[f"dense_{coding.space}"].to(torch.float32)
    scale = stored[f"dense_{coding.encoding}_scale"].to(torch.float32)
    codes = _unpack(stored[f"dense_{coding.encoding}"], coding.encoding, scale.shape[-1], classes)
    return -(scale[..., None] * codes.to(torch.float32))


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
