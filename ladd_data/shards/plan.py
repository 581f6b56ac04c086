"""How many records go into each shard and each row group: the same cut in every edition."""

from __future__ import annotations

from dataclasses import dataclass

SHARD_BYTES = 400_000_000
ROW_GROUP_BYTES = 32_000_000
"""Under the 64 MB that the Hub's viewer and column readers like, and small enough to stream."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """How many records go into each file and each row group; a pure function of count and record size."""

    count: int
    shards: int
    rows_per_shard: int
    rows_per_group: int

    def path(self, index: int, suffix: str) -> str:
        """Return the path of a shard inside the dataset."""
        return f"data/train-{index:05d}-of-{self.shards:05d}{suffix}"

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
