"""Crops resized as Pillow resizes 8-bit pictures, bit for bit, on any device: what FKD-style labels were made from.

Pillow works in two passes, each in whole numbers: weights of 22 fractional bits, and one rounding to 8 bits at the
end of each pass. So the result is a pure function that integers reproduce exactly, batched. Along rows first, but
since Pillow 13 along columns first where the height shrinks by more than twice what the width does; a view is
never smaller than its crop, so for views every version agrees.
Source: Pillow, src/libImaging/Resample.c (precompute_coeffs, normalize_coeffs_8bpc); spec clause LADD-041.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ladd_data.types import I64

PillowFilter = Literal["bilinear", "bicubic"]

_BITS = 22
_SUPPORT: dict[PillowFilter, float] = {"bilinear": 1.0, "bicubic": 2.0}


def resize_as_pillow(
    images: Tensor, box: Tensor, height: int, width: int, resample: PillowFilter = "bilinear"
) -> Tensor:
    """Cut one box out of each image and resize it as `Image.crop(...).resize(...)` does.

    Args:
        images: uint8 [batch, channels, rows, columns].
        box: integers [batch, 4]: y, x, height, width in pixels, inside the image.
        height: rows of the result.
        width: columns of the result.
        resample: the filter.

    Returns:
        uint8 [batch, channels, height, width].
    """
    y, x, tall, wide = box.to(images.device, torch.int64).unbind(1)
    result = images.new_empty((*images.shape[:2], height, width))
    rows_first = (tall - height).clamp_min(0) <= (wide - width) * 2
    rows_first |= tall <= height
    for chosen, rows in ((rows_first, True), (~rows_first, False)):
        if not chosen.any():
            continue
        along = (3, x[chosen], wide[chosen], width), (2, y[chosen], tall[chosen], height)
        mixed = images[chosen]
        for dim, start, side, size in along if rows else along[::-1]:
            mixed = _pass(mixed, start, side, size, dim, resample)
        result[chosen] = mixed
    return result


def _pass(pixels: Tensor, start: Tensor, side: Tensor, size: int, dim: int, resample: PillowFilter) -> Tensor:
    """Resize one axis: the taps of `side` pixels from `start` on, for `size` positions."""
    sides, which = torch.unique(side, return_inverse=True)
    tables = [_taps(number, size, resample) for number in sides.tolist()]
    depth = max(weights.shape[1] for _, weights in tables)
    first = torch.tensor(np.stack([first for first, _ in tables]), device=pixels.device)[which] + start[:, None]
    weights = torch.tensor(np.stack([_widen(weights, depth) for _, weights in tables]), device=pixels.device)[which]
    shape = [len(pixels), 1, 1, 1]
    shape[dim] = size
    wide = list(pixels.shape)
    wide[dim] = size
    last = (start + side - 1)[:, None]  # a tap beyond it has weight 0
    total = torch.full(wide, 1 << (_BITS - 1), dtype=torch.int32, device=pixels.device)
    for tap in range(depth):
        taps = torch.minimum(first + tap, last).view(shape).expand(wide)
        total += pixels.gather(dim, taps).to(torch.int32) * weights[:, :, tap].view(shape)
    return (total >> _BITS).clamp_(0, 255).to(torch.uint8)


def _widen(weights: I64, depth: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.pad(weights, ((0, 0), (0, depth - weights.shape[1]))).astype(np.int32)


@cache
def _taps(side: int, size: int, resample: PillowFilter) -> tuple[I64, I64]:
    """Return the first tap of each position, int64 [size], and its weights in 2**-22, int64 [size, taps]."""
    scale = side / size
    stretch = max(scale, 1.0)
    support = _SUPPORT[resample] * stretch
    centre = (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), side)
    taps = first[:, None] + np.arange(int((stop - first).max()))
    away = np.abs((taps - centre[:, None] + 0.5) * (1.0 / stretch))
    weights = np.where(taps < stop[:, None], _kernel(away, resample), 0.0)
    total = np.zeros(size)
    for tap in range(weights.shape[1]):  # in Pillow's order: a sum of floats depends on it
        total += weights[:, tap]
    weights = np.divide(weights, total[:, None], out=weights, where=total[:, None] != 0)
    scaled = weights * (1 << _BITS)
    return first, np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int64)


def _kernel(
    away: np.ndarray[tuple[int, ...], np.dtype[np.float64]], resample: PillowFilter
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return a filter's weight at distances >= 0."""
    if resample == "bilinear":
        return np.where(away < 1.0, 1.0 - away, 0.0)
    near = ((-0.5 + 2.0) * away - (-0.5 + 3.0)) * away * away + 1
    far = (((away - 5) * away + 8) * away - 4) * -0.5
    return np.where(away < 1.0, near, np.where(away < 2.0, far, 0.0))
