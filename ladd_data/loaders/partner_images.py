"""The images that mixed views take from other records: from memory, or from the user's cache where they lie there."""

from __future__ import annotations

import numpy as np

from ladd_data.errors import DatasetError, Problem
from ladd_data.loaders.cached import Cached, hash_row
from ladd_data.types import I64, U8


class CachedImages:
    """Images of any records, mapped from an entry of the cache; compared with their hashes when they are first read."""

    def __init__(self, cached: Cached, shape: tuple[int, int, int]) -> None:
        """Read nothing yet; `shape`: channels, height and width."""
        self._cached, self._shape = cached, shape
        self._checked = "image" in cached.rows
        self._unseen = np.ones(len(cached.hashes), np.bool_)

    def __call__(self, rows: I64) -> U8:
        """Return images, uint8 [n, channels, height, width].

        Raises:
            DatasetError: the cache is damaged.
        """
        images = np.empty((len(rows), *self._shape), np.uint8)
        self._cached.columns["image"].gather(rows, images)
        if self._checked:
            for place in np.flatnonzero(self._unseen[rows]).tolist():
                number = int(rows[place])
                found = hash_row(images[place])
                expected = int(self._cached.hashes[number, self._cached.rows.index("image")])
                if found != expected:
                    where = f"{self._cached.folder.path}, image of record {number}"
                    fix = 'The cache is damaged: run "ladd cache clear"; it is then made again.'
                    raise DatasetError([Problem("LADD-003", where, f"xxh3 {found:016x}", f"{expected:016x}", fix)])
            self._unseen[rows] = False
        return images
