"""Batch memory that is used again: fresh pages for every batch would cost as much as filling them."""

from __future__ import annotations

import mmap
import threading
import weakref
from math import prod

import numpy as np
import torch
from torch import Tensor

from ladd_data.types import Array

PAGE_BYTES = mmap.PAGESIZE
_ROUND = 2**18
_KEPT = 4
"""Buffers a pool of batches keeps: a batch in use, those that are prepared ahead, and one that is passed on."""


class Buffers:
    """Lends rows of one shape and type; memory comes back when the last tensor that looks at it is gone.

    Who keeps a batch keeps its memory: it is never written again under their hands.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic], keep: int = _KEPT) -> None:
        """Allocate nothing yet; `shape`: of one row; `keep`: buffers at most."""
        self._shape, self._dtype, self._keep = shape, dtype, keep
        self._kept: list[tuple[Array, weakref.ref[Array]]] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Buffers], tuple[tuple[int, ...], np.dtype[np.generic], int]]:
        return Buffers, (self._shape, self._dtype, self._keep)  # memory is not sent to other processes

    def lend(self, rows: int) -> Array:
        """Return an array [rows, *shape] of any content; it is lent until it and all that looks at it are gone."""
        with self._lock:
            return self._find(rows)

    def _find(self, rows: int) -> Array:
        for number, (memory, lent) in enumerate(self._kept):
            if lent() is None and len(memory) >= rows:
                return self._lend(number, memory, rows)
        memory = _new_array((rows, *self._shape), self._dtype)
        free = next((number for number, (_, lent) in enumerate(self._kept) if lent() is None), None)
        if free is None and len(self._kept) == self._keep:
            return memory
        if free is None:
            free = len(self._kept)
            self._kept.append((memory, weakref.ref(memory)))
        return self._lend(free, memory, rows)

    def lend_tensor(self, rows: int) -> Tensor:
        """Return the same as a tensor."""
        return torch.from_numpy(self.lend(rows))

    def _lend(self, number: int, memory: Array, rows: int) -> Array:
        view = memory[:rows]  # an object of its own: torch holds on to it, not to the memory below it
        self._kept[number] = (memory, weakref.ref(view))
        return view


class Scratch:
    """Memory for what is looked at once: each use of it ends the one before."""

    def __init__(self) -> None:
        """Allocate nothing yet."""
        self._memory: Array = np.empty(0, np.uint8)

    def take(self, size: int) -> memoryview:
        """Return bytes of any content, beginning with a page."""
        if size > len(self._memory):
            self._memory = _new_array((-(-size // _ROUND) * _ROUND,), np.dtype(np.uint8))
        return self._memory.data[:size]


def _new_array(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Return memory that begins with a page: the kernel fills it from a file twice to four times as fast."""
    size = prod(shape) * dtype.itemsize
    room = np.empty(size + PAGE_BYTES, np.uint8)
    start = -room.ctypes.data % PAGE_BYTES
    return room[start : start + size].view(dtype).reshape(shape)
