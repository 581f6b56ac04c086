"""The rate ladder: bytes, errors and students of each way to store labels; resumed, refused and read-only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_client import content
from making import label, make_distilled, make_labeler
from projectors import make_backbone, make_projector
from typer.testing import CliRunner

import ladd_data as ladd
from ladd_data.cli import app
from ladd_data.convert import convert, prepare
from ladd_data.deploy import train
from ladd_data.errors import UsageError
from ladd_data.rates.measure import measure_rates
from ladd_data.rates.results import Point, Rates
from ladd_data.rates.rungs import default_rungs, read_rungs
from ladd_data.reencode import Keep, reencode_dataset

SMALL = ("float32", "q8", "topk-1", "q4@5", "hard")
STUDENTS = [
    "--width",
    "2",
    "--epochs",
    "2",
    "--batch-size",
    "6",
    "--views-per-pass",
    "25",
    "--set",
    "augmentation=none",
]


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images with float32 probabilities of 25 views in their records, and the same labels as a set."""
    home = tmp_path_factory.mktemp("rates")
    convert(prepare(make_distilled(), "rates"), home / "plain")
    folder = label(home / "plain", make_labeler(home / "labeler.safetensors"), home / "exact", profile="paper")
    call("reencode", folder, "--encoding", "float32", "--keep-views", 20, "--no-logz", "--as", "most")
    return folder


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images, of noise."""
    path = tmp_path_factory.mktemp("val") / "val.npz"
    images = np.random.default_rng(1).integers(0, 256, (9, 32, 32, 3), np.uint8)
    np.savez(path, images=images, labels=np.arange(9) % 3)
    return path


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if code:
        assert isinstance(result.exception, UsageError), result.output
        return str(result.exception)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def rungs(*names: str) -> list[str]:
    return [word for name in names for word in ("--rung", name)]


def test_each_rung_has_the_bytes_and_the_error_of_its_labels_stored_so(exact: Path, tmp_path: Path) -> None:
    before = content(exact)
    document = json.loads(call("rates", exact, "-o", tmp_path / "out", *rungs(*SMALL[:4], "float32@1"), "--json"))

    rows = {row["name"]: row for row in document["rungs"]}
    assert list(rows) == ["float32", "q8", "topk-1", "q4@5", "float32@1"]
    assert [row["labels"] for row in rows.values()] == [25, 25, 25, 5, 1]
    assert [row["raw_bytes"] for row in rows.values()] == [
        6 * 25 * 3 * 4,
        6 * 25 * (3 + 2),
        6 * 25 * (1 + 2 + 2),
        6 * 5 * (2 + 2) + 6 * 5,
        6 * 3 * 4 + 6,
    ]
    (rung,) = read_rungs(["q4@5"], 3, 25)
    manifest = reencode_dataset(ladd.load(exact), rung.coding, tmp_path / "q4", keep=Keep(5))  # type: ignore[attr-defined]
    assert manifest.labels is not None
    assert rows["q4@5"]["certificate"] == manifest.labels.certificate.model_dump(mode="json")
    stored = ladd.load(tmp_path / "q4").folder.column_bytes()
    assert rows["q4@5"]["stored_bytes"] == sum(size for name, size in stored.items() if name[:5] in ("dense", "view_"))
    assert rows["float32"]["certificate"]["max_tv"] < 1e-6 < rows["q8"]["certificate"]["mean_tv"]
    assert content(exact) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("rates.json", "rates.md", "rates.png", "rates.svg")
    ]
    table = (tmp_path / "out" / "rates.md").read_text()
    assert "| q4@5 | 5 |" in table and "accuracy" not in table
    assert json.loads((tmp_path / "out" / "rates.json").read_text()) == document


def test_students_of_each_rung_are_those_that_ladd_train_trains(exact: Path, val: Path, tmp_path: Path) -> None:
    words = ("rates", exact, "-o", tmp_path / "out", "--val", val, *STUDENTS, "--seeds", 2, "--json")
    document = json.loads(call(*words, *rungs(*SMALL)))

    found = {row["name"]: row["accuracies"] for row in document["rungs"]}
    for name, more in (("q8", ["--encoding", "q8", "--no-logz"]), ("hard", None)):
        folder = exact
        if more:
            folder = tmp_path / name
            call("reencode", exact, *more, "-o", folder)
        recipe = ["--set", "loss=hard-ce"] if name == "hard" else []
        results = json.loads(call("train", folder, "--val", val, *STUDENTS, *recipe, "--seeds", 2, "--json"))
        assert [one["accuracy"] for one in results["seeds"]] == found[name]
    assert document["students"]["seeds"] == 2 and document["students"]["recipe"]["epochs"] == 2
    assert "accuracy, %" in (tmp_path / "out" / "rates.md").read_text()


def test_finished_students_are_not_trained_again_and_more_may_be_asked_for(
    exact: Path, val: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    real = train.Trainer.train

    def count(self: train.Trainer, seed: int, *arguments: Any) -> Any:
        trained.append(seed)
        return real(self, seed, *arguments)

    monkeypatch.setattr(train.Trainer, "train", count)
    words = ("rates", exact, "-o", tmp_path / "out", "--val", val, *STUDENTS)
    call(*words, "--seeds", 1, *rungs("float32"))
    first = content(tmp_path / "out")
    call(*words, "--seeds", 1, *rungs("float32"))
    assert trained == [0] and content(tmp_path / "out") == first

    call(*words, "--seeds", 2, *rungs("float32", "q8"))

    assert trained == [0, 1, 0, 1]
    assert "epochs was 2, is 3" in call(*words, "--set", "epochs=3", "--seeds", 1, *rungs("float32"), code=2)
    assert not (tmp_path / "out" / ".work").exists()
    call(*words, "--set", "epochs=3", "--seeds", 1, *rungs("float32"), "--overwrite")
    assert [path.name for path in (tmp_path / "out" / "students").iterdir()] == ["float32.json"]


def test_a_label_set_has_a_ladder_of_its_own(exact: Path, tmp_path: Path) -> None:
    words = ("rates", exact, "--labels", "most", "-o", tmp_path / "out", *rungs("float32", "float32@5"), "--json")
    document = json.loads(call(*words))

    assert document["label_set"] == "most"
    assert document["labels"] == ladd.load(exact, labels="most").manifest.labels.digest  # type: ignore[union-attr]
    assert [row["labels"] for row in document["rungs"]] == [25, 5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (rungs("q5"), 'rung "q5": expected float32, float16, q8, q4, topk-K or hard; with @N for N views'),
        (rungs("topk"), "topk-K"),
        (rungs("q8-3"), "topk-K"),
        (rungs("topk-3"), "expected 1 .. 2"),
        (rungs("q8@25"), "expected 1 .. 24 views"),
        (rungs("q8@0"), "expected 1 .. 24 views"),
        (rungs("hard"), "nothing to measure without students"),
        (["--epochs", "3"], "give --val, too"),
    ],
)
def test_what_cannot_be_measured_is_refused(exact: Path, tmp_path: Path, words: list[str], said: str) -> None:
    assert said in call("rates", exact, "-o", tmp_path / "out", *words, code=2)
    assert not (tmp_path / "out").exists()


def test_labels_stored_with_loss_and_folders_of_something_else_are_refused(
    exact: Path, labelled: Path, unlabelled: Path, tmp_path: Path
) -> None:
    assert "a ladder begins at the top" in call("rates", labelled, "-o", tmp_path / "out", code=2)
    assert 'Run "ladd label" first' in call("rates", unlabelled, "-o", tmp_path / "out", code=2)
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds no rates" in call("rates", exact, "-o", tmp_path, code=2)
    assert "holds no rates" in call("rates", exact, "-o", exact, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def test_a_ladder_cut_short_leaves_no_copy_behind(exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ladd_data.rates import measure

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "write_atomically", stop)
    with pytest.raises(KeyboardInterrupt):
        measure_rates(ladd.load(exact), tmp_path / "out", read_rungs(["q8"], 3, 25))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_projector_is_a_rung_of_the_bytes_of_its_files(exact: Path, val: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    folder = Path(shutil.copytree(exact, tmp_path / "set"))
    backbone = make_backbone(tmp_path / "backbone.safetensors")
    make_projector(folder, backbone, exact.parent / "labeler.safetensors")
    before = content(folder)
    words = ["rates", folder, "-o", tmp_path / "out", "--val", val, *STUDENTS, "--seeds", 1, "--json"]
    weights = ["--backbone-weights", backbone]

    document = json.loads(call(*words, *weights, *rungs("float32", "projector-hello")))

    row = document["rungs"][1]
    assert row["name"] == "projector-hello" and len(row["accuracies"]) == 1
    files = [path for path in (folder / "labels" / "hello").iterdir()]
    assert row["stored_bytes"] == sum(path.stat().st_size for path in files)
    stored = next(iter(ladd.load(folder).loader(6))).dense
    made = next(iter(ladd.load_online(folder, "hello", backbone=backbone, views=ladd.grid(5, "5/8")).loader(6))).dense
    assert stored is not None and made is not None
    off = (stored.double() - made.double()).abs().sum(-1) / 2
    assert row["certificate"]["mean_tv"] == pytest.approx(float(off.mean()), rel=1e-4)
    assert row["certificate"]["max_tv"] == pytest.approx(float(off.max()), rel=1e-4)
    assert content(folder) == before
    assert "no projector" in call(*words, *rungs("projector-other"), code=2)
    assert "goes with --rung projector-NAME" in call(*words, *weights, *rungs("q8"), code=2)


def test_the_usual_ladder_fits_the_dataset() -> None:
    assert default_rungs(10, 25)[:6] == ("float32", "float16", "q8", "q4", "topk-3", "topk-1")
    assert default_rungs(1000, 25)[4:8] == ("topk-10", "topk-3", "topk-1", "float32@12")
    assert default_rungs(2, 1) == ("float32", "float16", "q8", "q4")
    for classes, views in ((2, 1), (2, 2), (10, 25), (1000, 4)):
        names = default_rungs(classes, views)
        assert [rung.name for rung in read_rungs(names, classes, views)] == list(names)


def test_differences_are_taken_seed_by_seed() -> None:
    points = (Point("float32", 10, 10, 4, None, (0.9, 0.8, 0.7)), Point("q8", 5, 5, 4, None, (0.8, 0.7, 0.6)))

    mean, error = points[1].less_than(points[0]) or (0, 0)

    assert mean == pytest.approx(0.1) and error == pytest.approx(0, abs=1e-12)
    assert Rates({"image_bytes": 100}, points).table().splitlines()[-1].endswith("| 70.0 ± 10.0 | 10.0 ± 0.0 |")
