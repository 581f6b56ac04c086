"""What a Parquet shard may ask of its reader, checked before a page of it is decompressed.

A few bytes can claim to be gigabytes: by what the footer counts, by a page's stated size, by a dictionary
whose one entry stands for every row, by nulls. Each is compared here with what the columns can need
(LADD-082), and each page must be plain and carry its checksum (LADD-083).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ladd_data.shards.layout import Layout
from ladd_data.shards.thrift import BudgetError, CompactReader

MAX_FOOTER_BYTES = 64 * 2**20
MAX_FOOTER_VALUES = 500_000
"""A shard of 13 row groups and 8 columns has about 5,000."""
MAX_GROUP_BYTES = 128 * 2**20
"""Decoded bytes of one row group; writers aim at a quarter of it."""

_PAGE_HEADER_BYTES, _PAGE_HEADER_VALUES = 65536, 1000
_DATA_PAGE = 0
_PLAIN_ENCODINGS = {0: "PLAIN", 9: "BYTE_STREAM_SPLIT"}
_WIDTH = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


class ShardError(ValueError):
    """A shard breaks a clause; the message says what was found."""

    def __init__(self, found: str, clause: str = "LADD-020") -> None:
        """Keep the clause beside the message."""
        self.clause = clause
        super().__init__(found)


def clause_of(error: ValueError) -> str:
    """Return the clause that an error of reading a shard belongs to; LADD-020 where it does not say."""
    return error.clause if isinstance(error, ShardError) else "LADD-020"


def check_footer(path: Path) -> None:
    """Check that reading the footer, and any row group it lists, takes a bounded amount of memory.

    Raises:
        ShardError: names the limit that is broken, or says that this is no Parquet file.
    """
    with path.open("rb") as file:
        _check_footer_bytes(file, path.stat().st_size)
    metadata = _read_metadata(path)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        size = sum(_decoded_bytes(group.column(index), group.num_rows) for index in range(group.num_columns))
        if size > MAX_GROUP_BYTES:
            found = f"row group {number} of {size} bytes, more than the {MAX_GROUP_BYTES} allowed"
            raise ShardError(found, "LADD-082")


def check_pages(path: Path, layout: Layout, *, walk: bool = True) -> None:
    """Compare what footer and page headers count with what the layout's columns can hold.

    Args:
        path: a shard whose footer was checked.
        layout: its columns, which have been compared with the shard's.
        walk: read every page header; False looks at the footer only.

    Raises:
        ShardError: a column chunk or page claims more than its columns can hold, a page is not plain, or
            carries no checksum; says which.
    """
    metadata = _read_metadata(path)
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if sum(rows) != metadata.num_rows or min(rows, default=1) < 1:
        raise ShardError(f"row groups of {rows} rows in a file of {metadata.num_rows}", "LADD-082")
    per_row = {name: math.prod(shape) for name, (shape, dtype) in layout.dense.items() if dtype != "bytes"}
    end = path.stat().st_size
    with path.open("rb") as file:
        for number, count in enumerate(rows):
            for index in range(metadata.num_columns):
                chunk = metadata.row_group(number).column(index)
                where = f"row group {number}, column {chunk.path_in_schema}"
                values = count * per_row.get(str(chunk.path_in_schema).split(".")[0], 1)
                _check_chunk(where, chunk, values, nested=values != count)
                if walk:
                    _walk_pages(where, file, chunk, end)


def _check_footer_bytes(file: BinaryIO, size: int) -> None:
    if size < 12 or os.pread(file.fileno(), 4, 0) != b"PAR1" or os.pread(file.fileno(), 4, size - 4) != b"PAR1":
        raise ShardError("bytes that are not a Parquet file")
    length = int.from_bytes(os.pread(file.fileno(), 4, size - 8), "little")
    if length > min(size - 12, MAX_FOOTER_BYTES):
        raise ShardError(f"a footer of {length} bytes in a file of {size}", "LADD-082")
    try:
        CompactReader(os.pread(file.fileno(), length, size - 8 - length), MAX_FOOTER_VALUES).read_struct()
    except BudgetError as error:
        raise ShardError(f"a footer of more than {MAX_FOOTER_VALUES} values", "LADD-082") from error
    except ValueError as error:
        raise ShardError(f"a Parquet footer that cannot be read ({error})") from error


def _read_metadata(path: Path) -> Any:
    try:
        return pq.read_metadata(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardError(f"unreadable Parquet ({error})") from error


def _decoded_bytes(chunk: Any, rows: int) -> int:
    """Return what a column chunk takes once read: by its stated size, or by its values if they need more."""
    width = _WIDTH.get(str(chunk.physical_type), 4)
    return max(int(chunk.total_uncompressed_size), max(int(chunk.num_values), rows) * width)


def _check_chunk(where: str, chunk: Any, values: int, *, nested: bool) -> None:
    """Compare a chunk with the values it can have; fewer in a list are nulls, which the reader names."""
    if chunk.num_values > values or (chunk.num_values < values and not nested):
        raise ShardError(f"{where}: {chunk.num_values} values, not {values}", "LADD-082")
    size = values * _WIDTH.get(str(chunk.physical_type), 2)
    if size > MAX_GROUP_BYTES:
        raise ShardError(f"{where}: values of {size} bytes, more than the {MAX_GROUP_BYTES} allowed", "LADD-082")
    if chunk.path_in_schema == "image.bytes" and chunk.compression != "UNCOMPRESSED":
        found = f"{where}: {chunk.compression} around PNG files, which are compressed already"
        raise ShardError(found, "LADD-083")


def _walk_pages(where: str, file: BinaryIO, chunk: Any, end: int) -> None:
    """Read the header of each page of a column chunk, and nothing of its content."""
    position = chunk.data_page_offset
    if chunk.has_dictionary_page:
        raise ShardError(f"{where}: a dictionary, not plain values", "LADD-083")
    stop, values, size = position + chunk.total_compressed_size, 0, 0
    if not 4 <= position <= stop <= end:
        raise ShardError(f"{where}: bytes {position} .. {stop} of a file of {end}", "LADD-082")
    while position < stop:
        reader = CompactReader(os.pread(file.fileno(), _PAGE_HEADER_BYTES, position), _PAGE_HEADER_VALUES)
        try:
            header = reader.read_struct()
            page = header[5] if header[1] == _DATA_PAGE else header.get(8, {})
            stored, unpacked, count = header[3], header[2], page.get(1, 0)
            encoding = page.get(2 if header[1] == _DATA_PAGE else 4)
            if not all(isinstance(number, int) for number in (stored, unpacked, count)):
                raise ValueError("a size that is no number")
        except (ValueError, KeyError, AttributeError) as error:
            raise ShardError(f"{where}: a page header that cannot be read at byte {position} ({error})") from error
        if encoding not in _PLAIN_ENCODINGS:
            raise ShardError(f"{where}: a dictionary or packed page, not plain values", "LADD-083")
        if 4 not in header:
            raise ShardError(f"{where}: a page without a checksum", "LADD-083")
        position += reader.position + stored
        size, values = size + reader.position + unpacked, values + count
        if min(stored, unpacked, count) < 0 or position > stop or size > chunk.total_uncompressed_size:
            found = f"{where}: a page of {unpacked} bytes in a column chunk of {chunk.total_uncompressed_size}"
            raise ShardError(found, "LADD-082")
    if values != chunk.num_values:
        raise ShardError(f"{where}: pages of {values} values, not {chunk.num_values}", "LADD-082")
