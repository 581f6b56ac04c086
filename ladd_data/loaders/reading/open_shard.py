"""From a shard, wherever it lies, to its blocks."""

from __future__ import annotations

from typing import Literal

from ladd_data.errors import DatasetError, Problem, UsageError, nearest
from ladd_data.loaders.reading.blocks import AGAIN, Known, Memory, ShardBlocks
from ladd_data.loaders.reading.file_blocks import FileBlocks
from ladd_data.loaders.reading.parquet_blocks import ParquetBlocks
from ladd_data.loaders.reading.shard_files import check_digest
from ladd_data.loaders.reading.source import Source
from ladd_data.shards.folder import SHARDS_PATH, Folder

Verify = Literal["pages", "shards"]
"""What is compared when a shard is first read: pages with their CRC-32 where they have one, or every shard with its
SHA-256 as well."""


def open_blocks(
    source: Source, folder: Folder, index: int, verify: Verify, memory: Memory, known: Known
) -> ShardBlocks:
    """Return the blocks of a shard (`ParquetBlocks`, `FileBlocks`).

    Raises:
        DatasetError: the shard is not the listed one, or damaged.
        SourceError: it cannot be had.
    """
    shard = folder.shards[index]
    size = source.size(shard.path)
    if size is not None and size != shard.bytes:
        found, expected = f"{size} bytes (cut short, or another file)", f"{shard.bytes}, as {SHARDS_PATH} says"
        raise DatasetError([Problem("LADD-003", shard.path, found, expected, AGAIN)])
    if folder.edition != "parquet":
        return FileBlocks(source, folder, index, memory, known)
    key = ("sha256", index)
    if verify == "shards" and key not in known.verified:
        check_digest(source, shard, None)
        known.verified.add(key)
    return ParquetBlocks(source, folder, index, memory, known)


def check_verify(verify: str) -> None:
    """Refuse what is no `Verify`."""
    if verify not in ("pages", "shards"):
        raise UsageError(f'verify "{verify}" is not known. {nearest(str(verify), ("pages", "shards"))}')
