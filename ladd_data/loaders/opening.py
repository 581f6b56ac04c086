"""From a dataset to its loader: the placement is chosen, said in one line, and built."""

from __future__ import annotations

import logging
from typing import Protocol

import torch

from ladd_data.loaders.batches import KEPT, BatchMaker
from ladd_data.loaders.caching.cache import is_cached
from ladd_data.loaders.caching.cached import CachedLoader, Source, open_cached
from ladd_data.loaders.decode import to_tensors
from ladd_data.loaders.loader import Loader, Placement
from ladd_data.loaders.memory.pinned import PinnedLoader
from ladd_data.loaders.memory.resident import ResidentLoader
from ladd_data.loaders.placement import Choice, choose_placement, decoded_bytes
from ladd_data.loaders.reading.source import LocalSource
from ladd_data.loaders.schedule import Schedule
from ladd_data.loaders.streaming.stream import open_stream
from ladd_data.shards.folder import Folder
from ladd_data.shards.layout import pick
from ladd_data.types import I64, U8, Columns

_log = logging.getLogger(__name__)


class Whole(Protocol):
    """A whole dataset, decoded."""

    @property
    def images(self) -> U8:
        """Pixels, uint8 [records, channels, height, width]."""

    @property
    def labels(self) -> I64:
        """Classes, int64 [records]."""

    @property
    def dense(self) -> Columns:
        """Label columns, each [records, ...]."""


class Opened(Source, Protocol):
    """What a dataset is to its loaders, those that keep all of it in memory included."""

    @property
    def arrays(self) -> Whole:
        """The whole of it, verified."""


def open_loader(dataset: Opened, folder: Folder, schedule: Schedule, make: BatchMaker, choice: Choice) -> Loader:
    """Return the loader of a dataset.

    Args:
        dataset: what is read, if it has to be.
        folder: its files, for what is known without reading them.
        schedule: which records come when.
        make: makes batches, and says on which device.
        choice: a placement, or "auto".
    """
    size = decoded_bytes(folder.layout, schedule.count)
    placement = choose_placement(choice, size, make.device, lambda: is_cached(folder))
    _log.info("%s: %s", folder.manifest.name, placement)
    digest = folder.manifest.digest
    if placement.name == "cached":
        return CachedLoader(open_cached(dataset, folder), make, schedule, digest, placement)
    if placement.name == "streaming":
        return open_stream(LocalSource(folder.path), folder, schedule, make, placement.reason)
    return _open_whole(dataset.arrays, schedule, make, digest, placement)


def _open_whole(whole: Whole, schedule: Schedule, make: BatchMaker, digest: str, placement: Placement) -> Loader:
    stored = to_tensors(pick(whole.dense, KEPT), copy=False)
    images, labels = torch.from_numpy(whole.images), torch.from_numpy(whole.labels)
    if placement.name == "pinned" and make.device.type == "cuda":
        return PinnedLoader({"image": images, "label": labels, **stored}, make, schedule, digest, placement)
    device = make.device
    if device.type == "cpu":
        stored = make.decode_early(stored, images.nbytes)
    there = {name: values.to(device) for name, values in stored.items()}
    if device.type != "cpu":
        on_device = images = images.to(device)
        make = make.with_images(lambda rows: on_device[torch.from_numpy(rows).to(device)])
    return ResidentLoader(images.to(device), labels.to(device), there, make, schedule, digest, placement)
