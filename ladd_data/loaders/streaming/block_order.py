"""The order of a stream: blocks of records in another order each epoch, a few side by side, mixed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ladd_data.errors import UsageError
from ladd_data.loaders.order import epoch_order
from ladd_data.loaders.schedule import Schedule, require_int
from ladd_data.shards.folder import Folder
from ladd_data.shards.joined import plain_of
from ladd_data.shards.plan import rows_per_group
from ladd_data.types import I64

WINDOW = 4
"""Blocks that are mixed at a time, unless told otherwise: of at most 32 MB each."""
_BLOCKS, _RECORDS = 0x5EED0B10, 0x5EED0DEC
"""Added to the seed, so that the order of blocks and that of records are drawn apart."""


class BlockShuffle:
    """Blocks in a permutation of their own each epoch; a few of them side by side, each from beginning to end.

    `window` blocks are read at a time, at the same pace, and where one ends, the next joins. Each record that is read
    comes at a place drawn from the next `window` quarters of a block. So a batch has records of `window` places of the
    dataset, and a reader that goes through its blocks page by page holds those quarters only, whatever the dataset's
    size. A pure function of (seed, epoch): the same on every machine, in every edition, for any number of ranks.
    """

    def __init__(self, sizes: Sequence[int], seed: int, window: int = WINDOW) -> None:
        """Fix the blocks.

        Args:
            sizes: records of each block, in file order.
            seed: 0 .. 2**32 - 1.
            window: blocks that are mixed at a time, at least 1; twice as many as there are make a full shuffle.
        """
        require_int("window", window, 1, 2**20)
        self._sizes, self._seed, self._window = np.asarray(sizes, np.int64), seed, window
        self._last: tuple[int, I64] | None = None

    @property
    def kind(self) -> str:
        """The window, and a digest of the blocks."""
        digest = hashlib.sha256(self._sizes.astype("<i8").tobytes()).hexdigest()
        return f"strands-{self._window}-{digest[:8]}"

    def __call__(self, epoch: int) -> I64:
        """Return the record numbers of an epoch's slots, int64 [records]; those of the last epoch are kept."""
        last = self._last
        if last is None or last[0] != epoch:
            self._last = last = (epoch, self._draw(epoch))
        return last[1]

    def _draw(self, epoch: int) -> I64:
        count, blocks, sizes = int(self._sizes.sum()), len(self._sizes), self._sizes
        turn = np.empty(blocks, np.int64)  # when a block's turn ends
        turn[epoch_order(blocks, (self._seed + _BLOCKS) % 2**32, epoch)] = np.arange(blocks)
        drawn = np.empty(count, np.int64)  # 0 .. count-1, each once: even numbers without a generator
        drawn[epoch_order(count, (self._seed + _RECORDS) % 2**32, epoch)] = np.arange(count)
        joins = np.maximum(turn - self._window + 1, 0)
        stays = turn + 1 - joins  # window; less for the first ones, so that there are never more at a time
        late = max(1, int(sizes.max()) * self._window // 4)  # records at most that come before one that has been read
        if 2 * late >= count:
            return np.argsort(drawn).astype(np.int64)
        row = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        done = (
            (2 * row + 1) * count // np.repeat(2 * sizes, sizes)
        )  # how much of its block has been read by then, in 1/count
        reading = np.argsort(np.repeat(joins, sizes) * count + done * np.repeat(stays, sizes), kind="stable")
        read = np.empty(count, np.int64)  # 0 .. count-1: when a record is read
        read[reading] = np.arange(count)
        return np.argsort(read * count + drawn * late, kind="stable").astype(np.int64)


def block_sizes(folder: Folder) -> list[int]:
    """Return the records of each block: what the writer puts into a row group, known without opening a shard."""
    at_once = rows_per_group(plain_of(folder).layout.record_bytes)
    return [min(at_once, shard.rows - start) for shard in folder.shards for start in range(0, shard.rows, at_once)]


def mix_blocks(schedule: Schedule, folder: Folder, window: int = WINDOW) -> Schedule:
    """Return a schedule whose order can be streamed: that of blocks in place of a full shuffle."""
    if not schedule.shuffle:
        return schedule
    if schedule.count != (found := sum(block_sizes(folder))):
        raise UsageError(f"a schedule of {schedule.count} records for a dataset of {found}.")
    return Schedule(
        schedule.count,
        schedule.batch_size,
        shuffle=True,
        seed=schedule.seed,
        last=schedule.last,
        rank=schedule.rank,
        world=schedule.world,
        order=BlockShuffle(block_sizes(folder), schedule.seed, window),
    )
