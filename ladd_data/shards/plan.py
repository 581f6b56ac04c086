"""How many records go into each shard and each row group: the same cut in every edition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

SHARD_BYTES = 400_000_000
ROW_GROUP_BYTES = 32_000_000
"""Under the 64 MB that the Hub's viewer and column readers like, and small enough to stream."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """How many records go into each file and each row group; a pure function of count and record size.

    first, of: where these are some of a dataset's shards: the number of the first one, and how many there are.
    """

    count: int
    shards: int
    rows_per_shard: int
    rows_per_group: int
    first: int = 0
    of: int | None = None

    def path(self, index: int, suffix: str) -> str:
        """Return the path of a shard inside the dataset."""
        return f"data/train-{self.first + index:05d}-of-{self.of or self.shards:05d}{suffix}"

    def place(self, index: int) -> dict[str, int]:
        """Return what a shard says of its place in the dataset (LADD-005)."""
        return {"index": self.first + index, "count": self.of or self.shards}

    def span(self, index: int) -> range:
        """Return the numbers of the records that a shard holds."""
        start = index * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, self.count))

    def groups(self) -> Iterator[range]:
        """Yield the numbers of the records of each row group, of one shard after the other."""
        for index in range(self.shards):
            span = self.span(index)
            for start in range(span.start, span.stop, self.rows_per_group):
                yield range(start, min(start + self.rows_per_group, span.stop))

    def only(self, index: int) -> ShardPlan:
        """Return the plan of one of these shards, to be written without the others."""
        rows = len(self.span(index))
        return replace(self, count=rows, shards=1, rows_per_shard=rows, first=index, of=self.shards)

    def rows(self, index: int) -> int:
        """Return how many records a shard holds: the last one what is left."""
        return min(self.rows_per_shard, self.count - index * self.rows_per_shard)


def plan_shards(count: int, record_bytes: int, shard_bytes: int = SHARD_BYTES) -> ShardPlan:
    """Split `count` records of about `record_bytes` each into equal shards of at most `shard_bytes`."""
    shards = max(1, -(-count * record_bytes // shard_bytes))
    rows = -(-count // shards)
    shards = -(-count // rows)
    return ShardPlan(count, shards, rows, min(rows, rows_per_group(record_bytes)))


def rows_per_group(record_bytes: int) -> int:
    """Return how many records of this size are read and written together."""
    return max(1, ROW_GROUP_BYTES // max(1, record_bytes))
