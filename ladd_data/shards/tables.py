"""Records <-> Arrow arrays: what Parquet and Arrow shards share. Labels are not copied on the way.

Arrays are made from their buffers: `pa.array` and `to_numpy` would import pandas, a third of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from ladd_data.joined_files import join_files
from ladd_data.shards.container import ShardError
from ladd_data.shards.layout import Layout, Records
from ladd_data.types import Array, Columns

_BINARY = pa.binary()
_NAMED = 30
"""Columns that a message names."""


def to_batch(records: Records, images: list[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Return records as an Arrow batch; `images`: the image columns, which containers store in their own way."""
    columns = [*images, to_array(records.labels, pa.int64()), to_strings(records.ids)]
    columns += [to_array(values, schema.field(name).type) for name, values in records.dense.items()]
    return pa.record_batch(columns, schema=schema)


def to_array(values: Array, kind: pa.DataType) -> pa.Array:
    """Return a column, [rows, ...], as an Arrow array of numbers, fixed-size lists or fixed-size binary.

    Raises:
        TypeError: its numbers are of another type than `kind` says.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if pa.types.is_fixed_size_binary(kind):
        return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, pa.py_buffer(flat)])
    value = kind
    while pa.types.is_fixed_size_list(value):
        value = value.value_type
    if pa.from_numpy_dtype(flat.dtype) != value:
        raise TypeError(f"a column of {flat.dtype}, not {value}")
    data = np.packbits(flat, bitorder="little") if pa.types.is_boolean(value) else flat
    return _nest(pa.Array.from_buffers(value, len(flat), [None, pa.py_buffer(data)]), kind)


def to_binary(files: Sequence[bytes], kind: pa.DataType = _BINARY) -> pa.Array:
    """Return files as an Arrow array; those that lie one behind the other already (`JoinedFiles`) without a copy."""
    joined = join_files(files)
    buffers = [None, pa.py_buffer(np.ascontiguousarray(joined.ends)), pa.py_buffer(joined.data[: joined.ends[-1]])]
    return pa.Array.from_buffers(kind, len(joined), buffers)


def to_strings(texts: Iterable[str]) -> pa.Array:
    """Return texts as an Arrow array."""
    return to_binary([text.encode() for text in texts], pa.string())


def from_array(array: pa.Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Return a column without nulls as [rows, *shape], without a copy."""
    if dtype == "bytes":
        start = array.offset * shape[0]
        data = np.frombuffer(array.buffers()[1], np.uint8, len(array) * shape[0], start)
        return data.reshape(len(array), *shape)
    flat = array
    for _ in shape:
        flat = _unnest(flat)
    if dtype == "bool":
        values: Array = flat.to_numpy(zero_copy_only=False)
    else:
        start = flat.offset * np.dtype(dtype).itemsize
        values = np.frombuffer(flat.buffers()[1], dtype, len(flat), start)
    return values.reshape(len(array), *shape)


def from_labels(columns: dict[str, pa.Array], layout: Layout) -> tuple[list[str], Array, Columns]:
    """Return ids, labels (int64 [rows]) and label columns, of columns without nulls."""
    dense = {name: from_array(columns[name], shape, dtype) for name, (shape, dtype) in layout.dense.items()}
    return columns["id"].to_pylist(), from_array(columns["label"], (), "int64"), dense


def compare_schemas(found: pa.Schema, expected: pa.Schema) -> None:
    """Compare a shard's columns with the layout's.

    Raises:
        ShardError: names the first column that is missing, additional, of another type, required or out of
            place; of clause LADD-030 for label columns.
    """
    names: list[str] = found.names  # made anew each time it is asked for; a hostile shard may have a hundred thousand
    for field in expected:
        clause = _clause(field.name)
        if field.name not in names:
            raise ShardError(clause, f'no column "{field.name}" (it has: {_list(names)})')
        place = found.field(names.index(field.name))
        if not place.type.equals(field.type):
            raise ShardError(clause, f'column "{field.name}" of type {_say(place.type)}, not {_say(field.type)}')
        if not place.nullable:
            found_so = f'column "{field.name}" declared as required, which hides the features from readers'
            raise ShardError("LADD-020", found_so)
    wanted, times = set(expected.names), Counter(names)
    more = [name for name in names if name not in wanted or times[name] > 1]
    if more:
        raise ShardError(_clause(more[0]), f'an additional column "{more[0]}"')
    if names != expected.names:
        order = f"columns in the order {_list(names)}, not {_list(expected.names)}"
        raise ShardError("LADD-020", order)


def _list(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _clause(column: str) -> str:
    """Return the clause that a column's absence or type breaks."""
    return "LADD-030" if column.startswith(("dense_", "soft_", "view_")) else "LADD-020"


def refuse_nulls(columns: dict[str, pa.Array]) -> None:
    """Refuse columns that hold a null, on whatever level of their lists.

    Raises:
        ShardError: names column, row and id of the first.
    """
    for name, array in columns.items():
        found = _first_null(array, name)
        if found is not None:
            row, where = found
            raise ShardError("LADD-020", f'null in column "{where}"', row, columns["id"][row].as_py())


def _first_null(array: pa.Array, name: str) -> tuple[int, str] | None:
    """Return the first row of a column in which something is null, and the (inner) column's name."""
    if array.null_count:
        return array.is_null().index(True).as_py(), name
    if pa.types.is_fixed_size_list(array.type):
        inner = _first_null(_unnest(array), name)
        return (inner[0] // array.type.list_size, name) if inner else None
    if pa.types.is_struct(array.type):
        parts = zip(array.type, array.flatten(), strict=True)
        return next((found for field, part in parts if (found := _first_null(part, f"{name}.{field.name}"))), None)
    return None


def _unnest(lists: pa.FixedSizeListArray) -> pa.Array:
    """Return the values of lists of which none is null; `flatten` does the same by way of pyarrow.compute."""
    size = lists.type.list_size
    return lists.values.slice(lists.offset * size, len(lists) * size)


def leaf_paths(schema: pa.Schema) -> list[str]:
    """Return Parquet's own path of each leaf column, as its options are addressed."""

    def leaves(field: pa.Field, path: str) -> Iterator[str]:
        if pa.types.is_struct(field.type):
            for child in field.type:
                yield from leaves(child, f"{path}.{child.name}")
        elif pa.types.is_fixed_size_list(field.type):
            yield from leaves(field.type.value_field, f"{path}.list.element")
        else:
            yield path

    return [leaf for field in schema for leaf in leaves(field, field.name)]


def _nest(flat: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return flat
    return pa.FixedSizeListArray.from_arrays(_nest(flat, kind.value_type), type=kind)


def _say(kind: pa.DataType) -> str:
    if pa.types.is_fixed_size_list(kind):
        return f"{_say(kind.value_type)}[{kind.list_size}]"
    return str(kind)
