"""Float pixels to uint8 and back: the affine map, the two ways to quantise, and what each costs.

Distilled tensors are floats far outside the picture range. `clip` keeps a natural picture and cuts what
lies outside; `range` stretches each channel's own minimum and maximum over 0..255 and keeps the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ladd_data.manifest import Affine, Normalization, PixelError, Quantization
from ladd_data.types import F32, F64, U8

CLIP_RMSE_LIMIT = 0.01
"""`auto` clips while that costs at most this RMSE, in natural units (2.55 grey levels); rounding costs 0.001."""


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """uint8 pixels [images, channels, height, width], the map back to model input, and the error made."""

    pixels: U8
    affine: Affine
    quantization: Quantization


def natural_affine(normalization: Normalization) -> Affine:
    """Return the map from a natural uint8 picture to normalised model input: (pixel / 255 - mean) / std."""
    mean, std = np.asarray(normalization.mean, np.float64), np.asarray(normalization.std, np.float64)
    return _affine(1 / (255 * std), -mean / std)


def apply_affine(affine: Affine, pixels: U8 | F32) -> F32:
    """Return scale * pixel + offset per channel, float32 [..., channels, height, width]."""
    scale = np.asarray(affine.scale, np.float32)[:, None, None]
    offset = np.asarray(affine.offset, np.float32)[:, None, None]
    return np.asarray(pixels.astype(np.float32) * scale + offset, np.float32)


def renormalize(affine: Affine, old: Normalization, new: Normalization) -> Affine:
    """Return the map from the same stored pixels to the input of a network with another normalisation."""
    scale, offset = np.asarray(affine.scale, np.float64), np.asarray(affine.offset, np.float64)
    old_mean, old_std = np.asarray(old.mean, np.float64), np.asarray(old.std, np.float64)
    new_mean, new_std = np.asarray(new.mean, np.float64), np.asarray(new.std, np.float64)
    return _affine(scale * old_std / new_std, (offset * old_std + old_mean - new_mean) / new_std)


def quantize(values: F32, normalization: Normalization | None, mode: str = "auto") -> StoredPixels:
    """Store model-input pixels as uint8, with the error measured against the tensor given.

    Args:
        values: float32 [images, channels, height, width], finite, in model-input space.
        normalization: how that space relates to natural pixels; None when it does not (ZCA), in which
            case only `range` is possible and errors are in the tensor's own units.
        mode: "clip", "range", or "auto": clip unless that costs more than CLIP_RMSE_LIMIT.
    """
    ranged = _by_range(values, normalization)
    if normalization is None:
        return StoredPixels(ranged.pixels, ranged.affine, Quantization(mode="range", error=ranged.quantization.error))
    clipped = _by_clip(values, normalization)
    cheap = clipped.quantization.error.rmse <= CLIP_RMSE_LIMIT
    chosen = clipped if mode == "clip" or (mode == "auto" and cheap) else ranged
    quantization = chosen.quantization.model_copy(
        update={"clip": clipped.quantization.error, "range": ranged.quantization.error}
    )
    return StoredPixels(chosen.pixels, chosen.affine, quantization)


def _by_clip(values: F32, normalization: Normalization) -> StoredPixels:
    mean, std = _column(normalization.mean), _column(normalization.std)
    levels = (values.astype(np.float64) * std + mean) * 255
    # A float32 tensor of true 8-bit pixels lands within a hair of 0 and 255: that hair is not clipping.
    outside = float(np.mean((levels < -0.5) | (levels > 255.5)))
    pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return _measured(values, pixels, natural_affine(normalization), std, "clip", outside)


def _by_range(values: F32, normalization: Normalization | None) -> StoredPixels:
    axes = (0, 2, 3)
    low, high = values.min(axes).astype(np.float64), values.max(axes).astype(np.float64)
    scale = np.where(high > low, (high - low) / 255, 1.0)
    levels = (values.astype(np.float64) - low[:, None, None]) / scale[:, None, None]
    pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    std = _column(normalization.std) if normalization is not None else np.ones((1, 1, 1))
    return _measured(values, pixels, _affine(scale, low), std, "range", 0.0)


def _measured(values: F32, pixels: U8, affine: Affine, std: F64, mode: str, outside: float) -> StoredPixels:
    error = np.abs(apply_affine(affine, pixels).astype(np.float64) - values) * std
    measured = PixelError(
        rmse=float(np.sqrt(np.mean(error**2))), max_abs=float(error.max(initial=0)), clipped_share=outside
    )
    return StoredPixels(pixels, affine, Quantization.model_validate({"mode": mode, "error": measured}))


def _column(per_channel: tuple[float, ...]) -> F64:
    return np.asarray(per_channel, np.float64)[:, None, None]


def _affine(scale: F64, offset: F64) -> Affine:
    return Affine(scale=tuple(map(float, scale)), offset=tuple(map(float, offset)))
