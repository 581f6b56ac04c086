"""The DATM converter: learned logits, a learned learning rate, and hard classes by place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ladd_converters.datm import DatmConverter
from ladd_converters.mtt import MttConverter
from ladd_converters.tesla import TeslaConverter
from ladd_converters.torch_files import read_tensor
from making_runs import (
    ABC,
    CIFAR,
    HALF,
    HAND,
    IMAGES,
    KINDS,
    LABELS,
    LOGITS,
    SOFT,
    UPSTREAM,
    check_converter,
    evil,
    genuine,
    refusal,
    save,
    save_run,
)

from ladd_data import Answers, UsageError
from ladd_data.converter import fill_in

DATM = DatmConverter()
PLAIN, ZCA = UPSTREAM / "datm/ipc1-nozca-real", UPSTREAM / "datm/ipc1-zca-spc"


def save_datm(run: Path, labels: object = LOGITS, lr: object = None, images: object = IMAGES) -> Path:
    folder = save_run(run / "logged_files/CIFAR10/2/ConvNet/calm-sun-1/Normal", images, labels)
    save(folder / "lr_best.pt", torch.tensor(0.025) if lr is None else lr)
    return run


@genuine
@pytest.mark.parametrize(
    ("run", "answers", "iteration", "mode"),
    [
        (PLAIN, CIFAR, "best", "none"),
        (ZCA, Answers(dataset="cifar10", whitening="whitened"), "best", "zca"),
        (ZCA, Answers(dataset="cifar10", whitening="dewhitened"), "4", "none"),
    ],
)
def test_genuine_runs_convert(tmp_path: Path, run: Path, answers: Answers, iteration: str, mode: str) -> None:
    manifest = check_converter(DATM, run, answers, tmp_path)

    assert (manifest.images.count, manifest.images.whitening) == (10, mode)
    assert manifest.soft is not None and manifest.soft.space == "logits"
    assert manifest.distillation.read["iteration"] == iteration
    lr = float(read_tensor(next(run.rglob("lr_best.pt"))))
    assert manifest.distillation.learned_lr == manifest.distillation.read["learned_lr"] == lr
    assert manifest.recipe.loss == "soft-ce" and manifest.recipe.batch_size == 128


@genuine
def test_the_genuine_logits_are_kept_as_they_are() -> None:
    distilled = DATM.read(PLAIN, fill_in(DATM, Answers(dataset="cifar10", iteration="4")))

    labels = read_tensor(next(PLAIN.rglob("labels_4.pt")))
    assert distilled.soft is not None and np.array_equal(distilled.soft.values, labels.numpy())
    assert distilled.labels.tolist() == list(range(10))
    assert [file.name for file in distilled.files] == ["images_4.pt", "labels_4.pt", "lr_4.pt"]


@genuine
def test_the_genuine_zca_run_is_refused_without_a_choice() -> None:
    error = refusal(DATM, ZCA, CIFAR)

    assert error.exit_code == 1 and "--whitening whitened" in str(error)


def test_disagreement_of_logits_and_place_is_noted(tmp_path: Path) -> None:
    distilled = DATM.read(save_datm(tmp_path), HAND)

    assert distilled.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert any("1 of 6 soft labels are largest at another class" in note for note in distilled.notes)
    check_converter(DATM, tmp_path, HAND, tmp_path)


@pytest.mark.parametrize("lr", [torch.tensor(0.01), torch.tensor([0.01]), torch.nn.Parameter(torch.tensor(0.01))])
def test_the_learning_rate_is_read_and_must_agree(tmp_path: Path, lr: object) -> None:
    run = save_datm(tmp_path, lr=lr)

    assert DATM.read(run, HAND).learned_lr == pytest.approx(0.01)
    same = DATM.read(run, Answers(HALF, ABC, learned_lr=0.01))
    assert "learned_lr" in same.asserted and "learned_lr" not in same.read
    assert "says 0.01" in str(refusal(DATM, run, Answers(HALF, ABC, learned_lr=0.02)))


@pytest.mark.parametrize(
    ("labels", "lr", "words"),
    [
        pytest.param(LOGITS.index_fill(0, torch.tensor([4]), torch.nan), None, "in 1 of 6 soft labels", id="nan-row"),
        pytest.param(LOGITS[:5], None, "5 soft labels for 3 classes", id="ragged"),
        pytest.param(LOGITS[:3], None, "6 images and 3 labels", id="lengths"),
        pytest.param(LOGITS[:, :2], None, "2 classes; 3 were given", id="width"),
        pytest.param(LABELS, None, "convert mtt", id="hard"),
        pytest.param(SOFT, None, "--label-space logits or probs", id="probabilities"),
        pytest.param(LOGITS, torch.tensor(torch.nan), "learning rate of nan", id="lr-nan"),
        pytest.param(LOGITS, torch.tensor(-0.1), "expected a positive one", id="lr-negative"),
        pytest.param(LOGITS, torch.rand(3), "expected one learning rate", id="lr-several"),
    ],
)
def test_what_is_not_datms_is_refused(tmp_path: Path, labels: object, lr: object, words: str) -> None:
    error = refusal(DATM, save_datm(tmp_path, labels, lr), HAND)

    assert words in str(error) and "_best.pt" in str(error)


def test_probabilities_are_taken_as_the_person_says(tmp_path: Path) -> None:
    answers = Answers(HALF, ABC, label_space="logits")

    manifest = check_converter(DATM, save_datm(tmp_path, SOFT), answers, tmp_path)

    assert manifest.soft is not None and manifest.soft.space == "logits"


def test_a_published_pair_without_its_learning_rate_is_recognised_by_its_logits(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", IMAGES, LOGITS)

    assert "logits" in (DATM.detect(run) or "")
    assert MttConverter().detect(run) is TeslaConverter().detect(run) is None
    distilled = DATM.read(run, HAND)
    assert distilled.learned_lr is None
    assert any("shipped CIFAR settings whiten" in note for note in distilled.notes)


def test_the_folder_says_which_dataset_to_name(tmp_path: Path) -> None:
    description = DATM.describe(save_datm(tmp_path))

    assert [(ask.option, ask.example) for ask in description.asks] == [("--dataset", "cifar10")]
    assert any("no images_zca" in note for note in description.notes)
    assert [file.name for file in description.files] == ["images_best.pt", "labels_best.pt", "lr_best.pt"]


@pytest.mark.parametrize("position", ["images", "labels", "lr"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_malicious_file_is_refused_and_nothing_runs(tmp_path: Path, position: str, kind: str) -> None:
    canary = tmp_path / "canary"
    parts: dict[str, Any] = {"images": IMAGES, "labels": LOGITS, "lr": None, position: evil(kind, canary)}
    run = save_datm(tmp_path / "run", **parts)

    DATM.describe(run)
    error = refusal(DATM, run, HAND)

    assert error.exit_code == 1 and "Nothing in it was run" in str(error) and not canary.exists()


def test_several_runs_are_listed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_datm(tmp_path / name)

    error = refusal(DATM, tmp_path, HAND)

    assert isinstance(error, UsageError) and "found 2 runs" in str(error) and "two" in str(error)
    asks = DATM.describe(tmp_path).asks
    assert [ask.option for ask in asks] == ["--images", "--labels", "--dataset"]
