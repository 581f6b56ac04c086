"""Views drawn record by record: boxes, flips and what is mixed, a pure function of seed, record and view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np

from ladd_data.dataset import Dataset
from ladd_data.manifest import ByRecord, Mix, ViewSpec
from ladd_data.types import Columns
from ladd_data.views.geometry import random_box
from ladd_data.views.mixing import MixTable, order_of, random_partner, random_paste, random_share


@dataclass(frozen=True, slots=True)
class BoxDraw:
    """Boxes drawn record by record: sides from `least` to 1 of the image's, by `seed`."""

    seed: int = 0
    least: float = 0.5

    def __str__(self) -> str:
        return f"seed {self.seed}, least side {self.least}"


@dataclass(frozen=True, slots=True)
class DrawnViews:
    """The views of a labeling run.

    columns: returns the view columns of (first record, number of records), [n, views, ...], as they are stored.
    table: of all records, where views are mixed.
    """

    columns: Callable[[int, int], Columns]
    table: MixTable | None = None


def draw_views(dataset: Dataset, views: ViewSpec, draw: BoxDraw) -> DrawnViews:
    """Return the views of a run over a dataset; where they are mixed, its images are read into memory."""
    images = dataset.manifest.images
    size, count = (images.height, images.width), len(dataset)
    if not isinstance(views, Mix):
        return DrawnViews(lambda first, number: draw_boxes(views, draw, size, first, number))
    arrays = dataset.arrays
    every = draw_boxes(views, draw, size, 0, count) | draw_mixing(views, draw.seed, size, count)
    table = MixTable(every, order_of(arrays.ids), lambda rows: arrays.images[rows])
    return DrawnViews(lambda first, number: {n: v[first : first + number] for n, v in every.items()}, table)


def draw_boxes(views: ViewSpec, draw: BoxDraw, size: tuple[int, int], first: int, count: int) -> Columns:
    """Return view_box, uint16 [count, views, 4], and view_flip, bool [count, views], where views are boxes.

    Args:
        views: what they are; nothing is returned for others than `Boxes` and `Mix`.
        draw: how.
        size: height and width of the images.
        first: number of the first record.
        count: records.
    """
    if not isinstance(views, ByRecord):
        return {}
    drawn = [
        [random_box(draw.seed, number, view, *size, draw.least) for view in range(views.count)]
        for number in range(first, first + count)
    ]
    box = np.array([[astuple(box) for box, _ in row] for row in drawn], np.uint16)
    flip = np.array([[flip for _, flip in row] for row in drawn], np.bool_)
    return {"view_box": box, "view_flip": flip} if views.flip else {"view_box": box}


def draw_mixing(views: Mix, seed: int, size: tuple[int, int], count: int) -> Columns:
    """Return what each view of `count` records is mixed with: the same view of another record, drawn evenly.

    The share of MixUp is even in 0..1, and so is the area of CutMix before it is cut off at the border: both with
    alpha = 1, as in SRe2L. Where both are asked for, each view has one of them, drawn.
    """
    records, numbers = range(count), range(views.count)
    every = [[(record, view) for view in numbers] for record in records]
    partner = np.array([[random_partner(seed, *one, count) for one in row] for row in every], np.uint32)
    same = np.tile(np.arange(views.count, dtype=np.uint16), (count, 1))
    columns: Columns = {"view_partner": partner, "view_partner_view": same}
    share = np.array([[random_share(seed, *one) for one in row] for row in every], np.float32)
    paste = np.array([[random_paste(seed, *one, *size) for one in row] for row in every], np.uint16)
    if views.cutmix and views.mixup:
        blend = (partner + same) % 2 == 0
        share, paste = np.where(blend, share, np.float32(1)), np.where(blend[..., None], np.uint16(0), paste)
    if views.cutmix:
        columns["view_mix_box"] = paste
    if views.mixup:
        columns["view_mix_lambda"] = share
    return columns
