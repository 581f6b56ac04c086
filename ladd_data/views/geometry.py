"""Where each view lies and which pixels it mixes, in integers only (spec clauses LADD-040, LADD-041).

A view of a grid is a crop of `side` pixels resized back to the full size. Along one axis, output
position i reads the crop at ((2i + 1) * side - size) / (2 * size): half-pixel centres, kept as an exact
fraction. The resized value is therefore an exact rational number, and each implementation rounds that
number to float32 once. That is what makes views bit-equal everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, gcd

import numpy as np
from numpy.typing import NDArray

from ladd_data.errors import UsageError
from ladd_data.manifest import Boxes, Grid, Mix, Opaque, ViewSpec
from ladd_data.types import I64, Array

FLOAT32_BITS = 24
PIXEL_BITS = 8
PILLOW_BITS = 22
"""Of the fractions that Pillow weighs 8-bit pixels with."""
PILLOW_SUPPORT = {"pillow-bilinear": 1.0, "pillow-bicubic": 2.0, "pillow13-bicubic": 2.0}
"""Pixels on either side that Pillow's filters take in where nothing is made smaller."""


@dataclass(frozen=True)
class Box:
    """A crop: its top-left corner and its sides, in stored pixels."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class Taps:
    """How one axis of a crop becomes the axis of an image: two taps and weights per output position.

    low, high: int64 [size], taps relative to the crop's start, inside the crop.
    weight: int64 [size], weight of `high` in units of 1/denominator; `low` has the rest.
    """

    low: I64
    high: I64
    weight: I64
    denominator: int


def grid(n: int, ratio: str | Fraction | float = "5/8") -> Grid:
    """Return the specification of n x n views whose sides are `ratio` of the image's (LADD, Sec. 3.1).

    Args:
        n: crops per axis, 1 .. 64.
        ratio: exact fraction in (0, 1], as "5/8" or Fraction(5, 8); 0.625 is taken at its exact value.

    Raises:
        UsageError: n or ratio is out of range.
    """
    try:
        exact = Fraction(ratio).limit_denominator(99999)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f'ratio "{ratio}": found no fraction; expected one such as 5/8.') from error
    if not 0 < exact <= 1 or not 1 <= n <= 64:
        raise UsageError(f"grid of {n} x {n} at ratio {ratio}: expected n in 1..64 and a ratio above 0, at most 1.")
    return Grid(n=n, ratio=f"{exact.numerator}/{exact.denominator}")


def crop_side(spec: Grid, size: int) -> int:
    """Return the crop's side in pixels: ratio * size, halves rounded up, at least 1."""
    exact = Fraction(spec.ratio) * size
    return max(1, floor(exact + Fraction(1, 2)))


