"""What an Arrow shard may ask of its reader, checked before pyarrow reads more of it than its schema.

A few bytes can claim to be gigabytes: by compressed batches and dictionaries, by offsets that lead to the same
place again and again, by lengths. Footer and batches are read here first, by our own reader, and each
length is compared with what the columns need (LADD-071, LADD-072, LADD-082).

Source: https://arrow.apache.org/docs/format/Columnar.html and format/{File,Message,Schema}.fbs of Apache Arrow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from ladd_data.shards.container import MAX_FOOTER_BYTES, MAX_FOOTER_VALUES, MAX_GROUP_BYTES, ShardError
from ladd_data.shards.flatbuffer import BudgetError, Table, read_root

_MAGIC = b"ARROW1"
MAX_FIELDS = 1000
"""Of a schema, nested ones included; a dataset's has about 30."""
MAX_BATCH_BYTES = 2**20
"""Of a batch's message, which takes 16 bytes for each field and buffer, whatever their length."""
START = 8
"""Where the schema is that stream readers see; file readers take the footer's."""
_SCHEMA, _RECORD_BATCH = 1, 3
_TIMESTAMP, _UNION = 10, 14
_CONTINUATION = b"\xff\xff\xff\xff"


class Block(NamedTuple):
    """Where a record batch is: its message at `start`, of `head` bytes, then `body` bytes of buffers."""

    start: int
    head: int
    body: int

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + self.head + self.body


class _Batch(NamedTuple):
    """What a batch's message says: rows, (length, nulls) of each field, (offset, length) of each buffer."""

    rows: int
    nodes: list[tuple[int, int]]
    buffers: list[tuple[int, int]]


def read_batches(path: Path, schema: pa.Schema | None = None) -> list[int]:
    """Check the footer, the schema before it and every batch's message, and return the rows of each batch.

    Args:
        path: a shard.
        schema: the columns it must have, compared with each batch's lengths, so that no array outgrows its
            buffer; None looks at what can be said without.

    Raises:
        ShardError: this is no Arrow file, or it has what its readers would pay for: names it.
    """
    with _blaming_metadata(), path.open("rb") as file:
        blocks = _read_blocks(file.fileno())
        prefix = os.pread(file.fileno(), 8, START)
        length = min(int.from_bytes(prefix[4:], "little"), MAX_FOOTER_BYTES)
        _read_schema(prefix + os.pread(file.fileno(), length, START + len(prefix)))
        rows = []
        for number, block in enumerate(blocks):
            batch = _read_batch(file.fileno(), f"record batch {number}", block)
            if schema is not None:
                _check_batch(f"record batch {number}", batch, schema)
            rows.append(batch.rows)
        return rows


def check_schema(data: bytes) -> None:
    """Check a schema in an encapsulated message, as a Parquet footer may hold one.

    Raises:
        ShardError: it is none, or has what its readers would pay for.
    """
    with _blaming_metadata():
        _read_schema(data)


@contextmanager
def _blaming_metadata() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ShardError("LADD-070", f"unreadable Arrow ({error})") from error
    except BudgetError as error:
        raise ShardError("LADD-082", f"Arrow metadata beyond the limits ({error})") from error
    except ShardError:
        raise
    except ValueError as error:
        raise ShardError("LADD-070", f"Arrow metadata that cannot be read ({error})") from error


def _check_batch(where: str, batch: _Batch, schema: pa.Schema) -> None:
    """Compare a batch's lengths with what the columns take."""
    size = sum(batch.rows * _row_bits(field.type) for field in schema) // 8
    if size > MAX_GROUP_BYTES:
        raise ShardError("LADD-082", f"{where} of {size} bytes, more than the {MAX_GROUP_BYTES} allowed")
    expected = [(field.name, *node) for field in schema for node in _nodes(field.type, batch.rows)]
    count = sum(len(sizes) for _, _, sizes in expected)
    if len(batch.nodes) != len(expected) or len(batch.buffers) != count:
        found = f"{len(batch.nodes)} fields and {len(batch.buffers)} buffers, not {len(expected)} and {count}"
        raise ShardError("LADD-071", f"{where}: {found}")
    buffers = iter(batch.buffers)
    for (length, nulls), (column, values, sizes) in zip(batch.nodes, expected, strict=True):
        if length != values:
            raise ShardError("LADD-082", f'{where}, column "{column}": {length} values, not {values}')
        for place, wanted in enumerate(sizes):
            found_size = next(buffers)[1]
            absent = place == 0 and not nulls and not found_size  # without nulls there need be no list of them
            if found_size < wanted and not absent:
                found = f"a buffer of {found_size} bytes for {values} values, which take {wanted}"
                raise ShardError("LADD-082", f'{where}, column "{column}": {found}')


