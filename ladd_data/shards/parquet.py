"""Parquet shards: records in, files out, and back. Nothing here knows what the labels mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ladd_data.shards.layout import Layout, Records, arrow_schema, footer_features
from ladd_data.shards.limits import ShardError
from ladd_data.types import Array, Columns

FOOTER_KEY = b"ladd"
FEATURES_KEY = b"huggingface"
SHARD_BYTES = 400_000_000
RESERVED_PREFIXES = ("dense_", "soft_", "view_")
ROW_GROUP_BYTES = 32_000_000
"""Under the 64 MB that the Hub's viewer and column readers like, and small enough to stream."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """How many records go into each file and each row group; a pure function of count and record size."""

    count: int
    shards: int
    rows_per_shard: int
    rows_per_group: int

    def path(self, index: int) -> str:
        """Return the path of a shard inside the dataset."""
        return f"data/train-{index:05d}-of-{self.shards:05d}.parquet"


def plan_shards(count: int, record_bytes: int, shard_bytes: int = SHARD_BYTES) -> ShardPlan:
    """Split `count` records of about `record_bytes` each into equal shards of at most `shard_bytes`."""
    shards = max(1, -(-count * record_bytes // shard_bytes))
    rows = -(-count // shards)
    shards = -(-count // rows)
    return ShardPlan(count, shards, rows, max(1, min(rows, ROW_GROUP_BYTES // max(1, record_bytes))))


class ParquetWriter:
    """Writes records into shards; equal records give equal bytes, however they are cut into calls.

    The footers come last (`close`), because they carry the manifest with its digests; until then the
    files stay open and unreadable.
    """

    def __init__(self, folder: Path, layout: Layout, plan: ShardPlan) -> None:
        """Open nothing yet; the folder must exist."""
        self._folder, self._plan = folder, plan
        features = json.dumps(footer_features(layout), ensure_ascii=False, separators=(",", ":"))
        self._schema = arrow_schema(layout).with_metadata({FEATURES_KEY: features.encode()})
        self._float32 = [name for name, (_, dtype) in layout.dense.items() if dtype == "float32"]
        self._writers: list[pq.ParquetWriter] = []
        self._pending: list[Records] = []
        self._written = self._waiting = 0

    def add(self, records: Records) -> None:
        """Append records; they reach the disk one full row group at a time."""
        self._pending.append(records)
        self._waiting += len(records)
        while self._waiting >= self._next_group() > 0:
            self._flush(self._next_group())

    def close(self, manifest: bytes) -> list[str]:
        """Write the footers, each with the manifest, and return the shards' paths in the dataset.

        manifest: the bytes of meta/ladd.json.
        """
        if self._written != self._plan.count or self._waiting:
            raise ValueError(f"planned {self._plan.count} records, got {self._written + self._waiting}")
        content, digest = json.loads(manifest), hashlib.sha256(manifest).hexdigest()
        for index, writer in enumerate(self._writers):
            footer = {
                "spec_version": content["spec_version"],
                "shard": {"index": index, "count": self._plan.shards},
                "manifest_sha256": digest,
                "manifest": content,
            }
            writer.add_key_value_metadata({FOOTER_KEY: json.dumps(footer, ensure_ascii=False, separators=(",", ":"))})
            writer.close()
        return [self._plan.path(index) for index in range(self._plan.shards)]

    def abort(self) -> None:
        """Close the files as they are; they are about to be thrown away."""
        for writer in self._writers:
            writer.close()

    def _next_group(self) -> int:
        """Rows the next row group takes: a full one, or what is left of its shard."""
        in_shard = self._written % self._plan.rows_per_shard
        left = min(self._plan.rows_per_shard - in_shard, self._plan.count - self._written)
        return min(self._plan.rows_per_group, left)

    def _flush(self, rows: int) -> None:
        group = self._take(rows)
        if self._written % self._plan.rows_per_shard == 0:
            self._writers.append(self._open(len(self._writers)))
        table = pa.Table.from_batches([_to_arrow(group, self._schema)])
        self._writers[-1].write_table(table, row_group_size=rows)
        self._written += rows

    def _take(self, rows: int) -> Records:
        """Remove the first `rows` pending records, joined."""
        parts, missing = [], rows
        while missing:
            head = self._pending.pop(0)
            if len(head) > missing:
                self._pending.insert(0, head.slice(missing, len(head)))
                head = head.slice(0, missing)
            parts.append(head)
            missing -= len(head)
        self._waiting -= rows
        return _join(parts)

    def _open(self, index: int) -> pq.ParquetWriter:
        # The image column holds PNG files, which zstd cannot shrink (and `stored` ones must stay fast to
        # read); BYTE_STREAM_SPLIT on float32 only, because DuckDB refuses it on float16.
        leaves = {path: "NONE" if path == "image.bytes" else "ZSTD" for path in _leaf_paths(self._schema)}
        split = {p: "BYTE_STREAM_SPLIT" for p in leaves if p.split(".")[0] in self._float32}
        return pq.ParquetWriter(
            self._folder / self._plan.path(index),
            self._schema,
            compression=leaves,
            use_dictionary=False,
            column_encoding=split or None,
            write_page_index=True,
            write_page_checksum=True,
            use_content_defined_chunking=True,
        )


def read_records(path: Path, layout: Layout, row_groups: list[int] | None = None) -> Iterator[Records]:
    """Yield a shard's records, one row group at a time, with page checksums verified.

    Raises:
        ValueError: the file is damaged, or a column is missing, of another type, or holds nulls.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            check_columns(file.schema_arrow, layout)
            for group in range(file.num_row_groups) if row_groups is None else row_groups:
                yield _from_arrow(file.read_row_group(group, columns=layout.column_names), layout)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"unreadable Parquet ({_one_line(error)})") from error


def check_columns(found: pa.Schema, layout: Layout) -> None:
    """Compare a shard's columns with the layout.

    Raises:
        ShardError: names the first column that is missing, additional, of another type, required or out of
            place; of clause LADD-030 for label columns.
    """
    expected = arrow_schema(layout)
    for field in expected:
        clause = "LADD-030" if field.name in layout.dense else "LADD-020"
        if field.name not in found.names:
            raise ShardError(f'no column "{field.name}" (it has: {", ".join(found.names)})', clause)
        place = found.field(found.names.index(field.name))
        if not place.type.equals(field.type):
            raise ShardError(f'column "{field.name}" of type {_say(place.type)}, not {_say(field.type)}', clause)
        if not place.nullable:
            raise ShardError(f'column "{field.name}" declared as required, which hides the features from readers')
    more = [name for name in found.names if name not in expected.names or found.names.count(name) > 1]
    if more:
        reserved = more[0].startswith(RESERVED_PREFIXES)
        raise ShardError(f'an additional column "{more[0]}"', "LADD-030" if reserved else "LADD-020")
    if found.names != expected.names:
        raise ShardError(f"columns in the order {', '.join(found.names)}, not {', '.join(expected.names)}")


def read_footer(path: Path) -> tuple[dict[bytes, bytes], int, pa.Schema]:
    """Return a shard's footer keys, its number of rows and its schema, reading the footer only.

    Raises:
        ValueError: not a readable Parquet file.
    """
    try:
        metadata = pq.read_metadata(path)
        return dict(metadata.metadata or {}), int(metadata.num_rows), metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"unreadable Parquet ({error})") from error


def read_group_sizes(path: Path) -> list[int]:
    """Return the number of rows of each row group, from the footer."""
    metadata = pq.read_metadata(path)
    return [int(metadata.row_group(number).num_rows) for number in range(metadata.num_row_groups)]


def column_bytes(path: Path) -> dict[str, int]:
    """Return the stored bytes of each top-level column, from the footer."""
    metadata = pq.read_metadata(path)
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            name = chunk.path_in_schema.split(".")[0]
            sizes[name] = sizes.get(name, 0) + int(chunk.total_compressed_size)
    return sizes


def _to_arrow(records: Records, schema: pa.Schema) -> pa.RecordBatch:
    image = schema.field("image").type
    paths = [f"{name}.png" for name in records.ids]
    columns: list[pa.Array] = [
        pa.StructArray.from_arrays(
            [pa.array(records.images, pa.binary()), pa.array(paths, pa.string())], fields=list(image)
        ),
        pa.array(records.labels, pa.int64()),
        pa.array(records.ids, pa.string()),
    ]
    for name, values in records.dense.items():
        columns.append(_column_to_arrow(values, schema.field(name).type))
    return pa.record_batch(columns, schema=schema)


def _column_to_arrow(values: Array, kind: pa.DataType) -> pa.Array:
    flat = np.ascontiguousarray(values).reshape(-1)
    if pa.types.is_fixed_size_binary(kind):
        return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, pa.py_buffer(flat)])
    return _nest(pa.array(flat), kind)


def _nest(flat: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return flat
    return pa.FixedSizeListArray.from_arrays(_nest(flat, kind.value_type), type=kind)


def _from_arrow(table: pa.Table, layout: Layout) -> Records:
    def column(name: str) -> pa.Array:
        array = table.column(name).combine_chunks()
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array

    image = column("image")
    plain = {
        "image": image,
        "image.bytes": image.field("bytes"),
        "label": column("label"),
        "id": column("id"),
    }
    for name, array in plain.items():
        _refuse_nulls(name, array)
    dense: Columns = {}
    for name, (shape, dtype) in layout.dense.items():
        dense[name] = _column_to_numpy(name, column(name), shape, dtype)
    ids, images = plain["id"].to_pylist(), plain["image.bytes"].to_pylist()
    return Records(ids, np.asarray(plain["label"].to_numpy(), np.int64), images, dense)


def _column_to_numpy(name: str, array: pa.Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Return a label column as [rows, *shape], without a copy."""
    _refuse_nulls(name, array)
    if dtype == "bytes":
        start = array.offset * shape[0]
        data = np.frombuffer(array.buffers()[1], np.uint8, len(array) * shape[0], start)
        return data.reshape(len(array), *shape)
    flat = array
    for _ in shape:
        flat = flat.flatten()
        _refuse_nulls(name, flat)
    values: Array = flat.to_numpy(zero_copy_only=True).reshape(len(array), *shape)
    return values


def _refuse_nulls(name: str, array: pa.Array) -> None:
    if array.null_count:
        raise ShardError(f'{array.null_count} null values in column "{name}"')


def _join(parts: list[Records]) -> Records:
    if len(parts) == 1:
        return parts[0]
    dense = {name: np.concatenate([part.dense[name] for part in parts]) for name in parts[0].dense}
    ids = [name for part in parts for name in part.ids]
    images = [image for part in parts for image in part.images]
    return Records(ids, np.concatenate([part.labels for part in parts]), images, dense)


def _leaf_paths(schema: pa.Schema) -> list[str]:
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _say(kind: pa.DataType) -> str:
    if pa.types.is_fixed_size_list(kind):
        return f"{_say(kind.value_type)}[{kind.list_size}]"
    return str(kind)
