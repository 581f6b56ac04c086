"""Parquet shards read by DuckDB and polars give the numbers that we read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars
import pytest

import ladd_data as ladd
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.reencode import reencode_dataset


@pytest.fixture(scope="module")
def rungs(tmp_path_factory: pytest.TempPathFactory, paper: Path, labelled: Path) -> dict[str, Path]:
    """One dataset per kind of column: float16, float32, codes, ids."""
    home = tmp_path_factory.mktemp("rungs")
    folders = {"labelled": labelled, "paper": paper}
    for name in ("q8", "q4", "topk"):
        changes: dict[str, object] = {"logz": False} | ({"k": 2} if name == "topk" else {})
        coding = ENCODINGS[name].model_copy(update=changes)
        reencode_dataset(ladd.load(paper), coding, home / name)
        folders[name] = home / name
    return folders


def query(column: str, files: str) -> list[Any]:
    """Return a column as DuckDB reads it."""
    rows = duckdb.execute(f"select {column} from read_parquet('{files}')").fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize("name", ["labelled", "paper", "q8", "q4", "topk"])
def test_duckdb_and_polars_read_the_same_numbers(rungs: dict[str, Path], name: str) -> None:
    arrays = ladd.load(rungs[name]).arrays
    files = str(rungs[name] / "data" / "*.parquet")
    frame = polars.read_parquet(files)
    for column, values in arrays.dense.items():
        for read in (query(column, files), frame[column].to_list()):
            if isinstance(read[0], bytes):
                assert read == [row.tobytes() for row in values], column
            else:
                assert np.array_equal(np.array(read, values.dtype), values), column
    assert query("id", files) == arrays.ids
    assert frame["label"].to_list() == arrays.labels.tolist()
