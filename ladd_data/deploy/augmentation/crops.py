"""Crops and shuffles of single pictures, batched: random resized crop, crop with padding, RDED's patch shuffle."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ladd_data.types import F64, I64

RATIO = (3 / 4, 4 / 3)
"""Aspect ratios of a random resized crop, torchvision's."""
TRIES = 10
"""Boxes drawn until one fits, torchvision's."""


def draw_boxes(u: F64, height: int, width: int, area: tuple[float, float]) -> I64:
    """Return a box for each picture by torchvision's `RandomResizedCrop` rule.

    Args:
        u: numbers from [0, 1), float64 [n, 4 * TRIES].
        height: of the pictures.
        width: of the pictures.
        area: least and most share of the picture.

    Returns:
        int64 [n, 4]: top, left, height, width.
    """
    parts = u.reshape(len(u), TRIES, 4)
    wanted = height * width * (area[0] + parts[..., 0] * (area[1] - area[0]))
    low, high = np.log(RATIO)
    ratio = np.exp(low + parts[..., 1] * (high - low))
    wide, high_ = np.rint(np.sqrt(wanted * ratio)), np.rint(np.sqrt(wanted / ratio))
    fits = (wide > 0) & (wide <= width) & (high_ > 0) & (high_ <= height)
    top = np.floor(parts[..., 2] * (height - high_ + 1))
    left = np.floor(parts[..., 3] * (width - wide + 1))
    boxes = np.stack([top, left, high_, wide], -1)
    chosen = boxes[np.arange(len(u)), fits.argmax(1)]
    fitting: NDArray[np.bool_] = fits.any(1)
    return np.where(fitting[:, None], chosen, _central_box(height, width)).astype(np.int64)


def _central_box(height: int, width: int) -> F64:
    wide, high = width, height
    if width / height < RATIO[0]:
        high = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        wide = round(height * RATIO[1])
    return np.array([(height - high) // 2, (width - wide) // 2, high, wide], np.float64)


def resize_boxes(pictures: Tensor, boxes: Tensor) -> Tensor:
    """Cut a box out of each picture and resize it, bilinearly, to the picture's size.

    Args:
        pictures: float32 [n, channels, height, width].
        boxes: float32 [n, 4]: top, left, height, width, inside the picture.
    """
    for axis, (start, length) in zip((2, 3), ((0, 2), (1, 3)), strict=True):
        pictures = _resample(pictures, axis, boxes[:, start], boxes[:, length])
    return pictures


def _resample(pictures: Tensor, axis: int, first: Tensor, length: Tensor) -> Tensor:
    """Mix the two nearest rows or columns of each box; pixel centres are at halves, and the box's edge is repeated."""
    side = pictures.shape[axis]
    at = (torch.arange(side, device=pictures.device) + 0.5) * (length[:, None] / side) - 0.5
    at = at.clamp_min(0)
    low = torch.minimum(at.floor(), length[:, None] - 1)
    high = torch.minimum(low + 1, length[:, None] - 1)
    shape = [len(pictures), 1, 1, 1]
    shape[axis] = side
    wide = list(pictures.shape)

    def gather(taps: Tensor) -> Tensor:
        return pictures.gather(axis, (taps + first[:, None]).long().view(shape).expand(wide))

    return torch.lerp(gather(low), gather(high), (at - low).view(shape).expand(wide))


def shift(pictures: Tensor, rows: Tensor, columns: Tensor, fill: Tensor) -> Tensor:
    """Return each picture moved; what comes in has the colour `fill`.

    Args:
        pictures: float32 [n, channels, height, width].
        rows: int64 [n]: what was at row r + rows comes to row r.
        columns: int64 [n], likewise.
        fill: float32 [channels].
    """
    inside = pictures.new_ones(1, dtype=torch.bool)
    for axis, by in ((2, rows), (3, columns)):
        side = pictures.shape[axis]
        index = torch.arange(side, device=pictures.device) + by[:, None]
        shape = [len(pictures), 1, 1, 1]
        shape[axis] = side
        inside = inside & ((index >= 0) & (index < side)).view(shape)
        pictures = pictures.gather(axis, index.clamp(0, side - 1).view(shape).expand(pictures.shape))
    return torch.where(inside, pictures, fill[:, None, None])


def shuffle_strips(pictures: Tensor, columns: I64, rows: I64) -> Tensor:
    """Put the strips of each picture in another order: columns of strips first, then rows of strips.

    Args:
        pictures: float32 [n, channels, height, width].
        columns: int64 [n, factor]: which strip comes to each place; strips are width // factor wide, the last
            one has what is left over.
        rows: int64 [n, factor], likewise.

    Source: RDED, `ShufflePatches` in validation/utils.py.
    """
    for axis, orders in ((3, columns), (2, rows)):
        side = pictures.shape[axis]
        index = torch.from_numpy(strip_index(orders, side)).to(pictures.device, non_blocking=True)
        shape = [len(pictures), 1, 1, 1]
        shape[axis] = side
        pictures = pictures.gather(axis, index.view(shape).expand(pictures.shape))
    return pictures


def strip_index(orders: I64, side: int) -> I64:
    """Return which pixel comes to each place when strips are put in an order, int64 [n, side]."""
    factor = orders.shape[1]
    starts = np.arange(factor) * (side // factor)
    ends = np.append(starts[1:], side)
    strips = [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]
    rows = [np.concatenate([strips[strip] for strip in order]) for order in orders]
    return np.stack(rows).astype(np.int64)
