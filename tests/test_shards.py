"""Parquet shards and the plan that cuts them; what all containers promise is in test_containers.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladd_data.files import canonical_json
from ladd_data.png import encode_png
from ladd_data.shards.layout import Layout, Records, arrow_schema, card_features, footer_features
from ladd_data.shards.parquet import ParquetWriter
from ladd_data.shards.plan import plan_shards
from ladd_data.types import Columns, ColumnTypes

DENSE: ColumnTypes = {"dense_log_probs": ((4, 2), "float16"), "dense_logz": ((4,), "float32")}
LAYOUT = Layout(("a", "b"), DENSE, (3, 8, 8), "stored")
MANIFEST = canonical_json({"spec_version": "1.0"})


def make_records(count: int) -> Records:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (count, 3, 8, 8), np.uint8)
    dense: Columns = {
        "dense_log_probs": generator.normal(size=(count, 4, 2)).astype(np.float16),
        "dense_logz": generator.normal(size=(count, 4)).astype(np.float32),
    }
    ids = [f"r{number}" for number in range(count)]
    return Records(ids, np.arange(count) % 2, [encode_png(one, "stored") for one in image], dense)


def write(folder: Path, records: Records, shard_bytes: int) -> list[Path]:
    (folder / "data").mkdir(parents=True)
    writer = ParquetWriter(folder, LAYOUT, plan_shards(len(records), 300, shard_bytes))
    writer.add(records)
    return [folder / path for path in writer.close(MANIFEST)]


@settings(deadline=None)
@given(count=st.integers(1, 10**6), record_bytes=st.integers(1, 10**7))
def test_a_plan_holds_every_record_once_in_shards_of_bounded_size(count: int, record_bytes: int) -> None:
    plan = plan_shards(count, record_bytes)

    assert (plan.shards - 1) * plan.rows_per_shard < count <= plan.shards * plan.rows_per_shard
    assert plan.rows_per_shard == 1 or plan.rows_per_shard * record_bytes <= 400_000_000 + record_bytes
    assert plan.rows_per_group == 1 or plan.rows_per_group * record_bytes <= 64_000_000


def test_the_footer_holds_the_manifest_its_digest_and_the_shards_place(tmp_path: Path) -> None:
    paths = write(tmp_path, make_records(10), 1500)

    assert len(paths) > 1
    for index, path in enumerate(paths):
        footer = json.loads(pq.read_metadata(path).metadata[b"ladd"])
        assert footer["shard"] == {"index": index, "count": len(paths)}
        assert footer["manifest"] == {"spec_version": "1.0"}
        assert footer["manifest_sha256"] == hashlib.sha256(MANIFEST).hexdigest()


def test_pages_have_checksums_and_float32_alone_is_split_by_bytes(tmp_path: Path) -> None:
    group = pq.read_metadata(write(tmp_path, make_records(10), 10**6)[0]).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}

    assert "BYTE_STREAM_SPLIT" in columns["dense_logz.list.element"].encodings
    assert "BYTE_STREAM_SPLIT" not in columns["dense_log_probs.list.element.list.element"].encodings
    assert columns["image.bytes"].compression == "UNCOMPRESSED"
    assert columns["dense_log_probs.list.element.list.element"].compression == "ZSTD"
    assert all(column.has_offset_index for column in columns.values())


def test_a_writer_that_got_too_few_records_refuses_to_close(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    writer = ParquetWriter(tmp_path, LAYOUT, plan_shards(3, 300))
    writer.add(make_records(2))

    with pytest.raises(ValueError, match="planned 3 records, got 2"):
        writer.close(MANIFEST)
    writer.abort()


def test_features_are_what_datasets_itself_makes_of_the_schema() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features.from_dict(footer_features(LAYOUT)["info"]["features"])

    assert features.arrow_schema.equals(arrow_schema(LAYOUT))
    assert features._to_yaml_list() == card_features(LAYOUT)
