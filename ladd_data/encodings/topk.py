"""Top-k: the k most probable classes of each view, and the probability that is left for the others.

    kept[c] = exp(value),  other = exp(tail) / (C - k),  kept raised to `other` at least, all renormalised
                                                                                        (LADD-038)
Storing what is left matters: renormalising the kept ones instead moves 19 to 42 % of the probability at
k = 10, C = 1000. Ids take the narrowest unsigned type that holds C - 1.
"""

from __future__ import annotations

import numpy as np

from ladd_data.types import F32, F64, Array

LEAST = float(np.finfo(np.float16).min)
"""Stored for a tail of no probability at all; its exponential is 0."""


def id_type(classes: int) -> str:
    """Return the name of the type that class ids are stored in."""
    return "uint8" if classes <= 2**8 else "uint16" if classes <= 2**16 else "uint32"


def encode_topk(log_probs: F64, k: int) -> tuple[Array, Array, Array]:
    """Return (ids, values, tail).

    Args:
        log_probs: float64 [images, views, classes], normalised.
        k: classes to keep, 1 .. classes - 1.

    Returns:
        ids: unsigned [images, views, k], most probable first, ties by class number.
        values: float16 [images, views, k], log-probabilities.
        tail: float16 [images, views], log of the sum of the others' probabilities.
    """
    order = np.argsort(-log_probs, axis=-1, kind="stable")
    ids = order[..., :k]
    rest = np.take_along_axis(log_probs, order[..., k:], -1)
    with np.errstate(divide="ignore"):
        tail = np.log(np.exp(rest).sum(-1))
    values = np.take_along_axis(log_probs, ids, -1)
    clipped = np.maximum(values, LEAST).astype(np.float16)
    return ids.astype(id_type(log_probs.shape[-1])), clipped, np.maximum(tail, LEAST).astype(np.float16)


def decode_topk(ids: Array, values: Array, tail: Array, classes: int) -> F32:
    """Return probabilities, float32 [images, views, classes], rows summing to 1."""
    k = ids.shape[-1]
    other = np.exp(tail.astype(np.float32))[..., None] / np.float32(classes - k)
    kept = np.maximum(np.exp(values.astype(np.float32)), other)
    probs = np.broadcast_to(other, (*ids.shape[:-1], classes)).copy()
    np.put_along_axis(probs, ids.astype(np.int64), kept, -1)
    return np.asarray(probs / probs.sum(-1, keepdims=True), np.float32)
