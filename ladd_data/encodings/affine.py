"""q8 and q4: each view's log-probabilities on an even ladder below the most probable class.

    log_prob[c] = -scale * code[c], normalised          (LADD-037)

The code of the most probable class is 0, the others count down in steps of the view's `scale`. No zero
point is stored: a shift of all log-probabilities is no change, and softmax takes it out.
"""

from __future__ import annotations

import numpy as np

from ladd_data.types import F32, F64, U8, Array

LEVELS = {"q8": 255, "q4": 15}
REACHES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Shares of a view's range that the ladder may cover; the one of least KL is taken, view by view."""


def packed_width(encoding: str, classes: int) -> int:
    """Return the bytes that one view's codes take."""
    return classes if encoding == "q8" else (classes + 1) // 2


def encode_affine(log_probs: F64, encoding: str) -> tuple[U8, Array]:
    """Return (codes, scale).

    Args:
        log_probs: float64 [images, views, classes].
        encoding: "q8" or "q4".

    Returns:
        codes: uint8 [images, views * packed_width]; q4 packs class 2i into the low half of byte i.
        scale: float16 [images, views], at least the smallest positive float16.
    """
    levels = LEVELS[encoding]
    below = log_probs.max(-1, keepdims=True) - log_probs  # >= 0
    span = below.max(-1, keepdims=True)
    best_kl = np.full(span.shape, np.inf)
    best_codes, best_scale = np.zeros_like(below), np.zeros_like(span)
    for reach in REACHES:
        scale = np.maximum(span * reach / levels, 2.0**-24).astype(np.float16).astype(np.float64)
        codes = np.clip(np.rint(below / scale), 0, levels)
        kl = _kl(log_probs, -scale * codes)
        better = kl < best_kl
        best_kl, best_scale = np.where(better, kl, best_kl), np.where(better, scale, best_scale)
        best_codes = np.where(better, codes, best_codes)
    return pack(best_codes.astype(np.uint8), encoding), best_scale[..., 0].astype(np.float16)


def decode_affine(packed: U8, scale: Array, encoding: str, classes: int) -> F32:
    """Return log-probabilities up to a constant per view, float32 [images, views, classes]."""
    codes = unpack(packed, encoding, scale.shape[-1], classes)
    return -(scale.astype(np.float32)[..., None] * codes.astype(np.float32))


def pack(codes: U8, encoding: str) -> U8:
    """Return codes [images, views, classes] as bytes [images, views * packed_width]."""
    if encoding == "q4":
        padded = np.concatenate([codes, np.zeros_like(codes[..., : codes.shape[-1] % 2])], -1)
        codes = padded[..., 0::2] | (padded[..., 1::2] << 4)
    return np.ascontiguousarray(codes.reshape(len(codes), -1))


def unpack(packed: U8, encoding: str, views: int, classes: int) -> U8:
    """Return bytes [images, views * packed_width] as codes, uint8 [images, views, classes]."""
    codes = packed.reshape(len(packed), views, -1)
    if encoding == "q4":
        codes = np.stack([codes & 15, codes >> 4], -1).reshape(len(packed), views, -1)
    return codes[..., :classes]


def _kl(log_p: F64, unnormalised: F64) -> F64:
    """Return KL(p || q) per view, keeping the last axis, for q given up to a constant."""
    peak = unnormalised.max(-1, keepdims=True)
    log_q = unnormalised - peak - np.log(np.exp(unnormalised - peak).sum(-1, keepdims=True))
    return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(-1, keepdims=True))
