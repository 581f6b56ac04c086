"""The resident loader: everything decoded once, kept on the device as stored, gathered by batch."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from ladd_data.loaders.batches import BatchMaker
from ladd_data.loaders.buffers import Buffers
from ladd_data.loaders.loader import Loader, Placement
from ladd_data.loaders.schedule import Schedule, Slots
from ladd_data.types import Batch


class ResidentLoader(Loader):
    """Yields batches from tensors that stay on one device.

    Images stay uint8; a batch is one gather per tensor, and its labels are decoded after the gather, unless they
    take little memory decoded (`BatchMaker.decode_early`). No worker, no copy per record.
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
            stored: label columns as `to_tensors` returns them, each [records, ...], or decoded.
            make: turns gathered columns into batches.
            schedule: which records come when.
            digest: of the dataset.
            placement: what to say of it.
        """
        super().__init__(schedule, digest, placement)
        self.images, self.labels, self.stored, self._make = images, labels, stored, make
        self._columns = {"image": images, "label": labels, **stored}
        self._pools: dict[str, Buffers] = {}
        if labels.device.type == "cpu":
            numpy_able = {name: values for name, values in self._columns.items() if values.dtype != torch.bfloat16}
            for name, values in numpy_able.items():
                self._pools[name] = Buffers(tuple(values.shape[1:]), values[:0].numpy().dtype)

    def _batches(self, steps: Iterator[Slots]) -> Generator[Batch, None, None]:
        for slots in steps:
            index = torch.from_numpy(slots.index).to(self.labels.device)
            rows = {name: self._gather(name, index) for name in self._columns}
            yield self._make.make(slots, rows.pop("image"), rows.pop("label"), rows)

    def _gather(self, name: str, index: Tensor) -> Tensor:
        values, pool = self._columns[name], self._pools.get(name)
        if pool is None:
            return values.index_select(0, index)
        rows = pool.lend(len(index))
        # One thread: torch's gather takes as many as there are cores, which wait for each other at every batch
        # where something else runs on them (measured: a twelfth of the rate, on two shared cores).
        np.take(values.numpy(), index.numpy(), axis=0, out=rows, mode="clip")  # the mode that does not buffer
        return torch.from_numpy(rows)
