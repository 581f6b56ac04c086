"""The pinned loader: everything decoded once into page-locked host memory, batches sent to the device ahead."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping

import torch
from torch import Tensor

from ladd_data.loaders.batches import BatchMaker
from ladd_data.loaders.loader import Loader, Placement
from ladd_data.loaders.schedule import Schedule, Slots
from ladd_data.types import Batch

_AHEAD = 2
"""Batches that are gathered and on their way to the device."""


class PinnedLoader(Loader):
    """Yields batches on a CUDA device from records in pinned host memory.

    Rows are gathered on the host into pinned staging memory, and copied on a stream of their own.
    """

    def __init__(
        self,
        stored: Mapping[str, Tensor],
        make: BatchMaker,
        schedule: Schedule,
        digest: str,
        placement: Placement,
    ) -> None:
        """Pin the records.

        Args:
            stored: `image`, `label` and label columns as `to_tensors` returns them, on the host.
            make: turns columns on the device into batches.
            schedule: which records come when.
            digest: of the dataset.
            placement: what to say of it.
        """
        super().__init__(schedule, digest, placement)
        self._make = make
        self._stored = {name: values.pin_memory() for name, values in stored.items()}

    def _batches(self, steps: Iterator[Slots]) -> Generator[Batch, None, None]:
        stream = torch.cuda.Stream(self._make.device)  # type: ignore[no-untyped-call]
        staging = [self._new_staging() for _ in range(_AHEAD + 1)]
        copied: list[torch.cuda.Event | None] = [None] * len(staging)
        waiting: list[tuple[Slots, dict[str, Tensor], torch.cuda.Event]] = []
        for number, slots in enumerate(steps):
            place = number % len(staging)
            if (event := copied[place]) is not None:
                event.synchronize()  # the staging memory has been read
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            with torch.cuda.stream(stream):
                tensors = self._send(slots, staging[place])
                event.record(stream)
            copied[place] = event
            waiting.append((slots, tensors, event))
            if len(waiting) == _AHEAD:
                yield self._hand_out(*waiting.pop(0))
        while waiting:
            yield self._hand_out(*waiting.pop(0))

    def _new_staging(self) -> dict[str, Tensor]:
        rows = self.schedule.batch_size
        return {
            name: torch.empty((rows, *values.shape[1:]), dtype=values.dtype, pin_memory=True)
            for name, values in self._stored.items()
        }

    def _send(self, slots: Slots, staging: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gather rows on the host, and begin to copy them."""
        index, rows = torch.from_numpy(slots.index), len(slots.index)
        sent = {}
        for name, values in self._stored.items():
            part = staging[name][:rows]
            torch.index_select(values, 0, index, out=part)
            sent[name] = part.to(self._make.device, non_blocking=True)
        return sent

    def _hand_out(self, slots: Slots, tensors: dict[str, Tensor], event: torch.cuda.Event) -> Batch:
        """Make the batch on the caller's stream, which waits for the copy."""
        current = torch.cuda.current_stream(self._make.device)
        current.wait_event(event)
        for values in tensors.values():
            values.record_stream(current)
        return self._make.make(slots, tensors.pop("image"), tensors.pop("label"), tensors)
