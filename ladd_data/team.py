"""Several processes that work together, on one machine or many: started by torchrun, coordinated through gloo.

What they agree on is small (what is finished, a manifest, results); labels travel through the file system, which
all ranks must share. A rank that fails says so, and all stop with its message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from ladd_data.errors import LabelError, LaddError, UsageError
from ladd_data.processes import count_processes, join_processes, local_rank, rank_of_process

PATIENCE = timedelta(days=7)
"""How long a rank waits for the slowest; one that dies is noticed at once."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """The number of this process among those that work together, and how many they are."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that decides, writes the manifest and talks."""
        return self.rank == 0

    def lead(self, work: Callable[[], _T]) -> _T:
        """Let rank 0 do something, and return its result, or raise its error, on every rank."""
        if self.count == 1:
            return work()
        line: list[Any] = [None]
        error: LaddError | None = None
        if self.leads:
            line[0], error = _try(work)
        _talk(lambda dist: dist.broadcast_object_list(line, src=0))
        return _results(line, error)[0]  # type: ignore[no-any-return]

    def each(self, work: Callable[[], _T]) -> list[_T]:
        """Let every rank do something, and return all results by rank, or raise the first error on every rank."""
        if self.count == 1:
            return [work()]
        own, error = _try(work)
        line: list[Any] = [None] * self.count
        _talk(lambda dist: dist.all_gather_object(line, own))
        return _results(line, error)


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that share one student: the number of this one among them, and how many they are."""

    rank: int = 0
    count: int = 1
    group: Any = None

    def add_up(self, tensors: list[Tensor]) -> None:
        """Replace tensors of one dtype and device by their sums over the team, the same bits on every process.

        Raises:
            LabelError: another process is gone.
        """
        if self.count == 1 or not tensors:
            return
        line = torch.cat([tensor.flatten() for tensor in tensors])
        _talk(lambda dist: dist.all_reduce(line, group=self.group))
        totals = torch.split(line, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, totals, strict=True):
            tensor.copy_(total.view_as(tensor))


def make_teams(ranks: Ranks, size: int, device: torch.device) -> tuple[int, Team]:
    """Divide all processes into teams of `size`, neighbours together; return (the number of ours, ours).

    Raises:
        UsageError: they cannot be divided so.
    """
    if size == 1:
        return ranks.rank, Team()
    if ranks.count % size:
        raise UsageError(
            f"--ranks-per-student {size}: found {ranks.count} process{'es' * (ranks.count > 1)}; expected a multiple "
            f"of {size}. Start with torchrun --nproc-per-node {size}."
        )
    from torch import distributed

    backend = "nccl" if device.type == "cuda" else "gloo"
    groups = [
        distributed.new_group(list(range(first, first + size)), timeout=PATIENCE, backend=backend)
        for first in range(0, ranks.count, size)
    ]
    return ranks.rank // size, Team(ranks.rank % size, size, groups[ranks.rank // size])


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the other processes of a torchrun; alone where there is none.

    Raises:
        UsageError: the environment names ranks that cannot be joined.
    """
    count = count_processes()
    if count == 1:
        yield Ranks()
        return
    with join_processes("gloo", PATIENCE):
        yield Ranks(rank_of_process(), count)


def device_of_rank(device: torch.device) -> torch.device:
    """Return the GPU of this process: by its number on this machine where "cuda" was asked for without one."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", local_rank() % torch.cuda.device_count())


_Shared = tuple[Any, str | None, int]
"""A result, or an error's message and exit code."""


def _try(work: Callable[[], Any]) -> tuple[_Shared, LaddError | None]:
    try:
        return (work(), None, 0), None
    except LaddError as error:
        return (None, str(error), error.exit_code), error
    except OSError as error:
        told = LaddError(f"{error.filename or 'file system'}: {error.strerror or error}. The target was not changed.")
        return (None, str(told), told.exit_code), told


def _results(line: list[_Shared], own: LaddError | None) -> list[Any]:
    if own is not None:
        raise own
    for _, message, code in line:
        if message is not None:
            raise UsageError(message) if code == UsageError.exit_code else LabelError(message)
    return [value for value, _, _ in line]


def _talk(say: Callable[[Any], None]) -> None:
    from torch import distributed

    try:
        say(distributed)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise LabelError(
            f"another rank is gone ({reason}). What is finished is kept: the same call goes on from there."
        ) from error
