"""Golden views: the digest by which a loader proves that its views are the labeler's views."""

from __future__ import annotations

import hashlib

import numpy as np

from ladd_data.types import F32


def digest_view(view: F32) -> str:
    """Return the SHA-256 of one view, float32 [channels, height, width], 0..255 scale, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(view, "<f4").tobytes()).hexdigest()


def top_of(probs: F32) -> tuple[int, float]:
    """Return (most probable class, its probability) of one soft label, float32 [classes]."""
    return int(probs.argmax()), min(1.0, float(probs.max()))
