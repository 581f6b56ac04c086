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
