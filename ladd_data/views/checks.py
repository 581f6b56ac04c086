"""What may be wrong with the columns that say where views lie and with what they are mixed. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ladd_data.types import Array, Columns
from ladd_data.views.geometry import lies_inside


class Misplaced(NamedTuple):
    """A view that cannot be cut: the clause it breaks, its row among those checked, and what was found where."""

    clause: str
    row: int
    view: int
    column: str
    found: str
    expected: str


def check_places(columns: Columns, records: int, height: int, width: int) -> Iterator[Misplaced]:
    """Yield the first view of each record, and of each column, that cannot be cut.

    Args:
        columns: `view_*` columns of some records, each [rows, views, ...]; those that are missing are not checked.
        records: of the dataset.
        height: of its images.
        width: of its images.
    """
    if "view_box" in columns:
        boxes = columns["view_box"]  # [rows, views, (y, x, height, width)]
        for row, view in first_views(~lies_inside(boxes, height, width)):
            expected = f"y, x, height, width of at least one pixel inside {height}x{width}"
            yield Misplaced("LADD-044", row, view, "view_box", f"box {boxes[row, view].tolist()}", expected)
    if "view_partner" in columns:
        views = columns["view_partner"].shape[1]
        for name, limit in (("view_partner", records), ("view_partner_view", views)):
            numbers = columns[name]
            for row, view in first_views(numbers >= limit):
                yield Misplaced("LADD-046", row, view, name, f"number {numbers[row, view]}", f"0 .. {limit - 1}")
        yield from _check_ways(columns, height, width)


def _check_ways(columns: Columns, height: int, width: int) -> Iterator[Misplaced]:
    """Yield what is wrong with pasted boxes and mixing shares."""
    paste, share = columns.get("view_mix_box"), columns.get("view_mix_lambda")
    if paste is not None:
        ends = paste[..., :2].astype(np.int64) + paste[..., 2:]
        beyond = np.asarray((ends > np.array([height, width])).any(-1))
        for row, view in first_views(beyond):
            found, expected = f"box {paste[row, view].tolist()}", f"one inside {height}x{width}"
            yield Misplaced("LADD-046", row, view, "view_mix_box", found, expected)
    if share is not None:
        for row, view in first_views(~((share >= 0) & (share <= 1))):
            yield Misplaced("LADD-046", row, view, "view_mix_lambda", f"{share[row, view]:g}", "0 to 1")
    if paste is not None and share is not None:
        both = (paste[..., 2:] > 0).all(-1) & (share < 1)
        for row, view in first_views(both):
            found = f"{share[row, view]:g}, and a box that is pasted"
            yield Misplaced("LADD-046", row, view, "view_mix_lambda", found, "1 where a box is pasted")


def first_views(wrong: Array) -> Iterator[tuple[int, int]]:
    """Yield (row, first view) of each row of [rows, views] in which something is wrong."""
    for row in np.flatnonzero(wrong.any(1)).tolist():
        yield row, int(wrong[row].argmax())
