"""Pages of a Parquet column of numbers or texts to arrays, without the lists around them.

A column of 25 x 10 numbers a record is, to Parquet, lists of lists, and says of each number at which levels it begins
one. Readers rebuild the lists from that, which takes several times as long as the numbers themselves. Our columns have
the same number of values in every record (LADD-030), so all that has to be found is that none is missing: a null or a
short list has no bytes among the values, and their bytes are counted.

Source: https://parquet.apache.org/docs/file-format/data-pages/ (data page, version 1; PLAIN, BYTE_STREAM_SPLIT).
"""

from __future__ import annotations

from math import prod

import numpy as np
import pyarrow as pa

from ladd_data.shards.container import ShardError
from ladd_data.shards.limits import Chunk, Page
from ladd_data.types import Array

_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_SPLIT = 9
_BOOLEAN, _INT32, _INT64, _FLOAT, _FIXED = 0, 1, 2, 4, 7
_STORED = {_INT32: "<i4", _INT64: "<i8", _FLOAT: "<f4"}


class _Numbers:
    """The pages of a column chunk of numbers: decoded one after the other, and counted."""

    def __init__(self, where: str, chunk: Chunk, rows: int, shape: tuple[int, ...], dtype: str) -> None:
        self._where, self._chunk = where, chunk
        self._lists = 0 if dtype == "bytes" else len(shape)
        self._fixed = (shape[0] if dtype == "bytes" else 2) if chunk.kind == _FIXED else 0
        self._most, self._done = rows if dtype == "bytes" else rows * prod(shape), 0

    def _take(self, page: Page, content: memoryview) -> Array:
        """Return a page's numbers as they are stored: [values], or [values, bytes].

        Raises:
            ShardError: there is a null, it is of a kind that our writers do not make, or sizes do not add up.
        """
        data = _unpack(self._where, self._chunk, page, content)
        values = self._decode(page, data, _levels(data, 2 if self._lists else 1))
        self._done += len(values)
        if self._done > self._most:
            raise _bad(self._where, f"more than {self._most} values")
        return values.view(np.uint8).reshape(len(values), -1) if values.dtype.kind == "V" else values

    def end(self) -> None:
        """Raise a ShardError if values are missing."""
        if self._done != self._most:
            raise _bad(self._where, f"{self._done} values, not {self._most}")

    def _decode(self, page: Page, data: memoryview, at: int) -> Array:
        count, kind = page.values, self._chunk.kind
        width = self._fixed or np.dtype(_STORED.get(kind, "u1")).itemsize
        size = -(-count // 8) if kind == _BOOLEAN else count * width
        if kind not in (_BOOLEAN, _FIXED, *_STORED) or len(data) - at != size:
            raise _bad(self._where, f"null, or {len(data) - at} bytes of {count} values that take {size}")
        raw = np.frombuffer(data, np.uint8, size, at)
        if kind == _BOOLEAN:
            return np.unpackbits(raw, count=count, bitorder="little").view(np.bool_)
        if page.encoding == _SPLIT:
            raw = np.ascontiguousarray(raw.reshape(width, count).T).reshape(-1)
        if kind != _FIXED:
            return raw.view(_STORED[kind])
        return raw.view(np.float16 if self._lists else f"V{width}")


class NumberPages(_Numbers):
    """The pages of a column chunk of numbers, put into an array one after the other."""

    def __init__(self, where: str, chunk: Chunk, out: Array, shape: tuple[int, ...], dtype: str) -> None:
        """Begin with none.

        Args:
            where: what to call the chunk.
            chunk: as the footer describes it.
            out: [rows, *shape], where the numbers are to be.
            shape: of a record's values in the layout.
            dtype: of these in the layout.
        """
        super().__init__(where, chunk, len(out), shape, dtype)
        self._flat: Array = out.reshape(-1, *shape) if dtype == "bytes" else out.reshape(-1)

    def add(self, page: Page, content: memoryview) -> None:
        """Put a page's numbers behind those that are there; raises ShardError for what is damaged."""
        begin, values = self._done, self._take(page, content)
        np.copyto(self._flat[begin : self._done], values, casting="unsafe")


class RowPages(_Numbers):
    """The same, handed on as the rows that each page ends: none is kept longer than the next is there."""

    def __init__(self, where: str, chunk: Chunk, rows: int, shape: tuple[int, ...], dtype: str) -> None:
        """Begin with none; `rows`: of the chunk; else as `NumberPages`."""
        super().__init__(where, chunk, rows, shape, dtype)
        self._shape, self._dtype = shape, np.dtype(np.uint8 if dtype == "bytes" else dtype)
        self._size = prod(shape)
        self._rest: Array = np.empty(0, self._dtype)

    def rows(self, page: Page, content: memoryview) -> Array:
        """Return the rows, [n, *shape], that end in a page, the first of which may have begun before it.

        Raises:
            ShardError: the page is damaged.
        """
        values = self._take(page, content).astype(self._dtype, copy=False).reshape(-1)
        if len(self._rest):
            values = np.concatenate([self._rest, values])
        whole = len(values) // self._size * self._size
        self._rest = values[whole:].copy()
        return values[:whole].reshape(-1, *self._shape)


class TextPages:
    """The pages of a column chunk of texts, which are taken apart when they are asked for."""

    def __init__(self, where: str, chunk: Chunk) -> None:
        """Begin with none; `where`: what to call the chunk."""
        self._where, self._chunk, self._parts = where, chunk, list[tuple[int, memoryview]]()

    def add(self, page: Page, content: memoryview) -> None:
        """Keep a page.

        Raises:
            ShardError: it is of a kind that our writers do not make, or cannot be unpacked.
        """
        self._parts.append((page.values, memoryview(bytes(_unpack(self._where, self._chunk, page, content)))))

    def read(self) -> list[str]:
        """Return the texts.

        Raises:
            ShardError: there is a null, or lengths that do not add up to the page.
        """
        found: list[str] = []
        for count, data in self._parts:
            at = _levels(data, 1)
            for _ in range(count):
                size = int.from_bytes(data[at : at + 4], "little")
                found.append(str(data[at + 4 : at + 4 + size], "utf-8", "replace"))
                at += 4 + size
            if at != len(data):
                raise _bad(self._where, "null, or texts that do not fill their page")
        return found


def _unpack(where: str, chunk: Chunk, page: Page, content: memoryview) -> memoryview:
    if page.version != 1:
        raise _bad(where, "a data page of version 2")
    data = content
    if chunk.codec:
        if chunk.codec not in _CODECS:
            raise _bad(where, f"the unknown codec {chunk.codec}")
        try:
            room = pa.system_memory_pool()  # which gives the same memory again, where Arrow's own takes new one
            data = memoryview(pa.decompress(content, page.unpacked, _CODECS[chunk.codec], memory_pool=room)).cast("B")
        except (pa.ArrowException, OSError, ValueError) as error:
            said = " ".join(str(error).split())
            raise _bad(where, f"a page that cannot be unpacked ({said})") from error
    if len(data) != page.unpacked:
        raise _bad(where, f"a page of {len(data)} bytes that states {page.unpacked}")
    return data


def _levels(data: memoryview, kinds: int) -> int:
    """Return where the values of a page begin: behind levels of so many kinds, each with its length in front."""
    at = 0
    for _ in range(kinds):
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    return min(at, len(data))


def _bad(where: str, found: str) -> ShardError:
    return ShardError("LADD-020", f"{where}: {found}")
