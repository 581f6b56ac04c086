"""The processes that torchrun started, on one machine or many: who we are among them, and joining them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from ladd_data.errors import UsageError

JOINING = timedelta(minutes=10)
"""How long a process waits for the others to start."""


def under_torchrun() -> bool:
    """Tell whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def count_processes() -> int:
    """Return how many processes were started together; 1 where this one is alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank_of_process() -> int:
    """Return this process's number among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Return this process's number among those on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def join_processes(backend: str, patience: timedelta | None = None) -> Iterator[None]:
    """Join the other processes; those that are joined already stay so.

    Args:
        backend: "gloo" or "nccl".
        patience: how long a process waits for the slowest; torch's own measure where left out.

    Raises:
        UsageError: the environment names processes that cannot be joined.
    """
    from torch import distributed

    if distributed.is_initialized():
        yield
        return
    count, rank = count_processes(), rank_of_process()
    try:
        store = _fresh_store(count)
        place = {"store": store, "rank": rank, "world_size": count} if store is not None else {}
        distributed.init_process_group(backend, timeout=patience, **place)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"WORLD_SIZE is {count}, but rank {rank} cannot join ({reason}). Start with torchrun."
        ) from error
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _fresh_store(count: int) -> Any:
    """Return torchrun's store with names of this start's own; None where torchrun did not start us.

    After a restart the store still has the addresses of the ranks that were killed, and torch 2.15 would wait
    for them.
    """
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    if not under_torchrun():
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=JOINING)
    return PrefixStore(f"ladd/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{count}", store)
