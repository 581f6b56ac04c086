"""The converter of DataDAM, on a genuine result where shared/ has it, and on files made by hand everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from converter_runs import (
    ABC,
    EVIL_KINDS,
    HAND,
    IMAGES,
    LABELS,
    UPSTREAM,
    check_evil,
    evil_bytes,
    genuine,
    put,
    read,
    refusal,
)
from ladd_converters.datadam import DataDamConverter

from ladd_data import Answers, UsageError
from ladd_data.converter import fill_in
from ladd_data.testing import check_converter

DATADAM, RUN = DataDamConverter(), UPSTREAM / "datadam/run-ipc1"
RESULT = "res_DataDAM_CIFAR10_ConvNet_2ipc_.pt"
WHITENED = Answers(classes=ABC, whitening="whitened")


def save_result(folder: Path, name: str = RESULT) -> Path:
    """Write a result as main_DataDAM.py does: two experiments of three evaluations, one final accuracy."""
    data = [[IMAGES * (number + 1), LABELS] for number in range(6)]
    return put(folder / name, {"data": data, "accs_all_exps": {"ConvNet": [np.float64(0.5)]}})


def save_initial(folder: Path) -> Path:
    """Write an initial set as the repository ships it."""
    put(folder / "CIFAR10_IPC2_labels.pt", LABELS.float())
    return put(folder / "CIFAR10_IPC2_images.pt", IMAGES.clone().requires_grad_())


@genuine
@pytest.mark.parametrize(("experiment", "mean"), [(None, -0.64509), (0, -0.64149), (4, -0.60842)])
def test_a_genuine_result_converts_entry_by_entry(tmp_path: Path, experiment: int | None, mean: float) -> None:
    answers = fill_in(DATADAM, Answers(dataset="cifar10", experiment=experiment))

    manifest = check_converter(DATADAM, RUN, answers, tmp_path)

    assert read(DATADAM, RUN, answers).images[0, 0].mean() == pytest.approx(mean, abs=1e-5)  # of the run's NOTE.txt
    assert manifest.distillation.read["experiments"] == 6
    assert manifest.distillation.read.get("experiment") == (5 if experiment is None else None)


def test_the_last_entry_is_taken_and_said_not_to_be_the_best(tmp_path: Path) -> None:
    distilled = read(DATADAM, save_result(tmp_path), HAND)

    assert np.array_equal(distilled.images, (IMAGES * 6).numpy())
    assert distilled.read["experiment"] == 5 and "need not be the best" in distilled.notes[-1]
    assert distilled.read["accuracy_of_all_experiments"] == {"ConvNet": 0.5}
    assert distilled.recipe and (distilled.recipe.epochs, distilled.recipe.source) == (1800, "DataDAM")


def test_a_whitened_run_is_stored_as_such(tmp_path: Path) -> None:
    save_result(tmp_path / "run")

    manifest = check_converter(DATADAM, tmp_path / "run", WHITENED, tmp_path / "out")
    by_preset = read(DATADAM, tmp_path / "run", Answers(dataset="cifar10", whitening="whitened"))

    assert manifest.images.whitening == "zca" and manifest.images.normalization is None
    assert by_preset.normalization is None and any("twice" in note for note in by_preset.notes)


def test_the_file_of_the_test_script_converts(tmp_path: Path) -> None:
    put(tmp_path / "run/syn_data_cifar10_ipc_2.pt", {"data": [IMAGES, LABELS]})

    manifest = check_converter(DATADAM, tmp_path / "run", HAND, tmp_path / "out")

    assert manifest.distillation.read["dataset_in_name"] == "cifar10"
    assert DATADAM.detect(tmp_path / "run") is not None


def test_an_initial_set_converts_when_it_is_named(tmp_path: Path) -> None:
    file = save_initial(tmp_path / "Initial_Synthetic_Dataset")
    selection = save_initial(tmp_path / "Kmeans")

    manifest = check_converter(DATADAM, file, HAND, tmp_path / "out")

    read_ = manifest.distillation.read
    assert (read_["initial_set"], read_["labels_dtype"], read_["ipc_in_name"]) == (True, "float32", 2)
    assert DATADAM.describe(file.parent).files == (file, file.with_name("CIFAR10_IPC2_labels.pt"))
    assert DATADAM.detect(tmp_path) is None  # K-means selections have these names, too
    assert "found no res_DataDAM" in str(refusal(DATADAM, selection.parent, HAND))
    pair = replace(HAND, images=selection, labels=selection.with_name("CIFAR10_IPC2_labels.pt"))
    assert read(DATADAM, tmp_path, pair).files == (pair.images, pair.labels)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (Answers(classes=ABC), "whitened ones --whitening whitened"),
        (replace(WHITENED, whitening="dewhitened"), "nor the matrix to undo it"),
        (replace(HAND, whitening="whitened"), "--normalization does not go with --whitening"),
        (replace(WHITENED, classes=None), "--classes a,b,c"),
        (Answers(dataset="cifar100", classes=ABC), "is named as CIFAR10"),
        (replace(HAND, experiment=6), "0 .. 5; --experiment 6"),
        (replace(HAND, images=Path("x")), "--images and --labels go together"),
    ],
)
def test_missing_and_contradicting_answers_name_the_option(tmp_path: Path, answers: Answers, words: str) -> None:
    error = refusal(DATADAM, save_result(tmp_path), answers)

    assert isinstance(error, UsageError) and words in str(error)


def test_nan_and_wrong_lengths_are_refused(tmp_path: Path) -> None:
    short = put(tmp_path / "a" / RESULT, {"data": [[IMAGES, LABELS], [IMAGES, LABELS[:4]]]})
    diverged = put(tmp_path / "b" / RESULT, {"data": [[IMAGES, LABELS], [IMAGES * torch.inf, LABELS]]})

    assert "6 images and 4 labels" in str(refusal(DATADAM, short, HAND))
    assert "NaN or infinity" in str(refusal(DATADAM, diverged, HAND))
    assert read(DATADAM, diverged, replace(HAND, experiment=0)).labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("kind", EVIL_KINDS)
@pytest.mark.parametrize("position", [RESULT, "CIFAR10_IPC2_images.pt", "CIFAR10_IPC2_labels.pt"])
def test_a_malicious_file_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, position: str
) -> None:
    folder = tmp_path / "Initial_Synthetic_Dataset"
    save_initial(folder)
    put(folder / position, evil_bytes(kind, tmp_path / "canary"))

    check_evil(DATADAM, folder, tmp_path, monkeypatch, capsys)
