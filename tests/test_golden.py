"""What is generated in spec/ equals what is committed, and text, code and schema agree."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from ladd_data.files import canonical_json
from ladd_data.schema import (
    LABELS_SCHEMA_NAME,
    PROJECTOR_SCHEMA_NAME,
    SCHEMA_NAME,
    labels_schema,
    manifest_schema,
    projector_schema,
)

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "spec"


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        (SCHEMA_NAME, manifest_schema),
        (LABELS_SCHEMA_NAME, labels_schema),
        (PROJECTOR_SCHEMA_NAME, projector_schema),
    ],
)
def test_the_committed_schema_is_the_generated_one(name: str, schema: Callable[[], object]) -> None:
    committed = (SPEC / name).read_bytes()

    assert committed == canonical_json(schema()), "stale: run `python -m ladd_data.schema spec/`"


@pytest.mark.parametrize("name", ["view", "label", "mixed_view"])
def test_the_committed_golden_vectors_are_the_generated_ones(name: str) -> None:
    make = runpy.run_path(str(SPEC / "golden" / "make.py"))
    committed = json.loads((SPEC / "golden" / f"{name}s.json").read_text())

    generated = json.loads(canonical_json(make[f"{name}_vectors"]()))

    assert committed == generated, "stale: run `python spec/golden/make.py`"


def test_every_clause_the_code_reports_is_in_the_spec() -> None:
    text = (SPEC / "ladd-1.0.md").read_text()
    defined = re.findall(r"^- \*\*(LADD-\d{3})\*\*", text, re.MULTILINE)
    code = "".join(path.read_text() for path in (ROOT / "ladd_data").rglob("*.py"))

    assert len(defined) == len(set(defined))
    assert set(re.findall(r"LADD-\d{3}", code)) <= set(defined)


def test_every_manifest_field_is_in_the_specs_table() -> None:
    text = (SPEC / "ladd-1.0.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", text[text.index("| field |") : text.index("## 3.")]))

    assert set(manifest_schema()["properties"]) <= named
    table = text[text.index("## 11. Label sets") : text.index("## 12.")]
    stored, made = table.split("### 11.1 Projectors")
    assert set(labels_schema()["properties"]) <= set(re.findall(r"`([a-z_]+)`", stored))
    assert set(projector_schema()["properties"]) <= set(re.findall(r"`([a-z_]+)`", made))
