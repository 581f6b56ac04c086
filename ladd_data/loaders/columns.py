"""Columns from which the rows of a batch are gathered, in one piece of memory or in many mapped ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ladd_data.types import I64, Array


class Column(Protocol):
    """Rows of one shape and type, by number."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the values."""

    def gather(self, index: I64, out: Array, check: Callable[[int], None] | None = None) -> None:
        """Copy rows `index`, all of which are there, into `out`, [len(index), *shape].

        Args:
            index: numbers of rows.
            out: where to.
            check: called with each place of `out` once its row is there, and in the processor's cache.
        """


class WholeColumn:
    """A column in one piece: one take per batch."""

    def __init__(self, values: Array) -> None:
        """Wrap [records, ...]."""
        self.values = values
        self.shape: tuple[int, ...] = values.shape[1:]
        self.dtype: np.dtype[np.generic] = values.dtype

    def gather(self, index: I64, out: Array, check: Callable[[int], None] | None = None) -> None:
        """Copy rows."""
        np.take(self.values, index, axis=0, out=out, mode="clip")  # the mode that does not buffer `out`
        if check is not None:
            for place in range(len(index)):
                check(place)


class PiecedColumn:
    """A column in pieces that stay where they are, such as in mapped files; for rows of kilobytes."""

    def __init__(self, pieces: Sequence[Array]) -> None:
        """Wrap pieces, each [rows, ...], in record order."""
        self._pieces = pieces
        self._ends = np.cumsum([len(piece) for piece in pieces])
        self.shape: tuple[int, ...] = pieces[0].shape[1:]
        self.dtype: np.dtype[np.generic] = pieces[0].dtype

    def gather(self, index: I64, out: Array, check: Callable[[int], None] | None = None) -> None:
        """Copy rows, one after the other: measured, no dearer than one take where a row has kilobytes."""
        numbers = np.searchsorted(self._ends, index, side="right")
        rows = index - np.concatenate([[0], self._ends])[numbers]
        pieces = self._pieces
        for place, (number, row) in enumerate(zip(numbers.tolist(), rows.tolist(), strict=True)):
            out[place] = pieces[number][row]
            if check is not None:
                check(place)
