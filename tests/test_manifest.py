"""The manifest: what is read equals what was written, and every breach is named with its path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ladd_data.errors import DatasetError
from ladd_data.files import canonical_json
from ladd_data.manifest_json import dump_manifest, parse_manifest
from ladd_data.schema import manifest_schema

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def document(labelled: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((labelled / "meta" / "ladd.json").read_text())
    return content


def clauses(document: Any) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        parse_manifest(canonical_json(document))
    return [problem.clause for problem in caught.value.problems]


def test_a_manifest_comes_back_equal_and_fulfils_the_schema(document: dict[str, Any]) -> None:
    data = canonical_json(document)

    assert dump_manifest(parse_manifest(data)) == data
    jsonschema.Draft202012Validator(manifest_schema()).validate(document)


def test_optional_fields_may_be_absent(document: dict[str, Any]) -> None:
    for field in ("license", "citation", "requires", "extensions", "labels"):
        del document[field]

    assert parse_manifest(canonical_json(document)).labels is None
    jsonschema.Draft202012Validator(manifest_schema()).validate(document)


@pytest.mark.parametrize(
    ("clause", "change"),
    [
        ("LADD-010", lambda d: d.pop("classes")),
        ("LADD-010", lambda d: d.update(name="no spaces")),
        ("LADD-010", lambda d: d.update(surprise=1)),
        ("LADD-010", lambda d: d["images"].update(count="6")),
        ("LADD-010", lambda d: d["images"].update(channels=4)),
        ("LADD-010", lambda d: d.update(digest="ABC")),
        ("LADD-010", lambda d: d["labels"]["views"].update(kind="spiral")),
        ("LADD-010", lambda d: d["labels"]["views"].update(ratio="0.625")),
        ("LADD-011", lambda d: d.update(spec_version="2.0")),
        ("LADD-011", lambda d: d.update(spec_version=1.0)),
        ("LADD-011", lambda d: d.pop("spec_version")),
        ("LADD-012", lambda d: d.update(requires=["time-travel"])),
        ("LADD-013", lambda d: d["images"]["affine"].update(scale=[1.0])),
        ("LADD-013", lambda d: d["classes"].update(names=["ant", "ant", "cat"])),
        ("LADD-013", lambda d: d["classes"].update(ids=["1"])),
        ("LADD-013", lambda d: d["images"].update(whitening="zca")),
        ("LADD-013", lambda d: d["labels"]["views"].update(ratio="9/8")),
        ("LADD-013", lambda d: d["labels"]["coding"].update(space="probs", logz=False)),
        ("LADD-013", lambda d: d["labels"]["coding"].update(space="logits")),
        ("LADD-013", lambda d: d["labels"]["coding"].update(encoding="topk")),
        ("LADD-013", lambda d: d["labels"]["coding"].update(k=2)),
        ("LADD-013", lambda d: d["labels"]["coding"].update(encoding="topk", k=3)),
        ("LADD-013", lambda d: d["labels"]["coding"].update(encoding="q8", dtype="float32")),
        ("LADD-010", lambda d: d["labels"]["coding"].update(encoding="zip")),
        ("LADD-013", lambda d: d["labels"]["labeler"]["network"].update(classes=4)),
        ("LADD-013", lambda d: d["labels"]["golden"][0].update(view=25)),
    ],
)
def test_a_breach_is_named(document: dict[str, Any], clause: str, change: Change) -> None:
    change(document)

    assert clauses(document) == [clause]


def test_all_breaches_are_shown_together_each_with_its_path(document: dict[str, Any]) -> None:
    document["images"]["height"] = -1
    document["labels"]["golden"][0]["pixels"] = "x"

    with pytest.raises(DatasetError, match=r"images\.height[\s\S]*labels\.golden\.0\.pixels"):
        parse_manifest(canonical_json(document))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": 1e999}', "[" * 100_000])
def test_what_is_not_strict_json_is_refused(text: str) -> None:
    with pytest.raises(DatasetError):
        parse_manifest(text.encode())


def test_a_newer_minor_version_is_read_with_one_warning_and_its_unknown_keys_ignored(document: dict[str, Any]) -> None:
    document["spec_version"] = "1.7"
    document["images"]["hologram"] = {"depth": 3}
    document["labels"]["golden"][1]["scent"] = "rose"

    with pytest.warns(UserWarning, match="unknown keys are ignored") as caught:
        manifest = parse_manifest(canonical_json(document))

    assert len(caught) == 1
    assert manifest.spec_version == "1.7"


def test_a_newer_major_version_says_which_release_reads_it(document: dict[str, Any]) -> None:
    document["spec_version"] = "2.3"

    with pytest.raises(DatasetError, match=r"ladd-data 2\.x"):
        parse_manifest(canonical_json(document))
