"""Dense labels as plain floating-point columns, `dense_<space>`: one number per class."""

from __future__ import annotations

import numpy as np

from ladd_data.types import F32, F64, Array, LabelSpace


def encode_dense(log_probs: F64, logz: F64 | None, space: LabelSpace, dtype: str) -> Array:
    """Return [images, views, classes] in the space and type asked for.

    Args:
        log_probs: float64 [images, views, classes].
        logz: float64 [images, views], needed for space "logits".
        space: "probs", "log_probs" or "logits".
        dtype: "float16", "float32" or "bfloat16" (kept as uint16 bit patterns).
    """
    values = np.exp(log_probs) if space == "probs" else log_probs
    if space == "logits" and logz is not None:
        values = log_probs + logz[..., None]
    return to_bfloat16(values.astype(np.float32)) if dtype == "bfloat16" else values.astype(dtype)


def decode_dense(stored: Array, dtype: str) -> F32:
    """Return the stored numbers widened to float32, in the space they were stored in."""
    return from_bfloat16(stored) if dtype == "bfloat16" else stored.astype(np.float32)


def to_bfloat16(values: F32) -> Array:
    """Return the bit patterns, uint16, of finite numbers rounded to bfloat16, halves to even."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(bits: Array) -> F32:
    """Return bfloat16 bit patterns, uint16, as float32; exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
