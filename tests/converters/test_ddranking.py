"""The converter of DD-Ranking's layout, on files made by hand from the source's description (none is genuine)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from converter_runs import ABC, EVIL_KINDS, HAND, IMAGES, LABELS, check_evil, evil_bytes, put, read, refusal
from ladd_converters.ddranking import DdRankingConverter

from ladd_data import Answers, ConvertError, UsageError
from ladd_data.testing import check_converter

RANKING = DdRankingConverter()
LOGITS = torch.eye(3)[LABELS] * 4 - 1
WHITENED = Answers(classes=ABC, whitening="whitened")


def save(folder: Path, labels: object = LOGITS, rate: object = None, images: object = IMAGES) -> Path:
    """Write a set as DD-Ranking's demos read it, and return its folder."""
    run = folder / "DATM/CIFAR10/IPC2"
    put(run / "images.pt", images)
    put(run / "labels.pt", labels)
    put(run / "lr.pt", torch.tensor(0.02) if rate is None else rate)
    return run


def test_a_set_with_logits_converts(tmp_path: Path) -> None:
    run = save(tmp_path / "baselines")

    manifest = check_converter(RANKING, run, HAND, tmp_path / "out")

    facts = manifest.distillation.read
    assert manifest.soft and manifest.soft.space == "logits" and facts["label_space"] == "logits"
    assert (facts["method_in_path"], facts["dataset_in_path"]) == ("DATM", "CIFAR10")
    assert manifest.distillation.learned_lr == pytest.approx(0.02)
    assert manifest.recipe.loss == "soft-ce"
    assert [file.path for file in manifest.distillation.files] == ["images.pt", "labels.pt", "lr.pt"]
    assert RANKING.detect(tmp_path / "baselines") is not None
    assert [ask.example for ask in RANKING.describe(run).asks] == ["cifar10"]


def test_hard_classes_are_positions_and_labels_that_differ_are_noted(tmp_path: Path) -> None:
    run = save(tmp_path, LOGITS[[2, 1, 0, 3, 4, 5]])

    distilled = read(RANKING, run, HAND)

    assert distilled.labels.tolist() == LABELS.tolist()
    assert distilled.notes[0].startswith("2 of 6 soft labels are largest elsewhere")


def test_class_numbers_convert_and_have_no_recipe(tmp_path: Path) -> None:
    manifest = check_converter(RANKING, save(tmp_path, LABELS), HAND, tmp_path / "out")

    assert manifest.soft is None and manifest.distillation.read["learned_lr"] == pytest.approx(0.02)
    assert read(RANKING, save(tmp_path, LABELS), HAND).recipe is None


def test_probabilities_are_asked_for_as_a_softmax_of_them_would_pass(tmp_path: Path) -> None:
    run = save(tmp_path, torch.softmax(LOGITS, 1))

    error = refusal(RANKING, run, HAND)

    assert isinstance(error, UsageError) and "--label-space: probs, or logits" in str(error)
    soft = read(RANKING, run, replace(HAND, label_space="probs")).soft
    assert soft is not None and soft.space == "probs"


@pytest.mark.parametrize("rate", [0.02, 1, torch.tensor([0.5]), torch.tensor(0.5, dtype=torch.float64)])
def test_the_learning_rate_may_be_a_number_or_a_tensor(tmp_path: Path, rate: object) -> None:
    assert read(RANKING, save(tmp_path, rate=rate), HAND).learned_lr == pytest.approx(float(rate))  # type: ignore[arg-type]


def test_the_learning_rate_may_be_absent(tmp_path: Path) -> None:
    run = save(tmp_path / "a")
    assert "leave --learned-lr out" in str(refusal(RANKING, run, replace(HAND, learned_lr=0.1)))
    (run / "lr.pt").unlink()

    manifest = check_converter(RANKING, run, replace(HAND, learned_lr=0.1), tmp_path / "out")

    assert manifest.distillation.learned_lr == 0.1
    assert read(RANKING, run, HAND).learned_lr is None


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"rate": torch.tensor(-0.1)}, "the number -0.1"),
        ({"rate": torch.tensor(torch.nan)}, "the number nan"),
        ({"rate": torch.zeros(3)}, "one bare tensor, float32 [3]"),
        ({"rate": True}, "expected one positive learning rate"),
        ({"labels": LOGITS[:5]}, "5 labels for 3 classes"),
        ({"labels": LOGITS[:3]}, "6 images and 3 labels"),
        ({"labels": LOGITS * torch.nan}, "NaN or infinity in the labels"),
        ({"labels": LOGITS[:, :2]}, 'no image of class "c"'),
        ({"images": IMAGES[:, 0]}, "images float32 [6, 8, 8]"),
        ({"images": IMAGES / 0}, "NaN or infinity in 6 of 6"),
        ({"images": [IMAGES, LABELS]}, "ladd convert idc"),
        ({"labels": {"data": [[IMAGES, LABELS]]}}, "ladd convert dc"),
    ],
)
def test_broken_sets_are_refused_for_what_they_are(tmp_path: Path, broken: dict[str, object], words: str) -> None:
    error = refusal(RANKING, save(tmp_path, **broken), HAND)

    assert isinstance(error, ConvertError) and words in str(error)


def test_a_whitened_set_is_stored_as_such(tmp_path: Path) -> None:
    manifest = check_converter(RANKING, save(tmp_path), WHITENED, tmp_path / "out")

    assert manifest.images.whitening == "zca" and manifest.images.normalization is None


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (Answers(classes=ABC), "whitened ones --whitening whitened"),
        (replace(WHITENED, whitening="dewhitened"), "holds one form"),
        (replace(HAND, whitening="whitened"), "does not go with"),
        (replace(HAND, classes=None), "--dataset cifar10"),
        (Answers(dataset="cifar100", classes=ABC), "is named as CIFAR10"),
        (replace(HAND, images=Path("x")), "go together"),
    ],
)
def test_missing_and_contradicting_answers_name_the_option(tmp_path: Path, answers: Answers, words: str) -> None:
    error = refusal(RANKING, save(tmp_path), answers)

    assert isinstance(error, UsageError) and words in str(error)


@pytest.mark.parametrize("kind", EVIL_KINDS)
@pytest.mark.parametrize("position", ["images.pt", "labels.pt", "lr.pt"])
def test_a_malicious_file_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, position: str
) -> None:
    put(save(tmp_path) / position, evil_bytes(kind, tmp_path / "canary"))

    check_evil(RANKING, tmp_path / "DATM", tmp_path, monkeypatch, capsys)
