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
_BOOLEAN, _INT32, _INT64, _FLOAT, _BYTES, _FIXED = 0, 1, 2, 4, 6, 7
_STORED = {_INT32: "<i4", _INT64: "<i8", _FLOAT: "<f4"}


class ColumnPages:
    """The pages of one column chunk, of which each is handed over once it has been compared with its checksum."""

    def __init__(self, where: str, chunk: Chunk) -> None:
        """Begin with none; `where`: what to call the chunk."""
        self._where, self._chunk, self._parts = where, chunk, list[tuple[int, int, memoryview]]()

    def add(self, page: Page, content: memoryview) -> None:
        """Unpack a page; a copy is kept.

        Raises:
            ShardError: it is of a kind that our writers do not make, or its sizes do not add up.
        """
        data: memoryview
        if page.version != 1:
            raise self._bad("a data page of version 2")
        if not self._chunk.codec:
            data = memoryview(bytes(content))
        elif self._chunk.codec in _CODECS:
            try:
                data = memoryview(pa.decompress(content, page.unpacked, _CODECS[self._chunk.codec]))
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._bad(f"a page that cannot be unpacked ({' '.join(str(error).split())})") from error
        else:
            raise self._bad(f"the unknown codec {self._chunk.codec}")
        if len(data) != page.unpacked:
            raise self._bad(f"a page of {len(data)} bytes that states {page.unpacked}")
        self._parts.append((page.values, page.encoding, data.cast("B")))

    def numbers(self, rows: int, shape: tuple[int, ...], dtype: str) -> Array:
        """Return [rows, *shape] in the layout's type of a column.

        Raises:
            ShardError: there is a null, or there are more or fewer values.
        """
        lists = 0 if dtype == "bytes" else len(shape)
        size = (shape[0] if dtype == "bytes" else 2) if self._chunk.kind == _FIXED else 0
        parts = [self._decode(part, lists, size) for part in self._parts]
        flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if len(flat) * (size if dtype == "bytes" else 1) != rows * prod(shape):
            raise self._bad(f"{len(flat)} values in {rows} records")
        if dtype == "bytes":
            return flat.view(np.uint8).reshape(rows, *shape)
        if self._chunk.kind == _FIXED:
            flat = flat.view(np.float16)
        return flat.astype(dtype, copy=False).reshape(rows, *shape)

    def texts(self) -> list[str]:
        """Return a column of texts.

        Raises:
            ShardError: there is a null, or lengths that do not add up to the page.
        """
        found: list[str] = []
        for count, _, data in self._parts:
            at = self._values(data, 0)
            for _ in range(count):
                size = int.from_bytes(data[at : at + 4], "little")
                found.append(str(data[at + 4 : at + 4 + size], "utf-8", "replace"))
                at += 4 + size
            if at != len(data):
                raise self._bad("texts that do not fill their page")
        return found

    def _decode(self, part: tuple[int, int, memoryview], lists: int, fixed: int) -> Array:
        count, encoding, data = part
        at, kind = self._values(data, lists), self._chunk.kind
        width = fixed or np.dtype(_STORED.get(kind, "u1")).itemsize
        size = -(-count // 8) if kind == _BOOLEAN else count * width
        if len(data) - at != size or kind in (_BYTES,):
            raise self._bad(f"null, or {len(data) - at} bytes of {count} values that take {size}")
        raw = np.frombuffer(data, np.uint8, size, at)
        if kind == _BOOLEAN:
            return np.unpackbits(raw, count=count, bitorder="little").view(np.bool_)
        if encoding == _SPLIT:
            raw = np.ascontiguousarray(raw.reshape(width, count).T).reshape(-1)
        return raw.view(f"V{fixed}" if fixed else _STORED[kind])

    def _values(self, data: memoryview, lists: int) -> int:
        """Return where the values of a page begin: behind the levels, which have their length in front."""
        at = 0
        for _ in range(2 if lists else 1):
            at += 4 + int.from_bytes(data[at : at + 4], "little")
        return min(at, len(data))

    def _bad(self, found: str) -> ShardError:
        return ShardError("LADD-020", f"{self._where}: {found}")
