"""The views in plain numpy: the reading of the spec that needs no torch, used by `ladd validate`."""

from __future__ import annotations

import numpy as np

from ladd_data.manifest import Grid
from ladd_data.types import F32, U8
from ladd_data.views.geometry import axis


def reference_view(spec: Grid, image: U8, view: int) -> F32:
    """Return one view of one image, float32 [channels, height, width], 0..255 scale.

    Args:
        spec: the grid.
        image: uint8 [channels, height, width].
        view: 0 .. n*n-1, row-major from the top left.

    Source: spec/ladd-1.0.md, LADD-041: the exact value N / (dy * dx), an integer over an integer, is
    divided in float64 and rounded to float32.
    """
    rows, columns = axis(spec, image.shape[1]), axis(spec, image.shape[2])
    y, x = rows.offsets[view // spec.n], columns.offsets[view % spec.n]
    crop = image[:, y : y + rows.side, x : x + columns.side].astype(np.int64)
    mixed = crop[:, rows.low] * (rows.denominator - rows.weight)[:, None]
    mixed += crop[:, rows.high] * rows.weight[:, None]
    total = mixed[:, :, columns.low] * (columns.denominator - columns.weight)
    total += mixed[:, :, columns.high] * columns.weight
    return np.asarray(total / np.float64(rows.denominator * columns.denominator), np.float32)
