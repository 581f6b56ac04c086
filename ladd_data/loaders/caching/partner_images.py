"""The images that mixed views take from other records: from memory, or from the user's cache where they lie there."""

from __future__ import annotations

import numpy as np

from ladd_data.loaders.caching.cached import Cached
from ladd_data.types import I64, U8


class CachedImages:
    """Images of any records, mapped from an entry of the cache; compared with their hashes when they are first read."""

    def __init__(self, cached: Cached) -> None:
        """Read nothing yet."""
        self._cached = cached

    def __call__(self, rows: I64) -> U8:
        """Return images, uint8 [n, channels, height, width].

        Raises:
            DatasetError: the cache is damaged.
        """
        images = np.empty((len(rows), *self._cached.columns["image"].shape), np.uint8)
        self._cached.gather("image", rows, images)
        return images
