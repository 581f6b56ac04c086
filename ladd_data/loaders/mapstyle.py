"""Records for torch's own DataLoader and what is built on it: one gather per batch, reopened by path in workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ladd_data.errors import UsageError
from ladd_data.loaders.batches import BatchMaker
from ladd_data.loaders.caching.cached import CachedLoader, open_cached
from ladd_data.loaders.loader import Placement
from ladd_data.loaders.opening import Opened
from ladd_data.loaders.schedule import Schedule, Slots, require_int
from ladd_data.shards.folder import Folder
from ladd_data.types import Batch, DenseSpace


class Sample(NamedTuple):
    """One record; torch's default collate turns a list of them into a Sample of batches.

    image: uint8 [channels, height, width].
    label: int64 [], the hard class.
    dense: float32 [views, classes], in the dataset's space; no views where there are no dense labels.
    index: int64 [], position in the dataset.
    """

    image: Tensor
    label: Tensor
    dense: Tensor
    index: Tensor  # type: ignore[assignment]  # the field's name, here and in Batch; tuple.index is of no use


class Openable(Opened, Protocol):
    """What a dataset is to workers: pickled as a path, opened anew from it."""

    def views(self, images: Tensor, views: Sequence[int] | None = None, *, index: Tensor | None = None) -> Tensor:
        """Cut views, float32 [batch, views, channels, height, width]."""


class Rows(Sequence[Sample]):
    """The records of a batch, gathered at once; rows of it are made only for who asks for them."""

    def __init__(self, batch: Batch, classes: int) -> None:
        """Wrap a batch; `classes`: how many there are."""
        self.batch = batch
        dense = batch.dense
        self._dense = torch.empty(len(batch), 0, classes) if dense is None else dense

    def __len__(self) -> int:
        return len(self.batch)

    @overload
    def __getitem__(self, row: int) -> Sample: ...

    @overload
    def __getitem__(self, row: slice) -> list[Sample]: ...

    def __getitem__(self, row: int | slice) -> Sample | list[Sample]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        batch = self.batch
        return Sample(batch.image[row], batch.label[row], self._dense[row], batch.index[row])


def collate(rows: Sequence[Sample]) -> Batch:
    """Return the batch that the rows are of, as it was gathered: for `DataLoader(..., collate_fn=ladd_data.collate)`.

    The batch knows its views (`batch.views()`) in whatever process it arrives; k of them are drawn by torch's
    generator there.

    Raises:
        UsageError: these are rows of something else, such as a `torch.utils.data.Subset`.
    """
    if not isinstance(rows, Rows):
        raise UsageError(
            f"collate got a {type(rows).__name__}, expected what Dataset.to_torch()'s __getitems__ returns. "
            "Leave collate_fn away to let torch stack single records."
        )
    return rows.batch


class MapDataset(TorchDataset[Sample]):
    """A dataset as torch knows them, of the decoded records in the user's cache. Made by `Dataset.to_torch`.

    `__getitems__`, which torch's DataLoader prefers, gathers a batch with one take per column. Nothing that is
    open is pickled: a worker, forked or spawned, maps the same files, so all share one copy in memory. Rows are
    compared with their checksums when a process first reads them.
    """

    def __init__(self, source: Openable, folder: Folder, space: DenseSpace) -> None:
        """Decode into the cache what is not there yet, and map it.

        Args:
            source: the dataset.
            folder: its files.
            space: what dense labels become.

        Raises:
            UsageError: the space cannot be had from what is stored.
            DatasetError: the dataset cannot be decoded.
            LaddError: the cache cannot be written.
        """
        self._source, self._folder, self._space = source, folder, space
        self._opened: CachedLoader | None = None
        self._open()

    def __len__(self) -> int:
        """Records."""
        return self._source.manifest.images.count

    def __getitem__(self, index: int) -> Sample:
        """Return one record; negative numbers count from the end."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Rows:
        """Return records, gathered at once; `collate` makes their batch, torch's default collate stacks them."""
        count = len(self)
        if outside := [index for index in indices if not -count <= index < count]:
            raise IndexError(f"record {outside[0]} of {count}")
        index = np.array(indices, np.int64) % count
        batch = self._open().gather(Slots(0, 0, 0, index))
        labels = self._source.manifest.labels
        cutter = _Cutter(self._source, labels.count) if labels else None
        return Rows(replace(batch, cutter=cutter), len(self._source.manifest.classes.names))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _open(self) -> CachedLoader:
        if self._opened is None:
            source, cpu = self._source, torch.device("cpu")
            manifest = source.manifest
            make = BatchMaker(manifest.labels, len(manifest.classes.names), self._space, 0, None, cpu)
            placement = Placement("cached", "cpu", 0, "map-style")
            schedule = Schedule(manifest.images.count, 1)
            cached = open_cached(source, self._folder)
            self._opened = CachedLoader(cached, make, schedule, manifest.digest, placement)
        return self._opened


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Cuts the views of a batch that may have come from another process."""

    source: Openable
    count: int

    def draw(self, k: int | None) -> tuple[int, ...]:
        if k is None:
            return tuple(range(self.count))
        require_int("k", k, 1, self.count)
        return tuple(sorted(torch.randperm(self.count)[:k].tolist()))

    def cut(self, batch: Batch, numbers: tuple[int, ...]) -> Tensor:
        return self.source.views(batch.image, numbers, index=batch.index)
