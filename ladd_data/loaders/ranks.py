"""Which of how many processes this is."""

from __future__ import annotations

import os

import torch

from ladd_data.errors import UsageError


def find_rank(rank: int | None = None, world: int | None = None) -> tuple[int, int]:
    """Return (rank, world): as given, else of torch.distributed, else of torchrun's environment, else (0, 1).

    Raises:
        UsageError: one of the two is given without the other, or RANK and WORLD_SIZE are no such numbers.
    """
    if rank is not None and world is not None:
        return rank, world
    if rank is not None or world is not None:
        raise UsageError("rank and world belong together: give both, or neither.")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    given = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if None in given:
        return 0, 1
    try:
        return int(given[0] or ""), int(given[1] or "")
    except ValueError:
        raise UsageError(f"RANK {given[0]!r} and WORLD_SIZE {given[1]!r}: expected whole numbers.") from None
