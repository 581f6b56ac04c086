"""Golden views that mix two records: looked at when all records have been read, because the other may come last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ladd_data.manifest import Labels
from ladd_data.shards.container import Container
from ladd_data.shards.folder import Folder, Shard
from ladd_data.shards.images import decode_image
from ladd_data.types import F32, U8, Columns
from ladd_data.views.reference import RecordBox, box_of, mix_of, mix_reference, reference_view


@dataclass(frozen=True, slots=True)
class Kept:
    """One record: its pixels, uint8 [channels, height, width], and its view columns, each [1, views, ...]."""

    pixels: U8
    columns: Columns


def cut_view(labels: Labels, pixels: U8, view: int, box: RecordBox | None) -> F32:
    """Return one view, a channel at a time: whole numbers of a large image take eight bytes each."""
    channels = [reference_view(labels.views, pixels[number : number + 1], view, box) for number in range(len(pixels))]
    return np.concatenate(channels)


def cut_mixed(labels: Labels, own: Kept, view: int, others: dict[str, Kept], ids: Sequence[str]) -> F32:
    """Return a view of one record mixed with its partner's.

    Args:
        labels: what views are.
        own: the record.
        view: the view's number.
        others: records by id, the partner among them.
        ids: of all records, in ascending order.
    """
    place = mix_of(own.columns, 0, view)
    cut = cut_view(labels, own.pixels, view, box_of(own.columns, 0, view))
    if place is None:
        return cut
    other = others[ids[place.partner]]
    return mix_reference(cut, cut_view(labels, other.pixels, place.view, box_of(other.columns, 0, place.view)), place)


def keep_records(folder: Folder, shards: Iterable[Shard], wanted: set[str]) -> dict[str, Kept]:
    """Read some records, by id.

    Raises:
        ValueError: a shard, or one of these images, cannot be read.
    """
    kept: dict[str, Kept] = {}
    container: Container = folder.container
    for shard in shards:
        for records in container.read_records(folder.path / shard.path, folder.layout):
            for row in (row for row, name in enumerate(records.ids) if name in wanted):
                columns = {n: v[row : row + 1].copy() for n, v in records.dense.items() if n.startswith("view_")}
                kept[records.ids[row]] = Kept(decode_image(records.images, row, folder.layout), columns)
    return kept
