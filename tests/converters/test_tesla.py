"""The TESLA converter: MTT's files, and probabilities of a teacher as labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ladd_converters.mtt import MttConverter
from ladd_converters.tesla import TeslaConverter
from making_runs import (
    CIFAR,
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
    save_run,
)

from ladd_data import Answers, UsageError
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS

RUN = UPSTREAM / "tesla/ipc1-zca"
TESLA = TeslaConverter()


@genuine
@pytest.mark.parametrize(("whitening", "iteration"), [("whitened", "best"), ("dewhitened", "6")])
def test_the_genuine_run_converts(tmp_path: Path, whitening: str, iteration: str) -> None:
    answers = Answers(dataset="cifar10", whitening=whitening)  # type: ignore[arg-type]

    manifest = check_converter(TESLA, RUN, answers, tmp_path)

    assert (manifest.images.count, manifest.distillation.ipc, manifest.soft) == (10, 1, None)
    assert manifest.distillation.read["iteration"] == iteration
    assert manifest.recipe.loss == "hard-ce" and manifest.recipe.source == "TESLA"


@genuine
def test_the_genuine_run_is_refused_without_a_choice_of_whitening() -> None:
    error = refusal(TESLA, RUN, CIFAR)

    assert error.exit_code == 1 and "--whitening dewhitened" in str(error)


def test_teacher_labels_are_kept_as_probabilities_and_the_class_is_by_place(tmp_path: Path) -> None:
    off = SOFT.clone()
    off[1] = torch.tensor([0.1, 0.8, 0.1])
    run = save_run(tmp_path / "run", IMAGES, off)

    manifest = check_converter(TESLA, run, HAND, tmp_path)
    distilled = TESLA.read(run, HAND)

    assert manifest.soft is not None and manifest.soft.space == "probs"
    assert manifest.recipe.loss == "soft-ce"
    assert distilled.soft is not None and np.array_equal(distilled.soft.values, off.numpy())
    assert distilled.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert any("1 of 6 soft labels are largest at another class" in note for note in distilled.notes)
    assert distilled.read["label_space"] == "probs"


def test_one_run_changes_its_kind_of_labels_after_iteration_0(tmp_path: Path) -> None:
    run = save_run(tmp_path / "offline", IMAGES, LABELS, it="0")
    save_run(run, IMAGES * 2, SOFT, it="100")

    hard = TESLA.read(run / "images_0.pt", HAND)
    soft = TESLA.read(run, Answers(HAND.normalization, HAND.classes, iteration="100"))

    assert hard.soft is None and hard.read["label_space"] == "classes"
    assert soft.soft is not None and soft.asserted["iteration"] == "100" and "iteration" not in soft.read
    assert TESLA.detect(run) is not None and MttConverter().detect(run) is None


def test_a_best_step_of_class_numbers_does_not_hide_the_probabilities_of_later_ones(tmp_path: Path) -> None:
    run = save_run(save_run(tmp_path / "run"), IMAGES, LABELS, it="0")
    save_run(run, IMAGES, SOFT, it="100")

    assert TESLA.detect(run) is not None and MttConverter().detect(run) is None
    assert TESLA.read(run, HAND).soft is None


def test_hard_runs_look_like_mtt_and_that_is_said(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")

    assert TESLA.detect(run) is None
    assert any("TESLA" in note for note in MttConverter().describe(run).notes)
    assert "MTT" in TESLA.describe(run).reason


def test_all_of_imagenet_is_in_sorted_order(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", torch.zeros(1000, 3, 2, 2), torch.arange(1000))

    manifest = check_converter(TESLA, run, Answers(dataset="imagenet-1k"), tmp_path)

    assert manifest.classes == CLASS_LISTS["imagenet-1k"]
    assert manifest.images.normalization == NORMALIZATIONS["imagenet"]


@pytest.mark.parametrize(
    ("labels", "said", "words"),
    [
        pytest.param(LOGITS, None, "do not sum to 1", id="logits"),
        pytest.param(SOFT, "classes", "holds a row of 3 numbers", id="said-classes"),
        pytest.param(LABELS, "probs", "holds class numbers", id="said-probs"),
        pytest.param(SOFT[:5], None, "5 soft labels for 3 classes", id="not-class-by-class"),
        pytest.param(SOFT[:3], None, "6 images and 3 labels", id="lengths"),
        pytest.param(SOFT[:, :2], None, "2 classes; 3 were given", id="width"),
        pytest.param(SOFT / SOFT[0, 0].log().sign().add(1), None, "NaN or infinity in 6 of 6", id="infinite"),
        pytest.param(torch.zeros(6, 3, 1), None, "[6, 3, 1]", id="3-d"),
    ],
)
def test_labels_that_are_not_teslas_are_refused(tmp_path: Path, labels: object, said: str | None, words: str) -> None:
    run = save_run(tmp_path / "run", IMAGES, labels)

    error = refusal(TESLA, run, Answers(HAND.normalization, HAND.classes, label_space=said))  # type: ignore[arg-type]

    assert words in str(error) and ("labels_best.pt" in str(error))


def test_the_person_may_say_what_the_numbers_are(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", IMAGES, LOGITS)

    manifest = check_converter(TESLA, run, Answers(HAND.normalization, HAND.classes, label_space="logits"), tmp_path)

    assert manifest.soft is not None and manifest.soft.space == "logits"
    assert manifest.distillation.asserted["label_space"] == "logits"


@pytest.mark.parametrize("position", ["images", "labels"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_malicious_file_is_refused_and_nothing_runs(tmp_path: Path, position: str, kind: str) -> None:
    canary = tmp_path / "canary"
    pair = {"images": IMAGES, "labels": SOFT, position: evil(kind, canary)}
    run = save_run(tmp_path / "run", pair["images"], pair["labels"])

    TESLA.detect(run)
    TESLA.describe(run)
    error = refusal(TESLA, run, HAND)

    assert error.exit_code == 1 and "Nothing in it was run" in str(error) and not canary.exists()


def test_answers_without_a_question_are_refused(tmp_path: Path) -> None:
    error = refusal(TESLA, save_run(tmp_path / "run"), Answers(HAND.normalization, HAND.classes, experiment=1))

    assert isinstance(error, UsageError) and "--experiment: ladd convert tesla has no use for it" in str(error)
