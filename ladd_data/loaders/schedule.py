"""Which records each rank takes at each step: a pure function of order, batch size and number of ranks.

An epoch has as many slots as there are records, filled in the epoch's order. Ranks take them together, a
global batch of `batch_size * world` slots at a time, each rank a contiguous part. What has been done is one
number, the slots behind us over all ranks, so a run resumes with any number of ranks and any batch size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ladd_data.errors import UsageError, nearest
from ladd_data.loaders.order import epoch_order
from ladd_data.types import I64

Last = Literal["drop", "short", "wrap"]
"""What becomes of the slots that do not fill a global batch."""

STATE_FORMAT = 1


class Order(Protocol):
    """The order of an epoch.

    kind: a name that is equal where, for equal seed and dataset, the order is equal; it goes into the state.
    """

    @property
    def kind(self) -> str:
        """The name."""

    def __call__(self, epoch: int) -> I64:
        """Return the record numbers of an epoch's slots, int64 [count], a permutation of 0 .. count-1."""


class FileOrder:
    """Records as they lie in the dataset, each epoch."""

    kind = "file"

    def __init__(self, count: int) -> None:
        """Number the records 0 .. count-1."""
        self._order = np.arange(count, dtype=np.int64)

    def __call__(self, epoch: int) -> I64:
        """Return 0 .. count-1."""
        return self._order


class FullShuffle:
    """A permutation of all records, another one each epoch (`epoch_order`)."""

    kind = "full"

    def __init__(self, count: int, seed: int) -> None:
        """Compute nothing yet."""
        self._count, self._seed = count, seed
        self._last: tuple[int, I64] | None = None

    def __call__(self, epoch: int) -> I64:
        """Return the permutation; that of the last epoch asked for is kept."""
        last = self._last
        if last is None or last[0] != epoch:
            self._last = last = (epoch, epoch_order(self._count, self._seed, epoch))
        return last[1]


@dataclass(frozen=True, slots=True)
class Slots:
    """What one rank takes at one step.

    epoch: of the pass.
    start, stop: the global batch: slots behind it, and behind us once it is done, over all ranks.
    index: int64 [batch], record numbers, at least one.
    mask: bool [batch], False for records that are only repeated to fill the batch; None where none is.
    """

    epoch: int
    start: int
    stop: int
    index: I64
    mask: NDArray[np.bool_] | None = None


class Schedule:
    """Divides epochs into steps, and steps among ranks. Every rank has the same number of steps."""

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        last: Last = "short",
        rank: int = 0,
        world: int = 1,
        order: Order | None = None,
    ) -> None:
        """Fix the division.

        Args:
            count: records.
            batch_size: records per rank and step, at least 1.
            shuffle: visit records in the order of (seed, epoch); else in file order.
            seed: of the order and of drawn views, 0 .. 2**32 - 1.
            last: the slots that fill no global batch are left out ("drop"); shared out evenly, in a smaller
                batch ("short"); or filled up with the first slots of the epoch, masked ("wrap"). With "short" a
                rank whose share is empty gets one record again, masked.
            rank: this process, 0 .. world-1.
            world: processes that share the records.
            order: another order than the two that `shuffle` chooses between.

        Raises:
            UsageError: a value is out of range.
        """
        require_int("batch_size", batch_size, 1)
        require_int("seed", seed, 0, 2**32 - 1)
        require_int("world", world, 1)
        require_int("rank", rank, 0, world - 1)
        if last not in get_args(Last):
            raise UsageError(f'last "{last}" is not known. {nearest(str(last), get_args(Last))}')
        self.count, self.batch_size, self.shuffle, self.seed = count, batch_size, shuffle, seed
        self.last, self.rank, self.world = last, rank, world
        self.order: Order = order or (FullShuffle(count, seed) if shuffle else FileOrder(count))

    @property
    def global_batch(self) -> int:
        """Slots that all ranks take together in one full step."""
        return self.batch_size * self.world

    def steps(self, done: int = 0) -> int:
        """Return the steps of an epoch of which `done` slots are behind us; the same on every rank."""
        full, rest = divmod(self.count - done, self.global_batch)
        return full + (1 if rest and self.last != "drop" else 0)

    def take(self, epoch: int, step: int, done: int = 0) -> Slots:
        """Return what this rank takes at a step of an epoch, counted from where `done` slots are behind us."""
        if not 0 <= step < self.steps(done):
            raise IndexError(f"step {step} of {self.steps(done)}")
        size, order = self.batch_size, self.order(epoch)
        start = done + step * self.global_batch
        stop = min(start + self.global_batch, self.count)
        if stop - start == self.global_batch:
            first = start + self.rank * size
            return Slots(epoch, start, stop, order[first : first + size])
        if self.last == "wrap":
            slots = np.arange(start + self.rank * size, start + (self.rank + 1) * size)
            return Slots(epoch, start, stop, order[slots % self.count], _mask(slots < self.count))
        share, more = divmod(stop - start, self.world)
        first = start + self.rank * share + min(self.rank, more)
        mine = order[first : first + share + (self.rank < more)]
        if len(mine):
            return Slots(epoch, start, stop, mine)
        return Slots(epoch, start, stop, order[stop - 1 : stop], np.zeros(1, np.bool_))

    def walk(self, epoch: int, done: int = 0) -> Iterator[Slots]:
        """Yield what this rank takes in what is left of an epoch, step by step."""
        for step in range(self.steps(done)):
            yield self.take(epoch, step, done)

    def settle(self, epoch: int, done: int) -> tuple[int, int]:
        """Return where a run stands that did `done` slots of an epoch: where no step is left, at the next one."""
        return (epoch, done) if self.steps(done) or not done else (epoch + 1, 0)

    def dump_state(self, digest: str, epoch: int, done: int) -> dict[str, Any]:
        """Return where a run stands, for JSON; `digest`: of the dataset."""
        epoch, done = self.settle(epoch, done)
        return {
            "format": STATE_FORMAT,
            "dataset": digest,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "order": self.order.kind,
            "epoch": epoch,
            "done": done,
        }

    def parse_state(self, state: Mapping[str, Any], digest: str) -> tuple[int, int]:
        """Return (epoch, slots done) of a state that `dump_state` made, in whatever process.

        Raises:
            UsageError: it is of another dataset, seed or order, or no such state; names both values.
        """
        expected = self.dump_state(digest, 0, 0)
        if not isinstance(state, Mapping) or set(state) != set(expected):
            found = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise UsageError(f"loader state: found {found}, expected the keys {sorted(expected)}.")
        for key in ("format", "dataset", "seed", "shuffle", "order"):
            if type(state[key]) is not type(expected[key]) or state[key] != expected[key]:
                raise UsageError(
                    f"loader state: {key} is {state[key]!r} in the state and {expected[key]!r} here. "
                    "A run resumes with the dataset, seed and order it began with."
                )
        epoch, done = state["epoch"], state["done"]
        require_int("loader state: epoch", epoch, 0)
        require_int("loader state: done", done, 0, self.count)
        return self.settle(epoch, done)


def _mask(counts: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if counts.all() else counts


def require_int(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise a UsageError that names a value which is no whole number in low .. high."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        expected = f"at least {low}" if high is None else f"{low} .. {high}"
        raise UsageError(f"{name} {value!r}: expected a whole number, {expected}.")
