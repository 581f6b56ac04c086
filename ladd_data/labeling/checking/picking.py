"""Some records of a dataset, read where they lie: which ones, and their pixels and boxes, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ladd_data.dataset import Dataset
from ladd_data.labeling.pipeline import Chunk
from ladd_data.loaders.order import epoch_order
from ladd_data.shards.container import join_records
from ladd_data.shards.layout import Records, pick
from ladd_data.types import I64, U8
from ladd_data.views.mixing import VIEW_COLUMNS


def choose_records(shards: Sequence[int], sample: int | None, seed: int) -> I64:
    """Return the numbers of a sample's records, ascending: a pure function of the arguments.

    Each shard gives its share, and one at least while the sample has as many records as there are shards.

    Args:
        shards: records in each.
        sample: how many; None for all.
        seed: of the draw (`epoch_order`).
    """
    count = sum(shards)
    if sample is None or sample >= count:
        return np.arange(count, dtype=np.int64)
    order = epoch_order(count, seed, 0)
    rows = np.asarray(shards, np.int64)
    shard = np.searchsorted(np.cumsum(rows), order, side="right")
    grouped = np.argsort(shard, kind="stable")  # by shard, in each by the order drawn
    rank = np.arange(count) - (np.cumsum(rows) - rows)[shard[grouped]]
    turn = np.empty(count)  # when a record is drawn: its rank among its shard's, as a share of them
    turn[grouped] = rank / rows[shard[grouped]]
    drawn = np.argsort(turn, kind="stable")[:sample]
    return np.sort(order[drawn])


def pick_chunks(dataset: Dataset, numbers: I64, at_once: int) -> Iterator[Chunk]:
    """Yield the records with some numbers, ascending, decoded, `at_once` at a time, with their boxes."""
    parts, pixels, waiting = list[Records](), list[U8](), 0
    for inside in _by_group(dataset, numbers):
        for shard, records in dataset.read(int(inside[0]), int(inside[-1]) + 1):
            rows = inside - inside[0]
            while len(rows):
                taken, rows = np.split(rows, [at_once - waiting])
                part = _pick(records, taken)
                parts.append(part)
                pixels.append(dataset.decode(part, shard))
                waiting += len(part)
                if waiting == at_once:
                    yield _join(parts, pixels)
                    parts, pixels, waiting = [], [], 0
    if parts:
        yield _join(parts, pixels)


def _by_group(dataset: Dataset, numbers: I64) -> Iterator[I64]:
    """Yield the numbers that lie in one row group, group by group; only shards that are needed are opened."""
    start, folder = 0, dataset.folder
    for shard in folder.shards:
        low, high = np.searchsorted(numbers, [start, start + shard.rows])
        if low < high:
            sizes = folder.container.read_group_sizes(folder.path / shard.path, folder.layout)
            edges = np.searchsorted(numbers, np.cumsum([start, *sizes]))
            yield from (numbers[first:stop] for first, stop in pairwise(edges) if first < stop)
        start += shard.rows


def _pick(records: Records, rows: I64) -> Records:
    """Return some rows, ascending; neighbours in one piece."""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return join_records([records.slice(int(run[0]), int(run[-1]) + 1) for run in runs])


def _join(parts: list[Records], pixels: list[U8]) -> Chunk:
    records = join_records(parts)
    return Chunk(records, pixels[0] if len(pixels) == 1 else np.concatenate(pixels), pick(records.dense, VIEW_COLUMNS))
