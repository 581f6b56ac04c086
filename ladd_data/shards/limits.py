"""What a Parquet shard may ask of its reader, checked before a page of it is decompressed.

A few bytes can claim to be gigabytes: by what the footer counts, by a page's stated size, by a dictionary
whose one entry stands for every row, by nulls. Each is compared here with what the columns can need
(LADD-082), and each page must be plain and carry its checksum (LADD-083).

The footer is read by our own reader: pyarrow's accessors end the process on some damaged ones (a column
chunk too few, a size statistic of the wrong length: "terminate called", pyarrow 26; found by fuzzing).
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ladd_data.shards.container import MAX_FOOTER_BYTES, MAX_FOOTER_VALUES, MAX_GROUP_BYTES, ShardError
from ladd_data.shards.ipc import check_schema
from ladd_data.shards.layout import Layout
from ladd_data.shards.thrift import BudgetError, CompactReader

_SHORT_HEADER_BYTES, _PAGE_HEADER_BYTES, _PAGE_HEADER_VALUES = 512, 65536, 1000
_DATA_PAGE = 0
_NUMBER = rb"([\x80-\xff]{0,9}[\x00-\x7f])"
_USUAL_HEADER = re.compile(
    rb"\x15\x00\x15%b\x15%b\x15%b\x1c\x15%b\x15%b\x15\x06\x15\x06\x00\x00"
    % (_NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER)
)
"""A data page's header as Arrow writes it beside a page index, in Thrift's compact encoding: type 0, bytes unpacked and
stored, CRC-32, then values, encoding and two kinds of levels. It is most of what is read of a shard, one a page; the
general reader takes ten times as long for it."""
_PLAIN_ENCODINGS = {0: "PLAIN", 9: "BYTE_STREAM_SPLIT"}
_WIDTH = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}
"""Bytes of a value, by Parquet's physical type: BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE."""
_ARROW_SCHEMA = b"ARROW:schema"
"""The key under which Arrow's writers repeat the schema in their own form; pyarrow reads it unasked."""
_UNCOMPRESSED, _OPTIONAL, _REPEATED = 0, 1, 2
_CHUNK_FIELDS = {1, 2, 3, 4, 5, 6, 7}
"""Of a ColumnChunk without encryption."""


class Chunk(NamedTuple):
    """What a footer says of one column chunk: names, type and codec by number, counts and bytes."""

    path: str
    kind: int
    codec: int
    values: int
    unpacked: int
    stored: int
    start: int
    dictionary: bool


class RowGroup(NamedTuple):
    """What a footer says of one row group."""

    rows: int
    chunks: list[Chunk]

    @property
    def span(self) -> tuple[int, int]:
        """Where its bytes begin and end in the shard."""
        return min(chunk.start for chunk in self.chunks), max(chunk.start + chunk.stored for chunk in self.chunks)


class Page(NamedTuple):
    """A data page: where its content is, how many bytes and values it has, and their CRC-32; bytes once unpacked."""

    start: int
    size: int
    values: int
    crc: int
    unpacked: int
    encoding: int
    version: int


def _breach(found: str, clause: str = "LADD-020") -> ShardError:
    return ShardError(clause, found)


def check_footer(path: Path) -> None:
    """Check that reading the footer, and any row group it lists, takes a bounded amount of memory.

    Raises:
        ShardError: names the limit that is broken, or says that this is no Parquet file.
    """
    for number, group in enumerate(_read_footer(path)[1]):
        size = sum(max(chunk.unpacked, max(chunk.values, group.rows) * _width(chunk, 4)) for chunk in group.chunks)
        if size > MAX_GROUP_BYTES:
            found = f"row group {number} of {size} bytes, more than the {MAX_GROUP_BYTES} allowed"
            raise _breach(found, "LADD-082")


def check_pages(path: Path, layout: Layout, row_groups: Sequence[int] | None = None) -> None:
    """Compare what footer and page headers count with what the layout's columns can hold.

    Args:
        path: a shard.
        layout: its columns.
        row_groups: those whose page headers are read; None for all. The footer is looked at whole.

    Raises:
        ShardError: a column chunk or page claims more than its columns can hold, a page is not plain, or
            carries no checksum; says which.
    """
    total, groups = _read_footer(path)
    rows = [group.rows for group in groups]
    if sum(rows) != total or min(rows, default=1) < 1:
        raise _breach(f"row groups of {rows[:20]} rows in a file of {total}", "LADD-082")
    per_row = {name: math.prod(shape) for name, (shape, dtype) in layout.dense.items() if dtype != "bytes"}
    end = path.stat().st_size
    with path.open("rb") as file:
        for number, group in enumerate(groups):
            for chunk in group.chunks:
                where = f"row group {number}, column {chunk.path}"
                values = group.rows * per_row.get(chunk.path.split(".")[0], 1)
                _check_chunk(where, chunk, values, nested=values != group.rows)
                if row_groups is None or number in row_groups:
                    deque(walk_pages(where, partial(_read_at, file), chunk, end), maxlen=0)
    _refuse_overlaps(groups)