def offsets(spec: Grid, size: int) -> tuple[int, ...]:
    """Return where a grid's crops begin along an axis of `size` pixels."""
    slack = size - crop_side(spec, size)
    return (slack // 2,) if spec.n == 1 else tuple(i * slack // (spec.n - 1) for i in range(spec.n))


@dataclass(frozen=True)
class PillowTaps:
    """How Pillow's filters turn one axis of a crop into one of another length, of 8-bit pixels.

    start: int64 [size], the first tap, relative to the crop's start.
    weight: int64 [size, taps], in units of 2**-22; 0 for a tap outside of the crop.
    """

    start: I64
    weight: I64


@lru_cache(maxsize=256)
def pillow_taps(side: int, size: int, way: str = "pillow-bilinear") -> PillowTaps:
    """Work out how Pillow resizes a crop of `side` pixels to `size` along one axis.

    Args:
        side: of the crop.
        size: of the view.
        way: a `Resample` of Pillow's.

    Source: Pillow, src/libImaging/Resample.c, precompute_coeffs and normalize_coeffs_8bpc; spec clause LADD-047.
    """
    wider = max(1.0, side / size)
    support = PILLOW_SUPPORT[way] * wider
    center = (np.arange(size) + 0.5) * (side / size)
    start = np.maximum((center - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((center + support + 0.5).astype(np.int64), side)
    taps = start[:, None] + np.arange(count_pillow_taps(side, size, way))
    share = _pillow_share(np.abs((taps - center[:, None] + 0.5) * (1 / wider)), way) * (taps < stop[:, None])
    total = share[:, 0]
    for tap in range(1, share.shape[1]):  # one after the other, as Pillow adds them
        total = total + share[:, tap]
    exact = share / total[:, None] * 2**PILLOW_BITS
    return PillowTaps(start, (exact + np.where(exact < 0, -0.5, 0.5)).astype(np.int64))


def is_tall(height: int, width: int, high: int, wide: int) -> bool:
    """Tell whether Pillow 13 resizes a crop down its columns first; every Pillow before it begins with the rows."""
    return height > high and height - high > 2 * (width - wide)


def count_pillow_taps(side: int, size: int, way: str) -> int:
    """Return how many pixels of an axis Pillow may take in for one of a view."""
    return ceil(PILLOW_SUPPORT[way] * max(1.0, side / size)) * 2 + 1


def _pillow_share(distance: NDArray[np.float64], way: str) -> NDArray[np.float64]:
    """Return the filter's value at a distance of at least 0: a triangle, or the cubic with a = -1/2 (Keys 1981)."""
    if way == "pillow-bilinear":
        return np.asarray(np.maximum(1 - distance, 0))
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


@lru_cache(maxsize=256)
def taps(side: int, size: int) -> Taps:
    """Work out how a crop of `side` pixels is resized to `size`, along one axis."""
    common = gcd(side, size)
    p, q = side // common, size // common  # side / size in lowest terms
    position = (2 * np.arange(size, dtype=np.int64) + 1) * p - q  # in units of 1 / (2q)
    position = np.maximum(position, 0)
    low = position // (2 * q)
    high = np.minimum(low + 1, side - 1)
    return Taps(low, high, position - low * 2 * q, 2 * q)


def boxes(spec: Grid, height: int, width: int) -> tuple[Box, ...]:
    """Return the crops in view order: row-major from the top left."""
    high, wide = crop_side(spec, height), crop_side(spec, width)
    return tuple(Box(y, x, high, wide) for y in offsets(spec, height) for x in offsets(spec, width))


def is_exact_in_float32(spec: Grid, height: int, width: int) -> bool:
    """Tell whether every step of the resize is exact in float32, in any order, fused or not.

    True when both denominators are powers of two and pixel and weights together fit 24 bits, as for 5/8
    at every size divisible by 8.
    """
    bits = PIXEL_BITS
    for size in (height, width):
        denominator = taps(crop_side(spec, size), size).denominator
        if denominator & (denominator - 1):
            return False
        bits += denominator.bit_length() - 1
    return bits <= FLOAT32_BITS


def view_sides(spec: ViewSpec, height: int, width: int) -> tuple[int, int]:
    """Return the height and width of the views of images of `height` and `width`."""
    return (spec.size, spec.size) if isinstance(spec, Boxes) and spec.size is not None else (height, width)


def lies_inside(stated: Array, height: int, width: int) -> NDArray[np.bool_]:
    """Return which boxes, [..., (y, x, height, width)], have pixels, and have them inside the image (LADD-044)."""
    wide = stated.astype(np.int64)
    return np.asarray((wide[..., 2:] >= 1).all(-1) & (wide[..., :2] + wide[..., 2:] <= [height, width]).all(-1))


def say_views(views: ViewSpec) -> str:
    """Return the views in words, such as "5x5 grid of crops, sides 5/8 of the image's"."""
    if isinstance(views, Grid):
        return f"{views.n}x{views.n} grid of crops, sides {views.ratio} of the image's"
    if isinstance(views, Boxes):
        size = f", resized to {views.size}x{views.size}" if views.size is not None else ""
        return f"{views.count} boxes{' with flips' if views.flip else ''}, given record by record{size}"
    if isinstance(views, Opaque):
        return f"{views.count} that cannot be cut again: {views.reason}"
    if isinstance(views, Mix):
        ways = " and ".join(name for name, there in (("CutMix", views.cutmix), ("MixUp", views.mixup)) if there)
        return f"{views.count} boxes{' with flips' if views.flip else ''}, mixed with other views by {ways}"
    return "the whole image"


def random_box(seed: int, record: int, view: int, height: int, width: int, least: float) -> tuple[Box, bool]:
    """Return the box and flip of one view, a pure function of its arguments: SplitMix64, no generator.

    Args:
        seed: of the draw.
        record: the record's number.
        view: the view's number.
        height: of the image.
        width: of the image.
        least: smallest side, as a share of the image's, above 0.
    """
    draws = [mix64(mix64(mix64(seed) ^ record) ^ (view * 8 + step)) / 2**64 for step in range(5)]
    high = max(1, round((least + (1 - least) * draws[0]) * height))
    wide = max(1, round((least + (1 - least) * draws[1]) * width))
    box = Box(int(draws[2] * (height - high + 1)), int(draws[3] * (width - wide + 1)), high, wide)
    return box, draws[4] < 0.5


def mix64(value: int) -> int:
    """Return SplitMix64's output for a 64-bit state."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)
