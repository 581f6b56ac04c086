"""Croissant metadata: mlcroissant, which is not ours, takes them and reads records by them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ladd_data as ladd
from ladd_data.card.write import write_face
from ladd_data.export import export_dataset
from ladd_data.files import sha256_file
from ladd_data.shards.folder import read_metadata
from ladd_data.types import Edition

needs_mlcroissant = pytest.mark.skipif(
    find_spec("mlcroissant") is None, reason="mlcroissant is not installed: pip install -e '.[dev]'"
)
CODE = """
import json, sys, numpy
import mlcroissant
dataset = mlcroissant.Dataset(jsonld=sys.argv[1])  # raises on errors
assert not dataset.metadata.ctx.issues.errors
found = {"issues": sorted(dataset.metadata.ctx.issues.warnings), "sets": {}}
for name in sys.argv[2:]:
    rows = list(dataset.records(name))
    first = {}
    for key, value in rows[0].items():
        if hasattr(value, "convert"):
            value = numpy.asarray(value).tolist()
        first[key] = value.decode("latin-1") if isinstance(value, bytes) else value
    found["sets"][name] = [len(rows), first]
print(json.dumps(found, default=float))
"""


def read_by_mlcroissant(folder: Path, cache: Path, *sets: str) -> Any:
    settings = {"CROISSANT_CACHE": str(cache), "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    line = [sys.executable, "-c", CODE, str(folder / "croissant.json"), *sets]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def export(source: Path, edition: Edition, target: Path) -> Path:
    export_dataset(ladd.load(source), edition, target)
    return target


@needs_mlcroissant
def test_mlcroissant_reads_parquet_records_whole(labelled: Path, tmp_path: Path) -> None:
    found = read_by_mlcroissant(labelled, tmp_path, "classes", "records")["sets"]

    record = ladd.load(labelled)[0]
    assert found["classes"] == [3, {"classes/label": 0, "classes/name": "ant"}]
    count, first = found["records"]
    assert (count, first["records/label"], first["records/id"]) == (6, record.label, record.id)
    assert np.array_equal(np.array(first["records/image"]).transpose(2, 0, 1), record.image.numpy())
    stored = ladd.load(labelled).arrays.dense["dense_log_probs"][0]
    assert np.array_equal(np.array(first["records/dense_log_probs"], np.float16), stored)


@needs_mlcroissant
def test_mlcroissant_reads_the_members_of_tars(labelled: Path, tmp_path: Path) -> None:
    folder = export(labelled, "webdataset", tmp_path / "set")

    found = read_by_mlcroissant(folder, tmp_path / "cache", "records-png", "records-cls")["sets"]

    record = ladd.load(labelled)[0]
    count, first = found["records-png"]
    assert (count, first["records-png/id"]) == (6, record.id)
    assert np.array_equal(np.array(first["records-png/png"]).transpose(2, 0, 1), record.image.numpy())
    assert found["records-cls"] == [6, {"records-cls/id": record.id, "records-cls/cls": str(record.label)}]


@needs_mlcroissant
@pytest.mark.parametrize(
    "name", ["arrow", "labels-q8", "labels-topk", "boxes-flipped", "soft-and-dense", "card-with-more"]
)
def test_mlcroissant_finds_no_fault(name: str, labelled: Path, tmp_path: Path) -> None:
    corpus = Path(__file__).parents[1] / "spec/examples/valid"
    source = labelled if name == "arrow" else corpus / name / "set"
    folder = export(source, "arrow" if name == "arrow" else "parquet", tmp_path / "set")

    issues = read_by_mlcroissant(folder, tmp_path / "cache", "classes")["issues"]

    assert all("is recommended, but does not exist" in issue for issue in issues)


@needs_mlcroissant
def test_with_licence_and_citation_only_date_and_version_are_left_to_say(labelled: Path, tmp_path: Path) -> None:
    folder = read_metadata(export(labelled, "parquet", tmp_path / "set"))
    update = {"license": "cc0-1.0", "citation": "@article{a, title={b}}"}
    write_face(replace(folder, manifest=folder.manifest.model_copy(update=update)), 0)

    issues = read_by_mlcroissant(folder.path, tmp_path / "cache", "classes")["issues"]

    assert len(issues) == 2 and "datePublished" in issues[0] and "version" in issues[1]


def test_shapes_and_checksums_are_the_datasets(labelled: Path) -> None:
    document = json.loads((labelled / "croissant.json").read_bytes())

    files = {item["contentUrl"]: item["sha256"] for item in document["distribution"] if "sha256" in item}
    assert sorted(files) == ["data/train-00000-of-00001.parquet", "meta/ladd.json", "samples.png"]
    assert all(sha256_file(labelled / name) == digest for name, digest in files.items())
    fields = {field["name"]: field for part in document["recordSet"] for field in part["field"]}
    assert fields["records/dense_log_probs"]["arrayShape"] == "25,3"
    assert fields["records/dense_log_probs"]["dataType"] == "cr:Float16"
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.1"
