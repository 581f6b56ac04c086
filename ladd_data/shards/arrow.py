"""Arrow shards: memory-mapped pixels and labels without compression, for training on one machine.

Source: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format and spec/ladd-1.0.md, section 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ladd_data.new_files import FileToMap
from ladd_data.shards import layout as parquet_layout
from ladd_data.shards.container import FEATURES_KEY, FOOTER_KEY, Footer, ShardError, ShardWriter, compact_json
from ladd_data.shards.images import PixelImages, decode_image
from ladd_data.shards.ipc import START, read_batches
from ladd_data.shards.layout import Layout, Records, arrow_type
from ladd_data.shards.plan import ShardPlan
from ladd_data.shards.tables import (
    compare_schemas,
    from_array,
    from_labels,
    refuse_nulls,
    to_array,
    to_batch,
    to_binary,
)

SUFFIX = ".arrow"
HOLDS_PIXELS = True
FILE_COLUMN = "image_file"
"""JPEG files, beside the pixels that they decode to; a dataset of PNG files does without."""


class ArrowWriter(ShardWriter):
    """Writes Arrow shards, each by way of a body file.

    An Arrow file begins with its schema, whose metadata holds the manifest, which is known when the last
    record's digest is. So batches go to a stream beside the shard first; `close` maps it and writes them
    again behind the finished schema, one batch in memory at a time.
    """

    def __init__(self, folder: Path, layout: Layout, plan: ShardPlan) -> None:
        """Open nothing yet; the folder and its data/ must exist."""
        super().__init__(folder, plan, SUFFIX)
        self._layout, self._schema = layout, arrow_schema(layout)
        self._bodies: list[tuple[pa.RecordBatchStreamWriter, pa.OSFile]] = []
        """The one being written, if there is one: the stream, and the file that it does not close."""

    def abort(self) -> None:
        """Close the files as they are; they are about to be thrown away."""
        while self._bodies:
            self._end()

    def _begin(self, path: Path) -> None:
        file = pa.OSFile(str(_body(path)), "wb")
        self._bodies.append((pa.ipc.new_stream(file, self._schema), file))

    def _write(self, group: Records) -> None:
        if isinstance(group.images, PixelImages):
            pixels = group.images.pixels
        else:
            pixels = np.stack([decode_image(group.images, row, self._layout) for row in range(len(group))])
        images = [to_array(pixels, self._schema.field("image").type)]
        if self._layout.png is None:
            images.append(to_binary(group.images))
        self._bodies[-1][0].write_batch(to_batch(group, images, self._schema))

    def _end(self) -> None:
        for part in self._bodies.pop():
            part.close()

    def _finish(self, index: int, path: Path, meta: bytes) -> None:
        features = compact_json(footer_features(self._layout))
        schema = self._schema.with_metadata({FEATURES_KEY: features, FOOTER_KEY: meta})
        body = pa.ipc.open_stream(_map(_body(path)))
        with closing(FileToMap(path)) as file, pa.ipc.new_file(file, schema) as shard:
            for batch in body:
                shard.write_batch(batch.replace_schema_metadata(schema.metadata))
        _body(path).unlink()


def open_writer(folder: Path, layout: Layout, plan: ShardPlan) -> ArrowWriter:
    """Return a writer of Arrow shards into `folder`."""
    return ArrowWriter(folder, layout, plan)


def read_records(path: Path, layout: Layout, row_groups: list[int] | None = None) -> Iterator[Records]:
    """Yield a shard's records, one batch at a time; pixels and labels are views of the mapped file.

    Raises:
        ValueError: the file is damaged, or a column is missing, of another type, or holds nulls.
    """
    check_columns(path, layout)
    try:
        reader = pa.ipc.open_file(_map(path))
        for number in range(reader.num_record_batches) if row_groups is None else row_groups:
            batch = reader.get_batch(number)
            batch.validate(full=True)
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            refuse_nulls(columns)
            pixels = from_array(columns["image"], layout.shape, "uint8")
            ids, labels, dense = from_labels(columns, layout)
            yield Records(ids, labels, PixelImages(pixels, layout.png or columns[FILE_COLUMN].to_pylist()), dense)
    except (pa.ArrowException, OSError) as error:
        raise ShardError("LADD-070", f"unreadable Arrow ({error})") from error


def check_columns(path: Path, layout: Layout) -> None:
    """Compare a shard's columns, and every batch's buffers, with the layout; maps the file, reads no record.

    Raises:
        ValueError: names the first column that is missing, additional or of another type, or the first batch
            that is compressed or claims other lengths than its columns take.
    """
    _compare(_open(path)[0].schema, layout)
    read_batches(path, arrow_schema(layout))


def read_footer(path: Path) -> Footer:
    """Return a shard's schema metadata and its number of rows; maps the file, reads no record.

    Raises:
        ValueError: not a readable Arrow file.
    """
    reader, rows = _open(path)
    return Footer(dict(reader.schema.metadata or {}), sum(rows))


def read_group_sizes(path: Path, layout: Layout) -> list[int]:
    """Return the number of rows of each batch."""
    return read_batches(path)


def column_bytes(path: Path) -> dict[str, int]:
    """Return the stored bytes of each column."""
    reader, _ = _open(path)
    sizes = dict.fromkeys(reader.schema.names, 0)
    for number in range(reader.num_record_batches):
        for name, array in zip(reader.schema.names, reader.get_batch(number).columns, strict=True):
            sizes[name] += array.nbytes
    return sizes


def arrow_schema(layout: Layout) -> pa.Schema:
    """Return the schema: that of Parquet, with uint8 pixels [channels][height][width] for the image, and JPEG files."""
    schema = parquet_layout.arrow_schema(layout).set(0, pa.field("image", arrow_type(layout.shape, "uint8")))
    return schema if layout.png else schema.insert(1, pa.field(FILE_COLUMN, pa.binary()))


def footer_features(layout: Layout) -> dict[str, Any]:
    """Return the value of the schema key `huggingface`."""
    whole = parquet_layout.footer_features(layout)
    feature: dict[str, Any] = {"dtype": "uint8", "_type": "Value"}
    for length in reversed(layout.shape):
        feature = {"feature": feature, "length": length, "_type": "List"}
    features = {**whole["info"]["features"], "image": feature}
    if layout.png is None:
        image = features.pop("image")
        features = {"image": image, FILE_COLUMN: {"dtype": "binary", "_type": "Value"}, **features}
    return {"info": {"features": features}}


def card_features(layout: Layout) -> list[dict[str, Any]]:
    """Return `dataset_info.features` of the card."""
    feature: Any = "uint8"
    for length in reversed(layout.shape):
        feature = {"list": feature, "length": length}
    file = [] if layout.png else [{"name": FILE_COLUMN, "dtype": "binary"}]
    return [{"name": "image", **feature}, *file, *parquet_layout.card_features(layout)[1:]]


def _body(path: Path) -> Path:
    return path.with_name(path.name + ".body")


def _map(path: Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as file:
        return file.read_buffer()  # the file itself, not a copy; it stays mapped as long as anything points into it


def _open(path: Path) -> tuple[pa.RecordBatchFileReader, list[int]]:
    """Open a shard whose footer and batches have been checked, and return it with the rows of each batch."""
    rows = read_batches(path)
    try:
        mapped = _map(path)
        reader = pa.ipc.open_file(mapped)
        if not pa.ipc.read_schema(mapped.slice(START)).equals(reader.schema, check_metadata=True):
            raise ShardError("LADD-070", "another schema at the start than in the footer")
        return reader, rows
    except (pa.ArrowException, OSError) as error:
        raise ShardError("LADD-070", f"unreadable Arrow ({error})") from error


def _compare(found: pa.Schema, layout: Layout) -> None:
    try:
        compare_schemas(found, arrow_schema(layout))
    except ValueError as error:
        raise ShardError("LADD-071", str(error)) from error
