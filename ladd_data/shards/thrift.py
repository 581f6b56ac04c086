"""Thrift's compact encoding, as far as Parquet's footers and page headers need it, with a bound on what is read.

A footer of a few megabytes can describe millions of column chunks, of which C++ readers make gigabytes.
Reading it here first, with a budget of values, costs milliseconds and no more memory than the budget.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 32
_TRUE, _FALSE, _I8, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)


class BudgetError(ValueError):
    """More values than the budget allows."""


class CompactReader:
    """Reads structs as {field number: value} from bytes; `position` moves behind what was read."""

    def __init__(self, data: bytes, budget: int) -> None:
        """Start at the first byte, with so many values to read at most."""
        self._data, self._budget = data, budget
        self.position = 0

    def read_struct(self, depth: int = 0) -> dict[int, Any]:
        """Return the struct at the position.

        Raises:
            BudgetError: there are too many values in it.
            ValueError: no struct in the compact encoding.
        """
        if depth > MAX_DEPTH:
            raise ValueError("structs nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            self._spend(1)
            kind, step = head & 15, head >> 4
            number = number + step if step else _unzigzag(self._varint())
            if kind in _INTEGERS:  # most fields
                value = self._varint()
                fields[number] = (value >> 1) ^ -(value & 1)
            else:
                fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return _unzigzag(self._varint())
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.read_struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind in (_TRUE, _FALSE, _I8):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise ValueError(f"a value of the unknown type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._varint()
        self._spend(size)
        kind = head & 15
        return [self._value(kind, depth) for _ in range(size)]

    def _byte(self) -> int:
        try:
            byte = self._data[self.position]
        except IndexError:
            raise ValueError("an early end") from None
        self.position += 1
        return byte

    def _bytes(self, size: int) -> bytes:
        if size > len(self._data) - self.position:
            raise ValueError("an early end")
        self.position += size
        return self._data[self.position - size : self.position]

    def _varint(self) -> int:
        value = self._byte()
        if value < 128:
            return value
        value &= 127
        for shift in range(7, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("an endless number")

    def _spend(self, values: int) -> None:
        self._budget -= values
        if self._budget < 0:
            raise BudgetError("too many values")


def _unzigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)
