"""The blocks of tar and Arrow shards, which have no checksums inside: compared with their SHA-256, whole, at first.

From afar they are fetched into a temporary file without a name, which is gone with the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ladd_data.errors import DatasetError, Problem
from ladd_data.loaders.reading.blocks import Block, Known, Memory, Pages, ShardBlocks
from ladd_data.loaders.reading.picture_files import PixelRows
from ladd_data.loaders.reading.shard_files import fetch
from ladd_data.loaders.reading.source import LocalSource, Source
from ladd_data.shards.folder import Folder, check_footer_at, check_shard
from ladd_data.shards.images import PixelImages

_TOGETHER = 16
"""Images that are handed on together where there are no pages."""


class FileBlocks(ShardBlocks):
    """The blocks of a tar or Arrow shard, read from a file that has been compared with its SHA-256."""

    def __init__(self, source: Source, folder: Folder, index: int, memory: Memory, known: Known) -> None:
        """Verify the file, unless it has not changed since it was; from afar, fetch it first."""
        super().__init__(folder, index, memory)
        self._file: Any = None
        if isinstance(source, LocalSource):
            self._path = source.path / self._shard.path
            key = ("sha256", index, source.stamp(self._shard.path))
            _raise(check_shard(self._folder, index, verify=key not in known.verified))
            known.verified.add(key)
        else:
            self._file = fetch(source, self._shard)
            self._path = Path(f"/dev/fd/{self._file.fileno()}")
        try:
            self._starts = self._find_starts()
        except BaseException:
            self.close()
            raise

    def _find_starts(self) -> list[int]:
        folder = self._folder
        if self._file is not None:
            _raise(check_footer_at(folder, self._index, self._path, walk=True))
        sizes = folder.container.read_group_sizes(self._path, folder.layout)
        return [0, *np.cumsum(sizes)[:-1].tolist()]

    def close(self) -> None:
        """Let go of the temporary file."""
        if self._file is not None:
            self._file.close()

    def _read(self, number: int) -> tuple[Block, Pages]:
        records = next(self._folder.container.read_records(self._path, self._folder.layout, [number]))
        ids, images = records.ids, records.images
        return self._block(number, lambda: ids, records.labels, records.dense), _cut(images)


def _cut(images: Sequence[bytes]) -> Pages:
    """Yield a few images at a time, as pages are: so batches that come later take no memory yet."""
    for row in range(0, len(images), _TOGETHER):
        part = images[row : row + _TOGETHER]
        yield row, PixelRows(part.pixels) if isinstance(part, PixelImages) else list(part)


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise DatasetError(problems)
