"""What every loader is: batches in the order of a schedule, a length, epochs, and a state that resumes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from ladd_data.loaders.schedule import Schedule, Slots, require_int
from ladd_data.types import Batch

PlacementName = Literal["resident", "pinned", "cached", "streaming"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a loader keeps the records, how many bytes they take there, and why."""

    name: PlacementName
    device: str
    bytes: int
    reason: str

    def __str__(self) -> str:
        return f"{self.name}, batches on {self.device}: {self.bytes / 1e6:,.1f} MB ({self.reason})"


class Loader(ABC):
    """Yields batches, epoch by epoch; subclasses say how the records of a step are had.

    A pass whose last batch was handed out is followed by the next epoch; one that is left earlier begins its
    epoch anew, unless `load_state_dict` was called in between.
    """

    def __init__(self, schedule: Schedule, digest: str, placement: Placement) -> None:
        """Begin at epoch 0.

        Args:
            schedule: which records come when.
            digest: of the dataset; a state of another is refused.
            placement: where the records are.
        """
        self.schedule, self.placement, self._digest = schedule, placement, digest
        self._epoch = self._done = self._begin = 0

    def __len__(self) -> int:
        """Steps of a whole epoch, the same on every rank; a pass that was resumed has fewer."""
        return self.schedule.steps()

    @property
    def epoch(self) -> int:
        """The epoch of the pass that is under way or comes next."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; where a state was loaded, its own epoch keeps its position."""
        require_int("epoch", epoch, 0)
        if epoch != self._epoch:
            self._begin = 0
        self._epoch, self._done = epoch, self._begin

    def __iter__(self) -> Iterator[Batch]:
        """Go through what is left of the epoch."""
        begin = self._begin
        epoch = self._epoch if begin else self.schedule.settle(self._epoch, self._done)[0]
        self._epoch, self._done, self._begin = epoch, begin, 0
        with closing(self._batches(self.schedule.walk(epoch, begin))) as batches:
            for slots in self.schedule.walk(epoch, begin):
                # not kept here under a name: memory of a batch that its user is done with serves the next but one
                yield self._begun(batches, slots)
        if self._epoch == epoch:
            self._epoch, self._done = epoch + 1, 0

    def _begun(self, batches: Iterator[Batch], slots: Slots) -> Batch:
        batch = next(batches)
        self._done = slots.stop
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where this run stands, batches handed out being done: a few numbers, for JSON.

        It is the same on every rank, and resumes with another number of ranks, another batch size and
        another placement of the same order.
        """
        return self.schedule.dump_state(self._digest, self._epoch, self._done)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a run stood: the next pass takes the slots of its epoch that are not yet done, in order.

        Raises:
            UsageError: the state is of another dataset, seed or order; names both values.
        """
        self._epoch, self._done = self.schedule.parse_state(state, self._digest)
        self._begin = self._done

    @abstractmethod
    def _batches(self, steps: Iterator[Slots]) -> Generator[Batch, None, None]:
        """Yield the batch of each step, in order; a generator, closed when the pass ends, however it ends."""