def read_groups(path: Path) -> list[RowGroup]:
    """Return the row groups of a shard that `check_pages` has been through."""
    return _read_footer(path)[1]


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, position)


def _refuse_overlaps(groups: list[RowGroup]) -> None:
    """Refuse column chunks that share bytes: a small file could stand for any number of row groups."""
    end, last = 0, ""
    for start, stop, name in sorted((c.start, c.start + c.stored, c.path) for group in groups for c in group.chunks):
        if start < end:
            raise _breach(f"column chunks {last} and {name} that share bytes {start} .. {end}", "LADD-082")
        end, last = stop, name


def _read_footer(path: Path) -> tuple[int, list[RowGroup]]:
    """Return a file's rows and its row groups."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 12 or os.pread(file.fileno(), 4, 0) != b"PAR1" or os.pread(file.fileno(), 4, size - 4) != b"PAR1":
            raise _breach("bytes that are not a Parquet file")
        length = int.from_bytes(os.pread(file.fileno(), 4, size - 8), "little")
        if length > min(size - 12, MAX_FOOTER_BYTES):
            raise _breach(f"a footer of {length} bytes in a file of {size}", "LADD-082")
        return _parse_footer(os.pread(file.fileno(), length, size - 8 - length))


@lru_cache(maxsize=1)
def _parse_footer(data: bytes) -> tuple[int, list[RowGroup]]:
    """Return rows and row groups; the last one's are kept, as a shard's footer is looked at from several sides."""
    try:
        footer = CompactReader(data, MAX_FOOTER_VALUES).read_struct()
        levels = _leaf_levels(footer[2])
        groups = [_read_group(group, levels) for group in footer[4]]
        for pair in footer.get(5, []):
            if pair[1] == _ARROW_SCHEMA:
                check_schema(base64.b64decode(pair[2]))
        return _count(footer[3]), groups
    except ShardError:
        raise
    except BudgetError as error:
        raise _breach(f"a footer of more than {MAX_FOOTER_VALUES} values", "LADD-082") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _breach(f"a Parquet footer that cannot be read ({error})") from error


def _read_group(group: dict[int, Any], levels: list[tuple[int, int]]) -> RowGroup:
    """Return a row group whose column chunks are one per leaf of the schema, as every reader relies on."""
    if len(group[1]) != len(levels):
        raise ValueError(f"a row group of {len(group[1])} columns, not {len(levels)}")
    return RowGroup(_count(group[3]), [_read_chunk(*pair) for pair in zip(group[1], levels, strict=True)])


def _read_chunk(chunk: dict[int, Any], levels: tuple[int, int]) -> Chunk:
    meta = chunk[3]
    if chunk.keys() - _CHUNK_FIELDS or 1 in chunk:
        raise ValueError("a column chunk that is encrypted or in another file")
    for field, level in zip((2, 3), levels, strict=True):  # histograms of repetition and definition levels
        histogram = meta.get(16, {}).get(field, [])
        if len(histogram) not in (0, level + 1):
            raise ValueError(f"a histogram of {len(histogram)} levels, not {level + 1}")
    name = b".".join(meta[3]).decode()
    counts = (_count(meta[number]) for number in (1, 4, 5, 6, 7, 9))
    kind, codec, values, unpacked, stored, start = counts
    return Chunk(name, kind, codec, values, unpacked, stored, start, dictionary=bool(meta.get(11)))


def _leaf_levels(schema: list[dict[int, Any]]) -> list[tuple[int, int]]:
    """Return each leaf's largest repetition and definition level, from the schema's flattened tree."""
    levels: list[tuple[int, int]] = []
    open_nodes: list[list[int]] = []  # [children to come, repetition, definition] of each node above
    for number, element in enumerate(schema):
        _, repetition, definition = open_nodes[-1] if open_nodes else (0, 0, 0)
        kind = element.get(3, 0) if number else 0
        repetition, definition = repetition + (kind == _REPEATED), definition + (kind in (_OPTIONAL, _REPEATED))
        if open_nodes:
            open_nodes[-1][0] -= 1
        if element.get(5):
            open_nodes.append([_count(element[5]), repetition, definition])
        else:
            levels.append((repetition, definition))
        while open_nodes and open_nodes[-1][0] == 0:
            open_nodes.pop()
    return levels


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{str(value)[:40]} in place of a count")
    return value


def _width(chunk: Chunk, otherwise: int) -> int:
    return _WIDTH.get(chunk.kind, otherwise)


def _check_chunk(where: str, chunk: Chunk, values: int, *, nested: bool) -> None:
    """Compare a chunk with the values it can have; fewer in a list are nulls, which the reader names."""
    if chunk.values > values or (chunk.values < values and not nested):
        raise _breach(f"{where}: {chunk.values} values, not {values}", "LADD-082")
    if chunk.dictionary:
        raise _breach(f"{where}: a dictionary, not plain values", "LADD-083")
    size = values * _width(chunk, 2)
    if size > MAX_GROUP_BYTES:
        raise _breach(f"{where}: values of {size} bytes, more than the {MAX_GROUP_BYTES} allowed", "LADD-082")
    if chunk.path == "image.bytes" and chunk.codec != _UNCOMPRESSED:
        found = f"{where}: compression around PNG files, which are compressed already"
        raise _breach(found, "LADD-083")


def walk_pages(where: str, read: Callable[[int, int], bytes], chunk: Chunk, end: int) -> Iterator[Page]:
    """Yield the pages of a column chunk, each when its own header, and nothing of its content, has been read.

    Args:
        where: what to call the chunk.
        read: (position, bytes) -> at most so many bytes of the shard from there.
        chunk: as the footer describes it.
        end: the shard's bytes.

    Raises:
        ShardError: a page claims more than the chunk can hold, is not plain, or carries no checksum.
    """
    position = chunk.start
    stop, values, size = position + chunk.stored, 0, 0
    if not 4 <= position <= stop <= end:
        raise _breach(f"{where}: bytes {position} .. {stop} of a file of {end}", "LADD-082")
    while position < stop:
        try:
            header = _read_page_header(read, position)
        except (ValueError, KeyError, AttributeError) as error:
            raise _breach(f"{where}: a page header that cannot be read at byte {position} ({error})") from error
        length, version, unpacked, stored, crc, count, encoding = header
        if encoding not in _PLAIN_ENCODINGS:
            raise _breach(f"{where}: a dictionary or packed page, not plain values", "LADD-083")
        if crc is None:
            raise _breach(f"{where}: a page without a checksum", "LADD-083")
        content = position + length
        position = content + stored
        size, values = size + length + unpacked, values + count
        if min(stored, unpacked, count) < 0 or position > stop or size > chunk.unpacked:
            found = f"{where}: a page of {unpacked} bytes in a column chunk of {chunk.unpacked}"
            raise _breach(found, "LADD-082")
        yield Page(content, stored, count, crc & 0xFFFFFFFF, unpacked, encoding, version)
    if values != chunk.values:
        raise _breach(f"{where}: pages of {values} values, not {chunk.values}", "LADD-082")


class _PageHeader(NamedTuple):
    """What a page's header says, and its own bytes."""

    length: int
    version: int
    unpacked: int
    stored: int
    crc: int | None
    values: int
    encoding: int


