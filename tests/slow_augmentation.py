"""Each augmentation once more, pixel by pixel in float64 and plain Python, from the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float64]
"""[channels, height, width]."""


def color(picture: Picture, u: Sequence[float]) -> Picture:
    """Brightness by (u - 0.5) * 1.0, saturation by u * 2.0, contrast by u + 0.5."""
    channels, height, width = picture.shape
    bright = picture + (u[0] - 0.5) * 1.0
    coloured = np.empty_like(bright)
    for y in range(height):
        for x in range(width):
            grey = sum(bright[c, y, x] for c in range(channels)) / channels
            for c in range(channels):
                coloured[c, y, x] = (bright[c, y, x] - grey) * (u[1] * 2.0) + grey
    mean = coloured.sum() / coloured.size
    contrasted: Picture = (coloured - mean) * (u[2] + 0.5) + mean
    return contrasted


def crop(picture: Picture, u: Sequence[float]) -> Picture:
    """Pad by zeros and move by -pad .. pad, where pad is an eighth of the side."""
    _channels, height, width = picture.shape
    pads = [int(side * 0.125 + 0.5) for side in (height, width)]
    down, right = (math.floor(part * (2 * pad + 1)) - pad for part, pad in zip(u, pads, strict=True))
    result = np.zeros_like(picture)
    for y in range(height):
        for x in range(width):
            if 0 <= y + down < height and 0 <= x + right < width:
                result[:, y, x] = picture[:, y + down, x + right]
    return result


def cutout(picture: Picture, u: Sequence[float]) -> Picture:
    """Zero a box of half the side; a pixel of it that lies outside hits the edge, as the original clamps it."""
    _channels, height, width = picture.shape
    result = picture.copy()
    sizes = [int(side * 0.5 + 0.5) for side in (height, width)]
    offsets = [
        math.floor(part * (side + (1 - size % 2))) for part, side, size in zip(u, (height, width), sizes, strict=True)
    ]
    for down in range(sizes[0]):
        for right in range(sizes[1]):
            y = min(max(down + offsets[0] - sizes[0] // 2, 0), height - 1)
            x = min(max(right + offsets[1] - sizes[1] // 2, 0), width - 1)
            result[:, y, x] = 0
    return result


def flip(picture: Picture, u: Sequence[float]) -> Picture:
    """Mirror with probability a half."""
    return picture[:, :, ::-1].copy() if u[0] < 0.5 else picture


def scale(picture: Picture, u: Sequence[float]) -> Picture:
    """Sample at s times the distance from the middle, s between 1/1.2 and 1.2 for each axis."""
    across, down = (part * (1.2 - 1 / 1.2) + 1 / 1.2 for part in u)
    return warp(picture, lambda x, y: (across * x, down * y))


def rotate(picture: Picture, u: Sequence[float]) -> Picture:
    """Sample at the place turned by an angle between -15 and 15 degrees."""
    angle = math.radians((u[0] - 0.5) * 2 * 15)
    cos, sin = math.cos(angle), math.sin(angle)
    return warp(picture, lambda x, y: (cos * x - sin * y, sin * x + cos * y))


def warp(picture: Picture, place: object) -> Picture:
    """Sample bilinearly where `place` maps (x, y), -1 .. 1 from edge to edge; outside is 0."""
    _channels, height, width = picture.shape
    result = np.zeros_like(picture)
    for row in range(height):
        for column in range(width):
            x, y = place((2 * column + 1) / width - 1, (2 * row + 1) / height - 1)  # type: ignore[operator]
            at_x, at_y = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
            left, top = math.floor(at_x), math.floor(at_y)
            for near_y in (top, top + 1):
                for near_x in (left, left + 1):
                    if 0 <= near_y < height and 0 <= near_x < width:
                        weight = (1 - abs(at_x - near_x)) * (1 - abs(at_y - near_y))
                        result[:, row, column] += weight * picture[:, near_y, near_x]
    return result


def cut_box(height: int, width: int, share: float, u: Sequence[float]) -> tuple[int, int, int, int]:
    """CutMix, Algorithm A1: the box has the area 1 - share, and is cut off where it leaves the picture."""
    cut = math.sqrt(1 - share)
    high, wide = int(height * cut), int(width * cut)
    y, x = int(u[0] * height), int(u[1] * width)
    return (
        min(max(y - high // 2, 0), height),
        min(max(x - wide // 2, 0), width),
        min(max(y + high // 2, 0), height),
        min(max(x + wide // 2, 0), width),
    )


def shuffle(picture: Picture, columns: Sequence[int], rows: Sequence[int]) -> Picture:
    """RDED: cut into vertical strips and join them in another order, then the same with horizontal ones."""

    def strips(side: int, factor: int) -> list[range]:
        size = side // factor
        return [range(i * size, side if i == factor - 1 else (i + 1) * size) for i in range(factor)]

    across, down = strips(picture.shape[2], len(columns)), strips(picture.shape[1], len(rows))
    picture = np.concatenate([picture[:, :, across[strip]] for strip in columns], 2)
    return np.concatenate([picture[:, down[strip]] for strip in rows], 1)


OPERATIONS = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate}
