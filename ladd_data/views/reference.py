"""The views in plain numpy: the reading of the spec that needs no torch, used by `ladd validate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ladd_data.errors import LaddError
from ladd_data.manifest import Boxes, Full, Grid
from ladd_data.types import F32, U8, Array
from ladd_data.views.geometry import Box, boxes, taps


@dataclass(frozen=True, slots=True)
class RecordBox:
    """Where one view of one record lies, for views given record by record."""

    box: Box
    flip: bool


def box_of(columns: Mapping[str, Array], row: int, view: int) -> RecordBox | None:
    """Return the box of a record's view from its columns; None where views do not differ by record."""
    if "view_box" not in columns:
        return None
    flip = bool(columns["view_flip"][row, view]) if "view_flip" in columns else False
    return RecordBox(Box(*map(int, columns["view_box"][row, view])), flip)


def reference_view(spec: Grid | Full | Boxes, image: U8, view: int, given: RecordBox | None = None) -> F32:
    """Return one view of one image, float32 [channels, height, width], 0..255 scale.

    Args:
        spec: the views.
        image: uint8 [channels, height, width].
        view: its number, from 0.
        given: the view's box, for `Boxes`.

    Raises:
        LaddError: the views are boxes and none is given.

    Source: spec/ladd-1.0.md, LADD-041: the exact value N / (dy * dx), an integer over an integer, is
    divided in float64 and rounded to float32.
    """
    if isinstance(spec, Full):
        return image.astype(np.float32)
    if isinstance(spec, Grid):
        return _resize(image, boxes(spec, *image.shape[1:])[view])
    if given is None:
        raise LaddError("views of boxes need the record's view_box.")
    resized = _resize(image, given.box)
    return np.ascontiguousarray(resized[:, :, ::-1]) if given.flip else resized


def _resize(image: U8, box: Box) -> F32:
    """Return the crop at full size."""
    rows, columns = taps(box.height, image.shape[1]), taps(box.width, image.shape[2])
    crop = image[:, box.y : box.y + box.height, box.x : box.x + box.width].astype(np.int64)
    mixed = crop[:, rows.low] * (rows.denominator - rows.weight)[:, None]
    mixed += crop[:, rows.high] * rows.weight[:, None]
    total = mixed[:, :, columns.low] * (columns.denominator - columns.weight)
    total += mixed[:, :, columns.high] * columns.weight
    return np.asarray(total / np.float64(rows.denominator * columns.denominator), np.float32)
