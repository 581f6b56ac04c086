"""The views in plain numpy: the reading of the spec that needs no torch, used by `ladd validate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ladd_data.errors import LaddError
from ladd_data.manifest import Full, Grid, Opaque, ViewSpec
from ladd_data.types import F32, I64, U8, Array
from ladd_data.views.geometry import PILLOW_BITS, Box, boxes, is_tall, pillow_taps, taps, view_sides


@dataclass(frozen=True, slots=True)
class RecordBox:
    """Where one view of one record lies, for views given record by record."""

    box: Box
    flip: bool


@dataclass(frozen=True, slots=True)
class MixPlace:
    """With what one view of one record is mixed, and how.

    partner: the place of the other record among all in ascending id order, from 0; view: the number of its view.
    paste: where that is pasted, of no height or width for nowhere; None where nothing is pasted in this dataset.
    share: of the view's own pixels, 0..1; 1 where nothing is blended.
    """

    partner: int
    view: int
    paste: Box | None
    share: float


def box_of(columns: Mapping[str, Array], row: int, view: int) -> RecordBox | None:
    """Return the box of a record's view from its columns; None where views do not differ by record."""
    if "view_box" not in columns:
        return None
    flip = bool(columns["view_flip"][row, view]) if "view_flip" in columns else False
    return RecordBox(Box(*map(int, columns["view_box"][row, view])), flip)


def mix_of(columns: Mapping[str, Array], row: int, view: int) -> MixPlace | None:
    """Return what a record's view is mixed with from its columns; None where views are not mixed."""
    if "view_partner" not in columns:
        return None
    paste = Box(*map(int, columns["view_mix_box"][row, view])) if "view_mix_box" in columns else None
    share = float(columns["view_mix_lambda"][row, view]) if "view_mix_lambda" in columns else 1.0
    partner, of = int(columns["view_partner"][row, view]), int(columns["view_partner_view"][row, view])
    return MixPlace(partner, of, paste, share)


def reference_view(spec: ViewSpec, image: U8, view: int, given: RecordBox | None = None) -> F32:
    """Return one view of one image before any mixing, float32 [channels, height, width], 0..255 scale.

    Args:
        spec: the views.
        image: uint8 [channels, height, width].
        view: its number, from 0.
        given: the view's box, for `Boxes` and `Mix`.

    Raises:
        LaddError: the views are boxes and none is given, or they cannot be cut at all.

    Source: spec/ladd-1.0.md, LADD-041: the exact value N / (dy * dx), an integer over an integer, is
    divided in float64 and rounded to float32; LADD-047 for Pillow's way.
    """
    if isinstance(spec, Full):
        return image.astype(np.float32)
    if isinstance(spec, Grid):
        return _resize(image, boxes(spec, *image.shape[1:])[view])
    if isinstance(spec, Opaque):
        raise LaddError(f"these views cannot be cut: {spec.reason}.")
    if given is None:
        raise LaddError("views of boxes need the record's view_box.")
    crop, (high, wide) = _crop(image, given.box), view_sides(spec, *image.shape[1:])
    like_pillow = spec.resample != "bilinear"
    resized = _resize_like_pillow(crop, high, wide, spec.resample) if like_pillow else _stretch(crop, high, wide)
    return np.ascontiguousarray(resized[:, :, ::-1] if given.flip else resized)


def mix_reference(own: F32, partner: F32, place: MixPlace) -> F32:
    """Return a mixed view: the partner's pixels inside the box, or own * lambda + partner * (1 - lambda).

    Args:
        own: float32 [channels, height, width], before mixing; partner: the same of the other view.
        partner: see `own`.
        place: how they are mixed.

    Source: spec/ladd-1.0.md, LADD-046: each product, 1 - lambda and the sum are rounded to float32.
    """
    mixed = own.copy()
    if (box := place.paste) is not None:
        inside = (slice(None), slice(box.y, box.y + box.height), slice(box.x, box.x + box.width))
        mixed[inside] = partner[inside]
    share = np.float32(place.share)
    return mixed if share == 1 else np.asarray(mixed * share + partner * (np.float32(1) - share), np.float32)


def _resize(image: U8, box: Box) -> F32:
    """Return the crop at full size."""
    return _stretch(_crop(image, box), *image.shape[1:])


def _crop(image: U8, box: Box) -> I64:
    return np.asarray(image[:, box.y : box.y + box.height, box.x : box.x + box.width], np.int64)


def _stretch(crop: I64, height: int, width: int) -> F32:
    """Resize [channels, rows, columns] by LADD-041."""
    rows, columns = taps(crop.shape[1], height), taps(crop.shape[2], width)
    mixed = crop[:, rows.low] * (rows.denominator - rows.weight)[:, None]
    mixed += crop[:, rows.high] * rows.weight[:, None]
    total = mixed[:, :, columns.low] * (columns.denominator - columns.weight)
    total += mixed[:, :, columns.high] * columns.weight
    return np.asarray(total / np.float64(rows.denominator * columns.denominator), np.float32)


def _resize_like_pillow(crop: I64, height: int, width: int, way: str) -> F32:
    """Resize [channels, rows, columns] by LADD-047, one axis after the other."""
    if way.startswith("pillow13") and is_tall(crop.shape[1], crop.shape[2], height, width):
        short = _filter(crop.swapaxes(1, 2), height, way).swapaxes(1, 2)
        return _filter(short, width, way).astype(np.float32)
    narrow = _filter(crop, width, way).swapaxes(1, 2)
    return _filter(narrow, height, way).swapaxes(1, 2).astype(np.float32)


def _filter(pixels: I64, size: int, way: str) -> I64:
    """Resize the last axis of [channels, rows, side] by LADD-047, rounded to whole numbers."""
    side = pixels.shape[-1]
    filters = pillow_taps(side, size, way)
    total = np.full((*pixels.shape[:2], size), 1 << (PILLOW_BITS - 1), np.int64)
    for tap in range(filters.weight.shape[1]):
        total += pixels[..., np.minimum(filters.start + tap, side - 1)] * filters.weight[:, tap]
    return np.asarray(np.clip(total >> PILLOW_BITS, 0, 255), np.int64)
