"""The resident loader: everything decoded once, kept on the device as stored, gathered by batch."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

import torch
from torch import Tensor

from ladd_data.loaders.batches import BatchMaker
from ladd_data.loaders.loader import Loader, Placement
from ladd_data.loaders.schedule import Schedule, Slots
from ladd_data.types import Batch


class ResidentLoader(Loader):
    """Yields batches from tensors that stay on one device.

    Images stay uint8 and dense labels stay in their stored type; a batch is one gather per tensor, and
    its labels are decoded after the gather. No worker, no copy per record.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        stored: Mapping[str, Tensor],
        make: BatchMaker,
        schedule: Schedule,
        digest: str,
        placement: Placement,
    ) -> None:
        """Keep the tensors, all on the device of `make`.

        Args:
            images: uint8 [records, channels, height, width].
            labels: int64 [records].
            stored: label columns as `to_tensors` returns them, each [records, ...]; empty without soft labels.
            make: turns gathered columns into batches.
            schedule: which records come when.
            digest: of the dataset.
            placement: what to say of it.
        """
        super().__init__(schedule, digest, placement)
        self.images, self.labels, self.stored, self._make = images, labels, stored, make

    def _batches(self, steps: Iterator[Slots]) -> Generator[Batch, None, None]:
        for slots in steps:
            index = torch.from_numpy(slots.index).to(self.labels.device)
            columns = {name: values.index_select(0, index) for name, values in self.stored.items()}
            images, labels = self.images.index_select(0, index), self.labels.index_select(0, index)
            yield self._make.make(slots, images, labels, columns)
