"""Sets and pictures that do not go together are refused by both commands, in one line, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import CLASSES, make_distilled

from ladd_data.cli import main
from ladd_data.convert import convert, prepare


def write_val(folder: Path, labels: list[int], classes: tuple[str, ...] | None = None) -> Path:
    images = np.random.default_rng(5).integers(0, 256, (len(labels), 32, 32, 3), np.uint8)
    arrays = {"images": images, "labels": np.array(labels)}
    if classes is not None:
        arrays["classes"] = np.array(classes)
    np.savez(folder / "val.npz", allow_pickle=False, **arrays)
    return folder / "val.npz"


@pytest.fixture(params=["train", "evaluate"])
def refuse(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Return a function that runs the command on a dataset and test pictures, and returns the one line it said."""

    def call(dataset: Path, val: Path, *more: str) -> str:
        where = ["--model" if request.param == "train" else "--protocol", "convnet-d3", "--width", "4"]
        line = ["ladd", request.param, str(dataset), "--val", str(val), *where, "-o", str(tmp_path / "out"), *more]
        monkeypatch.setattr("sys.argv", [*line, "--device", "cpu", "--epochs", "1"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (1, 2) and not (tmp_path / "out").exists()
        said = capfd.readouterr()
        assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
        return said.err

    return call


def test_ladd_without_dense_labels(unlabelled: Path, tmp_path: Path, refuse: Callable[..., str]) -> None:
    said = refuse(unlabelled, write_val(tmp_path, [0, 1, 2]), "--recipe", "ladd")

    assert 'this dataset has no dense labels, so no views are defined. Run "ladd label" first.' in said


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        ([0, 1, 2, 3], None, "labels 0 .. 3"),
        ([0, 1, 0, 1], None, "found pictures of 2 classes; expected all 3 of the dataset's. None of: cat."),
        ([0, 1, 2], ("ant", "bee", "dog"), "dog"),
        ([0, 1, 2, 3], ("ant", "bee", "cat", "dog"), "4"),
    ],
)
def test_pictures_of_other_classes(
    labelled: Path,
    tmp_path: Path,
    refuse: Callable[..., str],
    labels: list[int],
    classes: tuple[str, ...] | None,
    said: str,
) -> None:
    assert said in refuse(labelled, write_val(tmp_path, labels, classes), "--recipe", "ladd")


def test_a_whitened_set_with_plain_pictures(tmp_path: Path, refuse: Callable[..., str]) -> None:
    whitened = replace(make_distilled(), normalization=None, whitening="zca")
    convert(prepare(whitened, "zca"), tmp_path / "zca")

    said = refuse(tmp_path / "zca", write_val(tmp_path, [0, 1, 2], CLASSES.names), "--recipe", "hard-labels")

    assert "ZCA-whitened" in said and "--whitening dewhitened" in said
