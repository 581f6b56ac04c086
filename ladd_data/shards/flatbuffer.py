"""FlatBuffers, as far as Arrow's metadata needs them, with a bound on what is read.

Tables, lists and texts are found by offsets that may all lead to one place: a few kilobytes can stand for
millions of columns, each with the same long text. So everything that is visited counts against a budget,
and the bytes of texts against the size of the data, before a general reader gets to see it.

Source: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 32


class BudgetError(ValueError):
    """More values, levels or text than the budget allows."""


class Table:
    """A table at a place in the data; fields are asked for by number, and are absent where the writer left them out."""

    __slots__ = ("_data", "_depth", "_fields", "_position", "_size", "_spend")

    def __init__(self, data: bytes, position: int, spend: Callable[[int, int], None], depth: int = 0) -> None:
        """Look at the table at `position`; `spend(values, text bytes)` raises BudgetError when that is too much."""
        if depth > MAX_DEPTH:
            raise BudgetError(f"tables nested more than {MAX_DEPTH} times")
        spend(1, 0)
        self._data, self._position, self._spend, self._depth = data, position, spend, depth
        self._fields = position - int(self._unpack("<i", position))
        self._size = int(self._unpack("<H", self._fields))

    def number(self, field: int, form: str, default: int = 0) -> int:
        """Return a number of the given struct format."""
        place = self._place(field)
        return default if place is None else int(self._unpack(form, place))

    def table(self, field: int) -> Table | None:
        """Return a table, or None where there is none."""
        place = self._target(field)
        return None if place is None else Table(self._data, place, self._spend, self._depth + 1)

    def tables(self, field: int) -> list[Table]:
        """Return a list of tables."""
        start, count = self._list(field, 4)
        places = [start + 4 * index for index in range(count)]
        return [Table(self._data, place + self._offset(place), self._spend, self._depth + 1) for place in places]

    def structs(self, field: int, form: str) -> list[tuple[Any, ...]]:
        """Return a list of structs of the given struct format."""
        start, count = self._list(field, struct.calcsize(form))
        return list(struct.iter_unpack(form, self._data[start : start + count * struct.calcsize(form)]))

    def skip_text(self, field: int) -> None:
        """Count a text's bytes against the budget, without making it."""
        start = self._target(field)
        if start is not None:
            size = int(self._unpack("<I", start))
            self._spend(1, size)
            self._check(start + 4, size)

    def _list(self, field: int, width: int) -> tuple[int, int]:
        start = self._target(field)
        if start is None:
            return 0, 0
        count = int(self._unpack("<I", start))
        self._spend(count, 0)
        self._check(start + 4, count * width)
        return start + 4, count

    def _target(self, field: int) -> int | None:
        place = self._place(field)
        return None if place is None else place + self._offset(place)

    def _offset(self, place: int) -> int:
        return int(self._unpack("<I", place))

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return None
        step = int(self._unpack("<H", self._fields + entry))
        return self._position + step if step else None

    def _unpack(self, form: str, place: int) -> Any:
        self._check(place, struct.calcsize(form))
        return struct.unpack_from(form, self._data, place)[0]

    def _check(self, place: int, size: int) -> None:
        if not 0 <= place <= place + size <= len(self._data):
            raise ValueError(f"an offset to bytes {place} .. {place + size} of {len(self._data)}")


def read_root(data: bytes, budget: int) -> Table:
    """Return the table that the data are, with so many values to read at most.

    Raises:
        BudgetError: now or later, when more is asked for than the budget, or than texts can have.
        ValueError: now or later, when an offset leads out of the data.
    """
    values, text = budget, len(data)

    def spend(more_values: int, more_text: int) -> None:
        nonlocal values, text
        values, text = values - more_values, text - more_text
        if values < 0 or text < 0:
            raise BudgetError("too many values, or the same text again and again")

    if len(data) < 4:
        raise ValueError("an early end")
    return Table(data, int.from_bytes(data[:4], "little"), spend)
