"""The corpus of the spec: committed as written, judged as expected, and nothing in the spec left out."""

from __future__ import annotations

import json
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import make
import pytest
import run
from cases import SHARD
from damaging import spawn
from valid import CASES as VALID

from ladd_data.dataset import load
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.errors import DatasetError, LaddError
from ladd_data.manifest_json import parse_manifest
from ladd_data.shards.editions import EDITIONS
from ladd_data.validation import validate

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "spec" / "examples"
SPEC = (ROOT / "spec" / "ladd-1.0.md").read_text()
CASES = run.list_cases()


def judge(path: Path) -> run.Verdict:
    """Return the verdict that `ladd validate --json` prints, without a process of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a newer minor version
        report = validate(path)
    return {"valid": report.valid, "problems": [problem.as_dict() for problem in report.problems]}


def files(home: Path) -> dict[str, bytes]:
    """Return what each file of the corpus holds; of a link, where it leads."""
    found = {}
    for path in [*home.glob("valid/**/*"), *home.glob("invalid/**/*")]:
        if path.is_symlink() or path.is_file():
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(home))] = content
    return found


def expected() -> dict[str, run.Verdict]:
    return {case.name: json.loads((case / "expected.json").read_bytes()) for case in CASES}


def test_the_committed_corpus_is_the_generated_one(tmp_path: Path) -> None:
    committed = json.loads((CORPUS / "made-with.json").read_bytes())
    if committed != make.made_with():
        pytest.skip(f"the bytes depend on library versions: committed with {committed}, here {make.made_with()}")
    make.write_corpus(tmp_path)
    here, there = files(CORPUS), files(tmp_path)

    assert sorted(here) == sorted(there)
    assert [name for name in here if here[name] != there[name]] == [], "stale: run `python spec/examples/make.py`"


def test_every_case_is_judged_as_expected_with_file_row_and_id() -> None:
    results = run.run_cases(judge, CASES, where=True)

    assert {name: how for name, how in results.items() if how} == {}
    assert (len(VALID), len(make.INVALID)) == (
        len([c for c in CASES if c.parent.name == "valid"]),
        len(results) - len(VALID),
    )


def test_there_are_enough_cases_and_they_are_small() -> None:
    sizes = [len(content) for content in files(CORPUS).values()]

    assert len(VALID) >= 20 and len(make.INVALID) >= 60
    assert sum(sizes) < 8_000_000 and max(sizes) < 200_000
    assert len({case.name for case in [*VALID, *make.INVALID]}) == len(CASES)


def test_every_clause_has_a_case_or_a_reason_why_not() -> None:
    clauses = set(re.findall(r"^- \*\*(LADD-\d{3})\*\*", SPEC, re.MULTILINE))
    section = SPEC[SPEC.index("## 13. What a validator reports") : SPEC.index("## 14.")]
    unseen = {
        name
        for row in re.findall(r"^\| (LADD[^|]*)\|", section, re.MULTILINE)
        for name in re.findall(r"LADD-\d{3}", row)
    }
    shown = {problem["clause"] for verdict in expected().values() for problem in verdict["problems"]}

    assert shown | unseen == clauses
    assert not shown & unseen


def test_every_encoding_has_a_valid_case() -> None:
    codings = []
    for case in CASES:
        if case.parent.name == "valid" and case.name.startswith("labels-"):
            labels = parse_manifest((case / "set" / "meta" / "ladd.json").read_bytes()).labels
            assert labels is not None
            codings.append(labels.coding.model_copy(update={"k": None}))

    for name, coding in ENCODINGS.items():
        assert coding.model_copy(update={"k": None}) in codings, name
    assert {coding.space for coding in codings} == {"probs", "log_probs", "logits"}
    assert "bfloat16" in {coding.dtype for coding in codings}


def test_every_edition_kind_of_views_and_of_soft_labels_has_a_valid_case() -> None:
    seen: set[object] = set()
    for case in CASES:
        if case.parent.name == "valid":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                manifest = parse_manifest((case / "set" / "meta" / "ladd.json").read_bytes())
            edition = json.loads((case / "set" / "meta" / "shards.json").read_bytes())["edition"]
            labels, soft = manifest.labels, manifest.soft
            views = labels.views if labels else None
            seen.add(soft and soft.space)
            seen.add((edition, views and views.kind, bool(labels and labels.present), getattr(views, "flip", False)))

    assert {"probs", "logits", "targets"} <= seen
    for edition in EDITIONS:
        kinds = {(edition, None, False, False), (edition, "full", False, False), (edition, "boxes", False, True)}
        assert kinds | {(edition, "grid", False, False), (edition, "grid", True, False)} <= seen
    assert {("parquet", "boxes", False, False), ("parquet", "boxes", True, False)} <= seen


CAUSES = {
    "columns-swapped": "columns in the order image, id, label",
    "label-99": "label 99",
    "classes-one-more": "halffloat[3][9], not halffloat[4][9]",
    "classes-one-more-without-labels": 'key "huggingface" with other features',
    "dense-transposed": "halffloat[9][3], not halffloat[3][9]",
    "dense-views-column-major": "view 3 has the label expected here",
    "probs-in-float16": "float16 probabilities underflow",
    "dense-sum-below-one": "probabilities that sum to 0.149",
    "soft-sum": "probabilities that sum to 1.83",
    "shard-rewritten": "other tools (datasets, push_to_hub, a Parquet writer) have rewritten this file",
    "tar-rewritten": "rewritten: no PAX global header",
    "image-of-other-size": "16x8",
    "image-with-alpha": "colour type 6",
    "image-of-a-palette": "colour type 3",
    "shards-of-two-versions": "a shard of another version",
    "shards-of-two-versions-and-listed": "a shard of another version",
    "shard-twice": "shard {'index': 0",
    "list-shard-twice": "more than once",
    "shard-copied": "a file 'data/part-0.parquet' that meta/shards.json does not list",
    "shard-renamed": "a file 'data/part-0.parquet' that meta/shards.json does not list",
    "shard-empty": "0 bytes",
    "ids-exchanged": "records of digest",
    "dense-nan": "NaN",
    "soft-nan": "NaN",
    "null-dense": 'null in column "dense_log_probs"',
    "arrow-null-pixel": 'null in column "image"',
    "tar-mtime": "first in mtime",
    "tar-compressed": "compressed tar",
    "arrow-compressed": "compressed",
}
"""Mistakes that people make, and the words by which the report names the cause."""


@pytest.mark.parametrize("name", CAUSES)
def test_a_common_mistake_is_reported_with_its_cause(name: str) -> None:
    assert CAUSES[name] in judge(CORPUS / "invalid" / name / "set")["problems"][0]["found"]


@pytest.mark.parametrize("name", ["null-dense", "null-label", "arrow-null-image", "arrow-null-pixel"])
def test_reading_a_null_names_the_row_and_the_id_too(name: str) -> None:
    row = json.loads((CORPUS / "invalid" / name / "expected.json").read_bytes())["problems"][0]["where"]["row"]

    with pytest.raises(DatasetError, match=rf'row {row} \(id "00000{row}"\): found null in column'):
        _ = load(CORPUS / "invalid" / name / "set").arrays


def test_every_problem_says_where_what_and_what_to_do() -> None:
    for case in CASES:
        for problem in judge(case / "set")["problems"]:
            assert problem["file"] and problem["found"] and problem["expected"] and problem["fix"], case.name
            assert "\n" not in problem["where"] + problem["found"], case.name


def test_no_invalid_case_brings_down_the_reader() -> None:
    for case in CASES:
        if case.parent.name == "invalid":
            with suppress(LaddError):
                assert len(load(case / "set").arrays.ids) > 0


def test_the_runner_drives_a_command_line() -> None:
    line = ["--where", "--only", "label-", "--", sys.executable, "-m", "ladd_data", "validate", "--json", "{path}"]
    process = spawn(CORPUS / "run.py", *line)
    out, error = process.communicate()

    assert (process.returncode, error) == (0, ""), out
    assert re.search(r"(\d+) of \1 cases pass", out)


@pytest.mark.parametrize("program", ['print(\'{"valid": true, "problems": []}\')', "print('no verdict')", "1/0"])
def test_the_runner_tells_an_implementation_that_is_wrong(program: str) -> None:
    process = spawn(CORPUS / "run.py", "--only", "invalid/label-", "--", sys.executable, "-c", program, "{path}")
    out, _ = process.communicate()

    assert process.returncode == 1
    assert "0 of " in out and "invalid/label-99: " in out


def test_the_runner_needs_nothing_of_ours() -> None:
    text = (CORPUS / "run.py").read_text()

    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)) <= {*sys.stdlib_module_names}


def test_a_bomb_is_refused_before_it_is_read() -> None:
    case = CORPUS / "invalid" / "row-group-too-large" / "set"

    assert (case / SHARD).stat().st_size < 150_000
    assert judge(case)["problems"][0]["clause"] == "LADD-082"
