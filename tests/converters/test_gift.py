"""The converter of GIFT's input, on files made by hand from the source's description: there is no genuine one."""

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
    OPTIONS,
    PLAIN,
    check_evil,
    evil_bytes,
    put,
    read,
    refusal,
)
from ladd_converters.gift import GiftConverter, recipe_for

from ladd_data import Answers, ConvertError, UsageError
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter

GIFT = GiftConverter()
MINE = Answers(classes=ABC)
PROBS = torch.softmax(torch.eye(3)[LABELS] * 4, 1)


def save(folder: Path, data: object = PLAIN, label: object = LABELS, method: str = "datm", **more: object) -> Path:
    """Write a file as people pack it for GIFT, and return it."""
    path = folder / f"syn_data/{method}/cifar100_conv3/ipc2/data.pt"
    return put(path, {"dataset": "cifar100", "data": data, "label": label} | more)


@pytest.mark.parametrize("label", [LABELS, LABELS[:, None], LABELS.float(), LABELS.int()])
def test_class_numbers_convert_however_they_stand(tmp_path: Path, label: torch.Tensor) -> None:
    file = save(tmp_path, label=label)

    manifest = check_converter(GIFT, file.parent, MINE, tmp_path / "out")

    facts = manifest.distillation.read
    assert (facts["dataset"], facts["method_in_path"], manifest.distillation.method) == ("cifar100", "datm", "datm")
    assert manifest.images.normalization == NORMALIZATIONS["none"] and manifest.soft is None
    assert manifest.recipe.loss == "gift" and manifest.recipe.batch_size == 10
    assert read(GIFT, file, MINE).labels.tolist() == LABELS.tolist()


def test_rows_that_sum_to_one_are_probabilities(tmp_path: Path) -> None:
    manifest = check_converter(GIFT, save(tmp_path, label=PROBS), MINE, tmp_path / "out")

    assert manifest.soft and manifest.soft.space == "probs"
    assert manifest.distillation.read["label_space"] == "probs"


@pytest.mark.parametrize("space", ["logits", "targets"])
def test_other_rows_are_asked_for(tmp_path: Path, space: str) -> None:
    file = save(tmp_path, label=torch.log(PROBS))

    error = refusal(GIFT, file, MINE)
    manifest = check_converter(GIFT, file, replace(MINE, label_space=space), tmp_path / "out")  # type: ignore[arg-type]

    assert isinstance(error, UsageError) and "--label-space" in str(error)
    assert manifest.soft and manifest.soft.space == space and "label_space" not in manifest.distillation.read


@pytest.mark.parametrize(
    ("label", "space", "words"),
    [
        (PROBS * 2, "probs", "rows that do not sum to 1"),
        (PROBS, "classes", "a row of numbers an image"),
        (LABELS, "logits", "found class numbers"),
    ],
)
def test_a_label_space_that_the_labels_contradict_is_refused(
    tmp_path: Path, label: torch.Tensor, space: str, words: str
) -> None:
    error = refusal(GIFT, save(tmp_path, label=label), replace(MINE, label_space=space))  # type: ignore[arg-type]

    assert isinstance(error, UsageError) and words in str(error)


def test_pixels_that_are_clearly_not_plain_are_asked_for(tmp_path: Path) -> None:
    file = save(tmp_path, data=IMAGES * 2)

    error = refusal(GIFT, file, MINE)

    assert isinstance(error, UsageError) and "GIFT is meant to read 0 .. 1" in str(error)
    assert read(GIFT, file, HAND).normalization == NORMALIZATIONS["half"]
    whitened = read(GIFT, file, replace(MINE, whitening="whitened"))
    assert (whitened.whitening, whitened.normalization) == ("zca", None)
    assert read(GIFT, file, replace(MINE, whitening="dewhitened")).normalization == NORMALIZATIONS["none"]


def test_mosaics_are_asked_for_where_the_method_writes_them(tmp_path: Path) -> None:
    file = save(tmp_path, method="rded")

    assert "--mosaic-factor" in str(refusal(GIFT, file, MINE))
    assert [ask.option for ask in GIFT.describe(file).asks] == ["--dataset", "--mosaic-factor"]
    assert read(GIFT, file, replace(MINE, mosaic_factor=2)).mosaic_factor == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"data": [[PLAIN, LABELS]]}, "ladd convert dc"),
        ([PLAIN, LABELS], "ladd convert idc"),
        ({"dataset": "x", "data": PLAIN}, "a dictionary with keys"),
        ({"dataset": 1, "data": PLAIN, "label": LABELS}, "dataset: int"),
        ({"dataset": "x", "data": PLAIN, "label": [0]}, "label: list"),
        ({"dataset": "x", "data": (PLAIN * 255).to(torch.uint8), "label": LABELS}, "images uint8"),
        ({"dataset": "x", "data": PLAIN, "label": LABELS[1:]}, "6 images and 5 labels"),
        ({"dataset": "x", "data": PLAIN, "label": PROBS[:, [0, 1, 1]] * torch.nan}, "NaN or infinity in the labels"),
        ({"dataset": "x", "data": PLAIN, "label": LABELS * 0}, 'no image of class "b"'),
    ],
)
def test_what_is_no_such_file_is_refused_for_what_it_is(tmp_path: Path, content: object, words: str) -> None:
    error = refusal(GIFT, put(tmp_path / "data.pt", content), MINE)

    assert isinstance(error, ConvertError) and words in str(error)


def test_a_dataset_that_the_file_contradicts_and_missing_classes_are_refused(tmp_path: Path) -> None:
    file = save(tmp_path)

    with pytest.raises(UsageError, match="is named as cifar100"):
        GIFT.read(file, replace(MINE, dataset="cifar10"))
    assert "--dataset cifar100" in str(refusal(GIFT, file, Answers()))


@pytest.mark.parametrize("kind", EVIL_KINDS)
def test_a_malicious_file_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    put(tmp_path / "ipc2/data.pt", evil_bytes(kind, tmp_path / "canary"))

    check_evil(GIFT, tmp_path / "ipc2", tmp_path, monkeypatch, capsys, OPTIONS[:2])


def test_detect_knows_the_dictionary_and_nothing_else(tmp_path: Path) -> None:
    file = save(tmp_path / "a")
    idc = put(tmp_path / "b/ipc2/data.pt", [PLAIN, LABELS])

    assert GIFT.detect(tmp_path / "a") is not None and GIFT.detect(file) is not None
    assert GIFT.detect(idc.parent) is None
    assert GIFT.detect(put(tmp_path / "c/data.pt", b"no torch file")) is None


def test_the_recipe_follows_the_number_of_images() -> None:
    assert [recipe_for(count, "cifar10").batch_size for count in (10, 500, 20000, 20001)] == [10, 50, 100, 200]
    assert recipe_for(10, "imagenet-1k").epochs == 300
    assert np.isclose(recipe_for(10, "cifar10").optimizer.weight_decay, 1e-4)  # type: ignore[union-attr]
