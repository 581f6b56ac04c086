"""Records <-> Arrow arrays: what Parquet and Arrow shards share. Labels are not copied on the way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from ladd_data.shards.container import ShardError
from ladd_data.shards.layout import Layout, Records
from ladd_data.types import Array, Columns


def to_batch(records: Records, images: list[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Return records as an Arrow batch; `images`: the image columns, which containers store in their own way."""
    columns = [*images, pa.array(records.labels, pa.int64()), pa.array(records.ids, pa.string())]
    columns += [to_array(values, schema.field(name).type) for name, values in records.dense.items()]
    return pa.record_batch(columns, schema=schema)


def to_array(values: Array, kind: pa.DataType) -> pa.Array:
    """Return a column, [rows, ...], as an Arrow array of fixed-size lists or fixed-size binary."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if pa.types.is_fixed_size_binary(kind):
        return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, pa.py_buffer(flat)])
    return _nest(pa.array(flat), kind)


def from_array(name: str, array: pa.Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Return a column as [rows, *shape], without a copy.

    Raises:
        ValueError: a value is null.
    """
    refuse_nulls(name, array)
    if dtype == "bytes":
        start = array.offset * shape[0]
        data = np.frombuffer(array.buffers()[1], np.uint8, len(array) * shape[0], start)
        return data.reshape(len(array), *shape)
    flat = array
    for _ in shape:
        flat = flat.flatten()
        refuse_nulls(name, flat)
    values: Array = flat.to_numpy(zero_copy_only=dtype != "bool").reshape(len(array), *shape)
    return values


def from_labels(columns: dict[str, pa.Array], layout: Layout) -> tuple[list[str], Array, Columns]:
    """Return ids, labels (int64 [rows]) and label columns.

    Raises:
        ValueError: a value is null.
    """
    for name in ("label", "id"):
        refuse_nulls(name, columns[name])
    dense = {name: from_array(name, columns[name], shape, dtype) for name, (shape, dtype) in layout.dense.items()}
    return columns["id"].to_pylist(), np.asarray(columns["label"].to_numpy(), np.int64), dense


def compare_schemas(found: pa.Schema, expected: pa.Schema) -> None:
    """Compare a shard's columns with the layout's.

    Raises:
        ShardError: names the first column that is missing, additional, of another type, required or out of
            place; of clause LADD-030 for label columns.
    """
    for field in expected:
        clause = _clause(field.name)
        if field.name not in found.names:
            raise ShardError(clause, f'no column "{field.name}" (it has: {", ".join(found.names)})')
        place = found.field(found.names.index(field.name))
        if not place.type.equals(field.type):
            raise ShardError(clause, f'column "{field.name}" of type {_say(place.type)}, not {_say(field.type)}')
        if not place.nullable:
            found_so = f'column "{field.name}" declared as required, which hides the features from readers'
            raise ShardError("LADD-020", found_so)
    more = [name for name in found.names if name not in expected.names or found.names.count(name) > 1]
    if more:
        raise ShardError(_clause(more[0]), f'an additional column "{more[0]}"')
    if found.names != expected.names:
        order = f"columns in the order {', '.join(found.names)}, not {', '.join(expected.names)}"
        raise ShardError("LADD-020", order)


def _clause(column: str) -> str:
    """Return the clause that a column's absence or type breaks."""
    return "LADD-030" if column.startswith(("dense_", "soft_", "view_")) else "LADD-020"


def refuse_nulls(name: str, array: pa.Array) -> None:
    """Raise ValueError where a column holds a null."""
    if array.null_count:
        raise ValueError(f'{array.null_count} null values in column "{name}"')


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
