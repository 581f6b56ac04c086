"""The resident loader: everything decoded once, kept on the device as stored, gathered by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ladd_data.errors import UsageError
from ladd_data.loaders.decode import find_soft
from ladd_data.loaders.order import epoch_order
from ladd_data.types import Batch


class ResidentLoader:
    """Yields batches from tensors that stay on one device.

    Images stay uint8 and dense labels stay in their stored type; a batch is one gather per tensor, and
    its labels are turned into probabilities after the gather. No worker, no copy per record.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        stored: Mapping[str, Tensor],
        decode: Callable[[Mapping[str, Tensor]], Tensor] | None,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        """Keep the tensors.

        Args:
            images: uint8 [records, channels, height, width].
            labels: int64 [records].
            stored: label columns as stored, each [records, ...]; empty without dense labels.
            decode: turns gathered columns into probabilities [batch, views, classes].
            batch_size: records per batch, at least 1.
            shuffle: visit records in the order of (seed, epoch); else in file order.
            seed: of the order, 0 .. 2**32 - 1.
            drop_last: leave out a last batch that is not full.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: expected at least 1.")
        if not 0 <= seed < 2**32:
            raise UsageError(f"seed {seed}: expected 0 .. 4294967295.")
        self.images, self.labels, self.stored, self._decode = images, labels, stored, decode
        self.batch_size, self.shuffle, self.seed, self.drop_last = batch_size, shuffle, seed, drop_last
        self.epoch = 0

    def __len__(self) -> int:
        """Batches in one epoch."""
        full, rest = divmod(len(self.labels), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass goes through."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        """Go through one epoch; a pass that is finished moves on to the next epoch."""
        epoch = self.epoch
        order = self._order(epoch)
        for step in range(len(self)):
            yield self._gather(order[step * self.batch_size : (step + 1) * self.batch_size])
        self.epoch = epoch + 1

    def _order(self, epoch: int) -> Tensor:
        count = len(self.labels)
        order = torch.from_numpy(epoch_order(count, self.seed, epoch)) if self.shuffle else torch.arange(count)
        return order.to(self.labels.device)

    def _gather(self, index: Tensor) -> Batch:
        columns = {name: values.index_select(0, index) for name, values in self.stored.items()}
        dense = self._decode(columns) if self._decode is not None else None
        present, soft = columns.get("view_present"), find_soft(columns)
        images, labels = self.images.index_select(0, index), self.labels.index_select(0, index)
        return Batch(images, labels, dense, index, present, soft)
