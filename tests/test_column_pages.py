"""Pages of label columns, taken apart without Arrow's lists: what Arrow reads, or an error that names the column."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ladd_data as ladd
from ladd_data.loaders.reading.column_pages import NumberPages, RowPages, TextPages
from ladd_data.shards.container import ShardError
from ladd_data.shards.layout import arrow_type
from ladd_data.shards.limits import Chunk, read_groups, walk_pages
from ladd_data.shards.tables import to_array

ROWS = 700
KINDS: list[tuple[tuple[int, ...], str]] = [
    ((25, 10), "float16"),
    ((5, 7), "float32"),
    ((3,), "uint8"),
    ((4, 4), "uint16"),
    ((6,), "uint32"),
    ((9,), "bool"),
    ((37,), "bytes"),
]


def write(path: Path, array: pa.Array, **options: Any) -> Chunk:
    """Write one column as our writers do, in several pages; return its chunk."""
    plain = {"use_dictionary": False, "write_page_checksum": True, "data_page_size": 256, "write_batch_size": 64}
    pq.write_table(pa.table({"column": array}), path, **(plain | options))
    return read_groups(path)[0].chunks[0]


def read(path: Path, chunk: Chunk, pages: Any) -> None:
    data = path.read_bytes()
    found = list(walk_pages("column", lambda at, size: data[at : at + size], chunk, len(data)))
    assert len(found) > 1
    for page in found:
        pages.add(page, memoryview(data)[page.start : page.start + page.size])


@pytest.mark.parametrize(("shape", "dtype"), KINDS)
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
def test_numbers_are_those_that_were_written(
    shape: tuple[int, ...], dtype: str, compression: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    stored = np.dtype(np.uint8 if dtype == "bytes" else dtype)
    drawn = random.normal(size=(ROWS, *shape)) if stored.kind == "f" else random.integers(0, 60000, (ROWS, *shape))
    values = (drawn % 2 if dtype == "bool" else drawn).astype(stored)
    encoding = {"column.list.element.list.element": "BYTE_STREAM_SPLIT"} if dtype == "float32" else None
    array = to_array(values, arrow_type(shape, dtype))
    chunk = write(tmp_path / "set", array, compression=compression, column_encoding=encoding)

    out = np.empty((ROWS, *shape), stored)
    pages = NumberPages("column", chunk, out, shape, dtype)
    read(tmp_path / "set", chunk, pages)
    pages.end()

    assert np.array_equal(out, values)

    rows = RowPages("column", chunk, ROWS, shape, dtype)
    parts: list[np.ndarray[Any, Any]] = []
    read(tmp_path / "set", chunk, SimpleNamespace(add=lambda page, data: parts.append(rows.rows(page, data).copy())))
    rows.end()
    assert {part.shape[1:] for part in parts} == {shape} and {part.dtype for part in parts} == {stored}
    assert np.array_equal(np.concatenate(parts), values)


@pytest.mark.parametrize("what", ["value", "list", "short", "more"])
def test_values_that_are_missing_or_too_many_are_refused(what: str, tmp_path: Path) -> None:
    rows: list[Any] = [[1.0, 2.0, 3.0] for _ in range(ROWS)]
    rows[300] = {"value": [1.0, None, 3.0], "list": None, "short": [1.0], "more": [1.0, 2.0, 3.0, 4.0]}[what]
    chunk = write(tmp_path / "set", pa.array(rows, pa.list_(pa.float32())), compression="zstd")

    pages = NumberPages("column", chunk, np.empty((ROWS, 3), np.float32), (3,), "float32")
    with pytest.raises(ShardError, match="column: "):
        read(tmp_path / "set", chunk, pages)
        pages.end()


def test_texts_are_those_that_were_written(tmp_path: Path) -> None:
    texts = [f"{number}-{'é' * (number % 7)}" for number in range(3000)]
    chunk = write(tmp_path / "set", pa.array(texts), compression="zstd")

    pages = TextPages("column", chunk)
    read(tmp_path / "set", chunk, pages)
    assert pages.read() == texts

    chunk = write(tmp_path / "null", pa.array([*texts[:50], None, *texts[51:]]), compression="none")
    pages = TextPages("column", chunk)
    read(tmp_path / "null", chunk, pages)
    with pytest.raises(ShardError, match="null"):
        pages.read()


def test_pages_that_our_writers_do_not_make_are_refused(tmp_path: Path) -> None:
    values = to_array(np.ones((ROWS, 3), np.float32), arrow_type((3,), "float32"))
    chunk = write(tmp_path / "set", values, compression="zstd", data_page_version="2.0")

    with pytest.raises(ShardError, match="version 2"):
        read(tmp_path / "set", chunk, NumberPages("column", chunk, np.empty((ROWS, 3)), (3,), "float32"))


def test_a_damaged_page_of_labels_is_named_by_its_checksum_not_as_a_value_that_is_missing(
    labelled: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(labelled, tmp_path / "set"))
    (shard,) = (folder / "data").iterdir()
    group = pq.read_metadata(shard).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    chunk = next(one for one in columns if one.path_in_schema.startswith("dense_log_probs"))
    data = bytearray(shard.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 5] ^= 1
    shard.write_bytes(data)

    with pytest.raises(ladd.DatasetError, match=r"column dense_log_probs.*crc32 .* whose header states.*LADD-003"):
        list(ladd.stream(folder, 7))