def _read_blocks(file: int) -> list[Block]:
    """Read the footer: no dictionaries, and batches in file order that share no byte."""
    size = os.fstat(file).st_size
    tail = os.pread(file, 10, max(0, size - 10))
    if size < START + 14 or os.pread(file, 6, 0) != _MAGIC or tail[4:] != _MAGIC:
        raise ShardError("LADD-070", "bytes that are not an Arrow file")
    length = int.from_bytes(tail[:4], "little", signed=True)
    if not 0 < length <= min(size - START - 10, MAX_FOOTER_BYTES):
        raise ShardError("LADD-082", f"a footer of {length} bytes in a file of {size}")
    stop = size - 10 - length
    footer = read_root(os.pread(file, length, stop), MAX_FOOTER_VALUES)
    schema = footer.table(1)
    if schema is None:
        raise ValueError("no schema")
    _visit_schema(schema)
    _visit_texts(footer.tables(4))
    if footer.structs(2, "<qi4xq"):
        raise ShardError("LADD-071", "a dictionary, which no column of this format has")
    blocks = [Block(*numbers) for numbers in footer.structs(3, "<qi4xq")]
    end = START
    for number, block in enumerate(blocks):
        if block.start < end or block.start % 8 or block.head < 8 or block.body < 0 or block.stop > stop:
            found = f"record batch {number} at bytes {block.start} .. {block.stop}, expected inside {end} .. {stop}"
            raise ShardError("LADD-082", found)
        end = block.stop
    return blocks


def _read_schema(data: bytes) -> None:
    start = 4 if data[:4] == _CONTINUATION else 0  # which old writers left out
    size = int.from_bytes(data[start : start + 4], "little")
    if not 0 < size <= len(data) - start - 4:
        raise ValueError("no schema in a message of its own")
    message = read_root(data[start + 4 : start + 4 + size], MAX_FOOTER_VALUES)
    schema = message.table(2)
    if message.number(1, "<B") != _SCHEMA or schema is None:
        raise ValueError("a message that is no schema")
    _visit_texts(message.tables(4))
    _visit_schema(schema)


def _visit_schema(schema: Table) -> None:
    """Look at everything a schema has, so that it is counted."""
    if schema.number(0, "<h"):
        raise ShardError("LADD-072", "big-endian values")
    _visit_texts(schema.tables(2))
    fields, left = schema.tables(1), MAX_FIELDS
    while fields:
        field, left = fields.pop(), left - 1
        if left < 0:
            raise BudgetError(f"a schema of more than {MAX_FIELDS} fields")
        field.skip_text(0)
        kind = field.table(3)
        if kind is not None and field.number(2, "<B") == _TIMESTAMP:
            kind.skip_text(1)  # the time zone
        if kind is not None and field.number(2, "<B") == _UNION:
            kind.structs(1, "<i")
        _visit_texts(field.tables(6))
        fields += field.tables(5)


def _visit_texts(pairs: list[Table]) -> None:
    for pair in pairs:
        pair.skip_text(0)
        pair.skip_text(1)


def _read_batch(file: int, where: str, block: Block) -> _Batch:
    """Read a batch's message: not compressed, every buffer inside of the body, none twice."""
    if block.head > MAX_BATCH_BYTES:
        raise ShardError("LADD-082", f"{where}: metadata of {block.head} bytes")
    data = os.pread(file, block.head, block.start)
    if data[:4] != _CONTINUATION or int.from_bytes(data[4:8], "little") != block.head - 8:
        raise ValueError(f"{where}: another length before it than in the footer")
    message = read_root(data[8:], MAX_FOOTER_VALUES)
    kind, batch = message.number(1, "<B"), message.table(2)
    if kind != _RECORD_BATCH or batch is None or message.number(3, "<q") != block.body:
        raise ValueError(f"{where}: no record batch of the length in the footer")
    if batch.table(3) is not None:
        raise ShardError("LADD-072", f"{where} compressed")
    _visit_texts(message.tables(4))
    rows = batch.number(0, "<q")
    nodes = [(length, nulls) for length, nulls in batch.structs(1, "<qq")]
    buffers = [(offset, length) for offset, length in batch.structs(2, "<qq")]
    if batch.structs(4, "<q"):
        raise ShardError("LADD-071", f"{where}: columns in pieces")
    if rows < 1 or any(not -1 <= nulls <= length for length, nulls in nodes):
        raise ShardError("LADD-082", f"{where}: {rows} rows, or nulls in other numbers than values")
    end = 0
    for offset, length in buffers:
        if offset < end or offset % 8 or length < 0 or offset + length > block.body:
            found = f"a buffer at bytes {offset} .. {offset + length}, expected inside {end} .. {block.body}"
            raise ShardError("LADD-082", f"{where}: {found}")
        end = offset + length
    return _Batch(rows, nodes, buffers)


def _nodes(kind: pa.DataType, values: int) -> Iterator[tuple[int, list[int]]]:
    """Yield the values of a column and of what is nested in it, each with the least bytes of its buffers."""
    bitmap = -(-values // 8)
    if pa.types.is_fixed_size_list(kind):
        yield values, [bitmap]
        yield from _nodes(kind.value_type, values * kind.list_size)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        yield values, [bitmap, 4 * (values + 1), 0]
    else:
        yield values, [bitmap, -(-values * kind.bit_width // 8)]


def _row_bits(kind: pa.DataType) -> int:
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _row_bits(kind.value_type)
    return 32 if pa.types.is_string(kind) or pa.types.is_binary(kind) else int(kind.bit_width)
