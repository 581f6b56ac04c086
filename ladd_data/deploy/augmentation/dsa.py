"""DSA's operations, batched: colour, crop, cutout, flip, scale, rotate (Zhao and Bilen, ICML 2021).

Source: `DiffAugment` in VICO-UoE/DatasetCondensation, utils.py, whose constants MTT, GLaD and IDC share. They act on
model input, as there: brightness adds to normalised values, and what comes in at the edges is 0, the mean colour.
Each function takes pictures float32 [n, channels, height, width] and, per picture, numbers u from [0, 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP_PAD = 0.125
CUTOUT = 0.5
FLIP = 0.5
SCALE = 1.2
ROTATE = 15.0
"""Degrees."""

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
NUMBERS = {"color": 3, "crop": 2, "cutout": 2, "flip": 1, "scale": 2, "rotate": 1}
"""How many u each operation takes per picture."""


def apply(name: str, pictures: Tensor, u: Tensor) -> Tensor:
    """Return the pictures after one operation; u is float32 [n, NUMBERS[name]]."""
    return _FUNCTIONS[name](pictures, u)


def color(pictures: Tensor, u: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast."""
    brightness, saturation, contrast = (part[:, None, None] for part in u[:, :, None].unbind(1))
    pictures = pictures + (brightness - 0.5) * BRIGHTNESS
    grey = pictures.mean(1, keepdim=True)
    pictures = (pictures - grey) * (saturation * SATURATION) + grey
    mean = pictures.mean((1, 2, 3), keepdim=True)
    return (pictures - mean) * (contrast + CONTRAST) + mean


def crop(pictures: Tensor, u: Tensor) -> Tensor:
    """Shift by up to an eighth of the side, both ways; 0 comes in."""
    for axis, part in zip((2, 3), u.unbind(1), strict=True):
        side = pictures.shape[axis]
        most = int(side * CROP_PAD + 0.5)
        shift = (part * (2 * most + 1)).long() - most
        pictures = take(pictures, axis, torch.arange(side, device=u.device) + shift[:, None])
    return pictures


def cutout(pictures: Tensor, u: Tensor) -> Tensor:
    """Set a box of half the side to 0; it is cut off at the edges."""
    inside = []
    for axis, part in zip((2, 3), u.unbind(1), strict=True):
        side = pictures.shape[axis]
        size = int(side * CUTOUT + 0.5)
        first = (part * (side + 1 - size % 2)).long() - size // 2
        at = torch.arange(side, device=u.device)
        inside.append((at >= first[:, None]) & (at < first[:, None] + size))
    hidden = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return pictures.masked_fill(hidden, 0)


def flip(pictures: Tensor, u: Tensor) -> Tensor:
    """Mirror left to right, one picture in two."""
    return torch.where(u[:, :, None, None] < FLIP, pictures.flip(3), pictures)


def scale(pictures: Tensor, u: Tensor) -> Tensor:
    """Shrink or enlarge each axis about the middle, by 1 / 1.2 to 1.2, bilinearly; 0 comes in."""
    factor = u * (SCALE - 1 / SCALE) + 1 / SCALE
    return _warp(pictures, torch.diag_embed(factor))


def rotate(pictures: Tensor, u: Tensor) -> Tensor:
    """Turn about the middle by up to 15 degrees either way, bilinearly; 0 comes in."""
    angle = (u[:, 0] - 0.5) * (2 * ROTATE / 180 * math.pi)
    cos, sin = angle.cos(), angle.sin()
    return _warp(pictures, torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1))


def take(pictures: Tensor, axis: int, index: Tensor) -> Tensor:
    """Gather rows (axis 2) or columns (axis 3) of each picture by int64 [n, size]; 0 where the index is outside."""
    side = pictures.shape[axis]
    shape = [len(pictures), 1, 1, 1]
    shape[axis] = index.shape[1]
    wide = list(pictures.shape)
    wide[axis] = index.shape[1]
    there = ((index >= 0) & (index < side)).view(shape)
    taken = pictures.gather(axis, index.clamp(0, side - 1).view(shape).expand(wide))
    return taken.masked_fill(~there, 0)


def _warp(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Sample at matrix @ (x, y), coordinates from -1 to 1 across the picture; matrix is [n, 2, 2]."""
    theta = functional.pad(matrix, (0, 1))
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="zeros", align_corners=False)


_FUNCTIONS = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate}
