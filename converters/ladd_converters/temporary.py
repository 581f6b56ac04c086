"""Room for labels on their way: in memory while they are few, else in a nameless temporary file."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

HELD_BYTES = 2**28
"""Of labels that are put in order in memory; more go through a file in the place for temporary ones."""


def room(shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    """Return an array of zeros."""
    if int(np.prod(shape)) * kind.itemsize <= HELD_BYTES:
        return np.zeros(shape, kind)
    with tempfile.TemporaryFile(prefix="ladd-fkd-") as file:
        return np.memmap(file, kind, "w+", shape=shape)
