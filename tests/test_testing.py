"""The conformance checks bite: each breach of a contract is found, and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from making import CLASSES, NORMALIZATION, make_distilled
from pydantic import JsonValue

import ladd_data.testing
from ladd_data.convert import prepare
from ladd_data.converter import Answers, Description, Distilled, Preset
from ladd_data.testing import check_converter

ANSWERS = Answers(normalization=NORMALIZATION, classes=CLASSES)
SAID: dict[str, JsonValue] = {"classes": list(CLASSES.names), "normalization": NORMALIZATION.model_dump(mode="json")}


class GoodConverter:
    """Reads any folder with a file `run.txt` as the same small set."""

    name: ClassVar[str] = "good"
    summary: ClassVar[str] = "A converter for tests."
    datasets: ClassVar[Mapping[str, Preset]] = {}

    def describe(self, path: Path) -> Description:
        return Description("run.txt is there", (path / "run.txt",), ())

    def detect(self, path: Path) -> str | None:
        return "run.txt is there" if (path / "run.txt").is_file() else None

    def read(self, path: Path, answers: Answers) -> Distilled:
        return replace(make_distilled(), files=(path / "run.txt",), read={"seed": 0}, asserted=dict(SAID))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that GoodConverter reads."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.txt").touch()
    return tmp_path / "run"


def test_a_good_converter_passes(tmp_path: Path, run: Path) -> None:
    manifest = check_converter(GoodConverter(), run, ANSWERS, tmp_path)

    assert manifest.images.count == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda good: {"images": good.images.astype(np.float64)}, "images are float64"),
        (lambda good: {"images": good.images[0]}, "expected float32 \\[n, c, h, w\\]"),
        (lambda good: {"images": good.images * np.float32("nan")}, "NaN or infinity"),
        (lambda good: {"images": good.images + np.random.default_rng().random(1, np.float32)}, "twice gave other ima"),
        (lambda good: {"labels": good.labels.astype(np.int32)}, "labels are int32"),
        (lambda good: {"labels": good.labels[1:]}, "expected int64 \\[6\\]"),
        (lambda good: {"labels": good.labels + 1}, "labels 1 .. 3 are not all in 0 .. 2"),
        (lambda good: {"whitening": "zca"}, "normalization; expected None"),
        (lambda good: {"files": ()}, "files is empty"),
        (lambda good: {"files": (Path("missing"),)}, "files lists missing"),
        (lambda good: {"asserted": {}}, '"classes" was answered and is missing'),
        (lambda good: {"asserted": {**SAID, "classes": ["x"]}}, "the person said \\['ant', 'bee', 'cat'\\]"),
        (lambda good: {"read": {"classes": 3}, "asserted": {}}, "belongs in asserted, not in read"),
        (lambda good: {"asserted": {**SAID, "seed": 0}}, "\\['seed'\\] are in both"),
        (lambda good: {"normalization": None}, "normalization is None, not the one answered"),
        (lambda good: {"read": {"lr": float("nan")}}, "read does not fit into JSON"),
    ],
)
def test_a_breach_in_what_is_read_is_named(
    tmp_path: Path, run: Path, change: Callable[[Distilled], dict[str, Any]], words: str
) -> None:
    class Bad(GoodConverter):
        def read(self, path: Path, answers: Answers) -> Distilled:
            good = super().read(path, answers)
            return replace(good, **change(good))

    with pytest.raises(AssertionError, match=words):
        check_converter(Bad(), run, ANSWERS, tmp_path)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"name": "Not A Slug"}, "is not a slug"),
        ({"name": "mtt"}, 'name "mtt" belongs to ladd_converters.mtt:MttConverter'),
        ({"summary": " "}, "summary is empty"),
        ({"summary": "a\nb"}, "more than one line"),
        ({"detect": lambda self, path: ""}, "returned ''"),
        ({"detect": lambda self, path: "yes"}, "took .*unrelated for its own"),
        ({"detect": lambda self, path: None if path.stat() else "never"}, "detect raised FileNotFoundError"),
        ({"read": None}, "lacks name, summary, detect or read"),
    ],
)
def test_a_breach_in_how_it_presents_itself_is_named(
    tmp_path: Path, run: Path, attributes: dict[str, Any], words: str
) -> None:
    bad = type("Bad", (GoodConverter,), attributes)()

    with pytest.raises(AssertionError, match=words):
        check_converter(bad, run, ANSWERS, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda good: {"labels": good.labels[::-1].copy()}, "written labels, or their order"),
        (lambda good: {"images": good.images + np.float32(0.5)}, "a pixel is off by"),
        (lambda good: {"images": good.images[::-1].copy()}, "a pixel is off by"),
        (lambda good: {"images": good.images + np.float32(1e-3)}, "a pixel is off by|the RMSE is"),
    ],
)
def test_a_breach_in_what_is_written_is_named(
    tmp_path: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Distilled], dict[str, Any]],
    words: str,
) -> None:
    monkeypatch.setattr(ladd_data.testing, "prepare", lambda good, name: prepare(replace(good, **change(good)), name))

    with pytest.raises(AssertionError, match=words):
        check_converter(GoodConverter(), run, ANSWERS, tmp_path)
