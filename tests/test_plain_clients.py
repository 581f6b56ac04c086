"""The dataset opens with other people's libraries, in a process that cannot import ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from plainly import run_plainly

import ladd_data as ladd


def test_load_dataset_gives_picture_class_and_dense_labels(labelled: Path, tmp_path: Path) -> None:
    code = f"""import datasets
d = datasets.load_dataset({str(labelled)!r})['train']
d = d.with_format('numpy', columns=['dense_log_probs'], output_all_columns=True)
r = d[0]
print(r['image'].size, r['label'], r['dense_log_probs'].shape, d.features['label'].names)"""

    assert run_plainly(code, tmp_path).strip() == "(32, 32) 0 (25, 3) ['ant', 'bee', 'cat']"


def test_load_dataset_streams_the_same(labelled: Path, tmp_path: Path) -> None:
    code = f"""import datasets, numpy
d = datasets.load_dataset({str(labelled)!r}, streaming=True)['train']
r = list(d)[5]
print(r['image'].size, r['label'], numpy.array(r['dense_log_probs']).shape, d.features['label'].names)
r = list(d.with_format('numpy'))[0]  # to the end: datasets 5.2 may abort at exit on a stream left half read
print(r['image'].shape, r['dense_log_probs'].shape)"""

    assert run_plainly(code, tmp_path).splitlines() == [
        "(32, 32) 2 (25, 3) ['ant', 'bee', 'cat']",
        "(32, 32, 3) (25, 3)",
    ]


def test_without_the_card_the_footers_suffice(labelled: Path, tmp_path: Path) -> None:
    code = f"""import datasets
d = datasets.load_dataset('parquet', data_files={str(labelled / "data" / "*.parquet")!r})['train']
print(d[0]['image'].size, d.features['label'].names, len(d[0]['dense_log_probs']))"""

    assert run_plainly(code, tmp_path).strip() == "(32, 32) ['ant', 'bee', 'cat'] 25"


def test_another_users_map_and_to_parquet_is_recognised_as_such(labelled: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    (target / "data").mkdir(parents=True)
    (target / "meta").mkdir()
    for name in ("README.md", "meta/ladd.json", "meta/shards.json"):
        (target / name).write_bytes((labelled / name).read_bytes())
    shard = next((labelled / "data").iterdir()).name
    code = f"""import datasets
d = datasets.load_dataset({str(labelled)!r})['train'].filter(lambda r: r['label'] > 0)
d.to_parquet({str(target / "data" / shard)!r})"""
    run_plainly(code, tmp_path / "cache")

    report = ladd.validate(target)

    assert not report.valid and any(problem.where == f"data/{shard}" for problem in report.problems)


def test_pyarrow_reads_the_same_numbers(labelled: Path) -> None:
    table = pq.read_table(labelled / "data")
    dense = table.column("dense_log_probs").combine_chunks().flatten().flatten().to_numpy()

    stored = ladd.load(labelled).arrays.dense["dense_log_probs"]
    assert dense.dtype == np.float16 and np.array_equal(dense.reshape(6, 25, 3), stored)