def _read_page_header(read: Callable[[int, int], bytes], position: int) -> _PageHeader:
    """Return a page's header; most are short, so that much is read only where one is long."""
    data = read(position, _SHORT_HEADER_BYTES)
    if usual := _USUAL_HEADER.match(data):
        unpacked, stored, crc, values, encoding = usual.groups()
        sizes = _parse_size(unpacked), _parse_size(stored), _parse_number(crc)
        return _PageHeader(usual.end(), 1, *sizes, _parse_size(values), _parse_size(encoding))
    try:
        return _parse_page_header(data)
    except ValueError:
        return _parse_page_header(read(position, _PAGE_HEADER_BYTES))


def _parse_number(data: bytes) -> int:
    """Return a number from its bytes, the lowest 7 bits first, zigzag."""
    value = 0
    for byte in reversed(data):
        value = (value << 7) | (byte & 127)
    return (value >> 1) ^ -(value & 1)


_parse_size = lru_cache(maxsize=4096)(_parse_number)
"""The same of numbers that come again and again."""


def _parse_page_header(data: bytes) -> _PageHeader:
    """Return the page header that bytes begin with, of whatever kind; raises ValueError, KeyError, AttributeError."""
    reader = CompactReader(data, _PAGE_HEADER_VALUES)
    header = reader.read_struct()
    first = header[1] == _DATA_PAGE
    page = header[5] if first else header.get(8, {})
    counts = header[2], header[3], page.get(1, 0), page.get(2 if first else 4)
    if not all(isinstance(number, int) for number in counts):
        raise ValueError("a size that is no number")
    crc = header.get(4)
    kept = crc if isinstance(crc, int) else None
    return _PageHeader(reader.position, 1 if first else 2, counts[0], counts[1], kept, counts[2], counts[3])
