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
from math import floor, gcd

import numpy as np

from ladd_data.errors import UsageError
from ladd_data.manifest import Grid
from ladd_data.types import I64

MAX_VIEWS = 4096
FLOAT32_BITS = 24
PIXEL_BITS = 8


@dataclass(frozen=True)
class Box:
    """A crop: its top-left corner and its sides, in stored pixels."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class Axis:
    """One axis of a grid: where crops begin, and the two taps and weights of each output position.

    low, high: int64 [size], taps relative to the crop's start, inside the crop.
    weight: int64 [size], weight of `high` in units of 1/denominator; `low` has the rest.
    """

    size: int
    side: int
    offsets: tuple[int, ...]
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


@lru_cache(maxsize=64)
def axis(spec: Grid, size: int) -> Axis:
    """Work out one axis of a grid over images of `size` pixels."""
    side = crop_side(spec, size)
    slack = size - side
    offsets = (slack // 2,) if spec.n == 1 else tuple(i * slack // (spec.n - 1) for i in range(spec.n))
    common = gcd(side, size)
    p, q = side // common, size // common  # side / size in lowest terms
    position = (2 * np.arange(size, dtype=np.int64) + 1) * p - q  # in units of 1 / (2q)
    position = np.maximum(position, 0)
    low = position // (2 * q)
    high = np.minimum(low + 1, side - 1)
    return Axis(size, side, offsets, low, high, position - low * 2 * q, 2 * q)


def boxes(spec: Grid, height: int, width: int) -> tuple[Box, ...]:
    """Return the crops in view order: row-major from the top left."""
    rows, columns = axis(spec, height), axis(spec, width)
    return tuple(Box(y, x, rows.side, columns.side) for y in rows.offsets for x in columns.offsets)


def is_exact_in_float32(spec: Grid, height: int, width: int) -> bool:
    """Tell whether every step of the resize is exact in float32, in any order, fused or not.

    True when both denominators are powers of two and pixel and weights together fit 24 bits, as for 5/8
    at every size divisible by 8.
    """
    bits = PIXEL_BITS
    for size in (height, width):
        denominator = axis(spec, size).denominator
        if denominator & (denominator - 1):
            return False
        bits += denominator.bit_length() - 1
    return bits <= FLOAT32_BITS
