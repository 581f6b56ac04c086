"""Parquet shards: records in, files out, and back. Nothing here knows what the labels mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ladd_data.new_files import HashingFile
from ladd_data.shards.container import FEATURES_KEY, FOOTER_KEY, Footer, ShardWriter, compact_json
from ladd_data.shards.layout import Layout, Records, arrow_schema
from ladd_data.shards.layout import card_features as card_features
from ladd_data.shards.layout import footer_features as footer_features
from ladd_data.shards.limits import check_pages
from ladd_data.shards.plan import ShardPlan
from ladd_data.shards.tables import (
    compare_schemas,
    from_labels,
    leaf_paths,
    refuse_nulls,
    to_batch,
    to_binary,
    to_strings,
)

_CHUNKS = {"min_chunk_size": 2**20, "max_chunk_size": 4 * 2**20, "norm_level": 0}
"""Where content-defined chunking ends pages: four times Arrow's sizes, as each page costs a reader its time."""
SUFFIX = ".parquet"
HOLDS_PIXELS = False


class ParquetFiles(ShardWriter):
    """Parquet files that are hashed as they are written; they stay open until their footers are known."""

    def __init__(self, folder: Path, plan: ShardPlan) -> None:
        """Open nothing yet."""
        super().__init__(folder, plan, SUFFIX)
        self._writers: list[pq.ParquetWriter] = []
        self._files: list[HashingFile] = []

    def abort(self) -> None:
        """Close the files as they are; they are about to be thrown away."""
        for writer, file in zip(self._writers, self._files, strict=True):
            file.abandon()
            writer.close()

    def _end(self) -> None:
        for before in self._files[-2:-1]:
            before.wait()  # so that the disk is at most a shard behind
        self._files[-1].rest()

    def _finish(self, index: int, path: Path, meta: bytes) -> None:
        self._writers[index].add_key_value_metadata({FOOTER_KEY: meta})
        self._writers[index].close()
        self._files[index].close()
        self._digests[index] = self._files[index].sha256()


class ParquetWriter(ParquetFiles):
    """Writes Parquet shards; a full one is closed, but unreadable, until `close` adds its footer."""

    def __init__(self, folder: Path, layout: Layout, plan: ShardPlan) -> None:
        """Open nothing yet; the folder and its data/ must exist."""
        super().__init__(folder, plan)
        self._schema = arrow_schema(layout).with_metadata({FEATURES_KEY: compact_json(footer_features(layout))})
        self._image_suffix = layout.suffix
        self._float32 = [name for name, (_, dtype) in layout.dense.items() if dtype == "float32"]
        self._chunked = layout.png is not None or bool(layout.dense)

    def _begin(self, path: Path) -> None:
        # The image column holds PNG or JPEG files, which zstd cannot shrink (and `stored` ones must stay fast to
        # read); nor is their column worth chunking by content where no compressed one stands beside it.
        # BYTE_STREAM_SPLIT on float32 only, because DuckDB refuses it on float16.
        leaves = {path: "NONE" if path == "image.bytes" else "ZSTD" for path in leaf_paths(self._schema)}
        split = {p: "BYTE_STREAM_SPLIT" for p in leaves if p.split(".")[0] in self._float32}
        file = HashingFile(path)
        writer = pq.ParquetWriter(
            file,
            self._schema,
            compression=leaves,
            use_dictionary=False,
            column_encoding=split or None,
            write_page_index=True,
            write_page_checksum=True,
            use_content_defined_chunking=_CHUNKS if self._chunked else False,
            data_page_size=2 * _CHUNKS["max_chunk_size"] if self._chunked else None,  # so that chunks alone end pages
        )
        self._files.append(file)
        self._writers.append(writer)

    def _write(self, group: Records) -> None:
        parts = [
            to_binary(group.images),
            to_strings(f"{name}.{self._image_suffix}" for name in group.ids),
        ]
        images = pa.StructArray.from_arrays(parts, fields=list(self._schema.field("image").type))
        table = pa.Table.from_batches([to_batch(group, [images], self._schema)])
        self._writers[-1].write_table(table, row_group_size=len(group))


def open_writer(folder: Path, layout: Layout, plan: ShardPlan) -> ParquetWriter:
    """Return a writer of Parquet shards into `folder`."""
    return ParquetWriter(folder, layout, plan)


def read_records(path: Path, layout: Layout, row_groups: list[int] | None = None) -> Iterator[Records]:
    """Yield a shard's records, one row group at a time, with page headers looked at and page checksums verified.

    Raises:
        ValueError: the file is damaged, or a column is missing, of another type, or holds nulls.
    """
    check_pages(path, layout, row_groups)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            compare_schemas(file.schema_arrow, arrow_schema(layout))
            for group in range(file.num_row_groups) if row_groups is None else row_groups:
                yield _from_table(file.read_row_group(group, columns=layout.column_names), layout)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"unreadable Parquet ({' '.join(str(error).split())})") from error


def check_columns(path: Path, layout: Layout) -> None:
    """Compare a shard's columns with the layout.

    Raises:
        ShardError: names the first column that is missing, additional, of another type, required or out of
            place; of clause LADD-030 for label columns.
    """
    compare_schemas(_read_metadata(path).schema.to_arrow_schema(), arrow_schema(layout))


def read_footer(path: Path) -> Footer:
    """Return a shard's footer keys and its number of rows, reading the footer only.

    Raises:
        ValueError: not a readable Parquet file.
    """
    metadata = _read_metadata(path)
    return Footer(dict(metadata.metadata or {}), int(metadata.num_rows))


def read_group_sizes(path: Path, layout: Layout) -> list[int]:
    """Return the number of rows of each row group, from the footer."""
    metadata = _read_metadata(path)
    return [int(metadata.row_group(number).num_rows) for number in range(metadata.num_row_groups)]


def column_bytes(path: Path) -> dict[str, int]:
    """Return the stored bytes of each top-level column, from the footer."""
    metadata = _read_metadata(path)
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            name = chunk.path_in_schema.split(".")[0]
            sizes[name] = sizes.get(name, 0) + int(chunk.total_compressed_size)
    return sizes


def _read_metadata(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"unreadable Parquet ({error})") from error


def _from_table(table: pa.Table, layout: Layout) -> Records:
    columns: dict[str, pa.Array] = {}
    for name in layout.column_names:
        array = table.column(name).combine_chunks()
        columns[name] = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    refuse_nulls(columns)
    images = columns["image"].field("bytes")
    ids, labels, dense = from_labels(columns, layout)
    return Records(ids, labels, images.to_pylist(), dense)
