"""Batch memory that is used again: fresh pages for every batch would cost as much as filling them."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from torch import Tensor

from ladd_data.types import Array

_KEPT = 4
"""Buffers a pool keeps: a batch in use, those that are prepared ahead, and one that is passed on."""


class Buffers:
    """Lends rows of one shape and type; memory comes back when the last tensor that looks at it is gone.

    Who keeps a batch keeps its memory: it is never written again under their hands.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        """Allocate nothing yet; `shape`: of one row."""
        self._shape, self._dtype = shape, dtype
        self._kept: list[tuple[Array, weakref.ref[Array]]] = []

    def __reduce__(self) -> tuple[type[Buffers], tuple[tuple[int, ...], np.dtype[np.generic]]]:
        return Buffers, (self._shape, self._dtype)  # memory is not sent to other processes

    def lend(self, rows: int) -> Array:
        """Return an array [rows, *shape] of any content; it is lent until it and all that looks at it are gone."""
        for number, (memory, lent) in enumerate(self._kept):
            if lent() is None and len(memory) >= rows:
                return self._lend(number, memory, rows)
        memory = np.empty((rows, *self._shape), self._dtype)
        free = next((number for number, (_, lent) in enumerate(self._kept) if lent() is None), None)
        if free is None and len(self._kept) == _KEPT:
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
