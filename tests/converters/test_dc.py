"""The converter of DC, DSA and DM, on genuine results where shared/ has them, and on files made by hand everywhere."""

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
from ladd_converters.dc import DcConverter

from ladd_data import Answers, ConvertError, UsageError
from ladd_data.converter import fill_in
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS
from ladd_data.testing import check_converter

DC, DC_RUNS = DcConverter(), UPSTREAM / "dc"
RESULT = "res_DSA_CIFAR10_ConvNet_2ipc.pt"


def save_result(folder: Path, name: str = RESULT, count: int = 2, accuracies: object = None, **how: bool) -> Path:
    """Write a result as main.py does: one pair an experiment, the k-th's images times k + 1."""
    data = [[IMAGES * (number + 1), LABELS] for number in range(count)]
    own = {"ConvNet": [np.float64(0.25), np.float64(0.5)]}
    return put(folder / name, {"data": data, "accs_all_exps": own if accuracies is None else accuracies}, **how)


# Genuine runs


@genuine
@pytest.mark.parametrize(
    ("run", "answers", "shape", "facts"),
    [
        ("run-DC", Answers(dataset="cifar10"), (10, 3, 32, 32), {"experiments": 2, "experiment": 1}),
        ("run-DM", Answers(dataset="cifar10", experiment=0), (100, 3, 32, 32), {"accuracy": {"ConvNet": 0.955}}),
        ("thirdparty-dcbench/DC", Answers(dataset="cifar10"), (10, 3, 32, 32), {"experiments": 5, "experiment": 4}),
        ("thirdparty-dcbench/DSA", Answers(dataset="cifar10"), (10, 3, 32, 32), {"accuracy": {"ConvNet": 0.280645}}),
        ("thirdparty-dcbench/DM", Answers(dataset="cifar10"), (10, 3, 32, 32), {"experiments": 1, "experiment": 0}),
        ("thirdparty-danielhelle-mnist", Answers(dataset="mnist"), (10, 1, 28, 28), {"dataset_in_name": "MNIST"}),
    ],
)
def test_genuine_runs_convert(
    tmp_path: Path, run: str, answers: Answers, shape: tuple[int, ...], facts: dict[str, object]
) -> None:
    manifest = check_converter(DC, DC_RUNS / run, fill_in(DC, answers), tmp_path)

    images = manifest.images
    assert (images.count, images.channels, images.height, images.width) == shape
    assert manifest.distillation.ipc == shape[0] // 10 == manifest.distillation.read["ipc_in_name"]
    assert facts.items() <= manifest.distillation.read.items()
    assert DC.detect(DC_RUNS / run) is not None


@genuine
def test_kmeans_and_random_selections_are_not_taken_for_results() -> None:
    bench = UPSTREAM / "kmeans-random/thirdparty-dcbench"
    file = bench / "Kmeans/CIFAR10/IPC1/CIFAR10_IPC1_images.pt"

    assert DC.detect(bench) is None
    assert "one bare tensor, float32 [10, 3, 32, 32]" in str(refusal(DC, file, HAND))
    assert "tensors" in str(refusal(DC, file, HAND))


# Which experiment, and what is recorded


def test_the_last_experiment_is_taken_unless_another_is_asked_for(tmp_path: Path) -> None:
    path = save_result(tmp_path)

    last, first = read(DC, path, HAND), read(DC, path, replace(HAND, experiment=0))

    assert np.array_equal(last.images, (IMAGES * 2).numpy()) and np.array_equal(first.images, IMAGES.numpy())
    assert (last.read["experiment"], last.read["accuracy"]) == (1, {"ConvNet": 0.5})
    assert "experiment" not in first.read and first.asserted["experiment"] == 0
    assert first.read["accuracy"] == {"ConvNet": 0.25}
    assert "0 .. 1; --experiment 2" in str(refusal(DC, path, replace(HAND, experiment=2)))


@pytest.mark.parametrize(
    ("accuracies", "facts"),
    [
        ({"ConvNet": []}, set()),
        ({}, set()),
        ({"ConvNet": [0.5, 0.6, 0.7]}, {"accuracy_of_all_experiments"}),
        ({"ConvNet": [float("nan"), 1.0], "MLP": [0.5, 0.75]}, {"accuracy"}),
        ({"ConvNet": "high"}, set()),
        (7, set()),
    ],
)
def test_accuracies_are_recorded_as_far_as_they_can_be_told_apart(
    tmp_path: Path, accuracies: object, facts: set[str]
) -> None:
    path = save_result(tmp_path / "run", accuracies=accuracies)

    manifest = check_converter(DC, path, HAND, tmp_path / "out")

    assert {key for key in manifest.distillation.read if key.startswith("accuracy")} == facts


@pytest.mark.parametrize(
    ("name", "method", "epochs", "dsa"),
    [
        ("res_DC_CIFAR10_ConvNet_2ipc.pt", "DC", 300, None),
        ("res_DC_MNIST_ConvNet_2ipc.pt", "DC", 1000, "crop_scale_rotate"),
        (RESULT, "DSA", 1000, "color_crop_cutout_flip_scale_rotate"),
        ("res_DM_TinyImageNet_ConvNetD4_2ipc.pt", "DM", 1000, "color_crop_cutout_flip_scale_rotate"),
        ("res_MTT_CIFAR10_ConvNet_2ipc.pt", "GLaD", 1000, "color_crop_cutout_flip_scale_rotate"),
        ("res_DC_imagenet-birds_ConvNet_2ipc.pt", "GLaD", 1000, "color_crop_cutout_flip_scale_rotate"),
        ("res_IDM_CIFAR10_ConvNet_2ipc.pt", "IDM", None, None),
        ("renamed.pt", "DC, DSA or DM", None, None),
    ],
)
def test_the_name_says_the_method_and_with_it_the_recipe(
    tmp_path: Path, name: str, method: str, epochs: int | None, dsa: str | None
) -> None:
    distilled = read(DC, save_result(tmp_path, name), HAND)

    assert distilled.method == method
    assert (distilled.recipe.epochs if distilled.recipe else None) == epochs
    augmentation = distilled.recipe.augmentation if distilled.recipe else None
    assert (augmentation.dsa if augmentation else None) == dsa
    assert any("0.4377" in note for note in distilled.notes) == (method == "GLaD")


def test_cifar100_has_its_own_mean_and_std() -> None:
    assert DC.datasets["cifar100"].normalization == "cifar100-dc"
    assert NORMALIZATIONS["cifar100-dc"].mean == (0.5071, 0.4866, 0.4409)


def test_a_name_that_says_another_ipc_is_noted(tmp_path: Path) -> None:
    distilled = read(DC, save_result(tmp_path, "res_DM_CIFAR10_ConvNet_10ipc.pt"), HAND)

    assert distilled.notes == ("The file's name says 10 images a class; it holds 2.",)


# How the tensors may stand in the file


@pytest.mark.parametrize("kind", ["legacy", "grad", "cuda", "float64", "float-labels", "tuple", "one-channel"])
def test_variants_of_the_file_convert_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    images = IMAGES.clone().requires_grad_() if kind == "grad" else IMAGES
    images = IMAGES.double() if kind == "float64" else images
    images = torch.rand(6, 1, 28, 28) if kind == "one-channel" else images
    labels = LABELS.float() if kind == "float-labels" else LABELS
    pair = (images, labels) if kind == "tuple" else [images, labels]
    if kind == "cuda":
        monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
    path = put(
        tmp_path / RESULT, {"data": [pair], "accs_all_exps": {}}, _use_new_zipfile_serialization=kind != "legacy"
    )
    monkeypatch.undo()
    answers = replace(HAND, normalization=NORMALIZATIONS["mnist"]) if kind == "one-channel" else HAND
    assert (b"cuda:0" in path.read_bytes()) == (kind == "cuda")

    manifest = check_converter(DC, path, answers, tmp_path / "out")

    assert manifest.images.count == 6
    assert manifest.distillation.read.get("labels_dtype") == ("float32" if kind == "float-labels" else None)


# Refusals


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (IMAGES, "ladd convert mtt, or tensors"),
        ([IMAGES, LABELS], "ladd convert idc"),
        ({"dataset": "cifar10", "data": IMAGES, "label": LABELS}, "ladd convert gift"),
        ({"state_dict": {"module.fc.weight": IMAGES}}, "weights of a network"),
        ([[[IMAGES, LABELS, LABELS]]], "replay buffer"),
        ({"data": []}, "found no experiment"),
        ({"data": [[IMAGES]]}, 'entry 0 of "data" is a list of 1'),
        ({"data": [[IMAGES, [0, 1]]]}, "expected [images, labels]"),
        ({"data": [[IMAGES[0], LABELS]]}, "images float32 [3, 8, 8]"),
        ({"data": [[IMAGES.int(), LABELS]]}, "images int32"),
        ({"data": [[IMAGES, LABELS + 0.5]]}, "not whole"),
        ({"data": [[IMAGES, torch.rand(6, 3)]]}, "expected class numbers"),
        ({"data": [[IMAGES, LABELS[:5]]]}, "6 images and 5 labels"),
        ({"data": [[IMAGES, LABELS * 0]]}, 'no image of class "b"'),
        ({"data": [[IMAGES, LABELS + 1]]}, "expected 0 .. 2"),
        ({"data": [[IMAGES * torch.nan, LABELS]]}, "NaN or infinity in 6 of 6"),
        ({"data": [[IMAGES.to_sparse(), LABELS]]}, "sparse"),
        ({"data": [[torch.zeros(1).expand(6, 3, 4096, 4096), LABELS]]}, "unfold to"),
    ],
)
def test_what_is_no_result_is_refused_for_what_it_is(tmp_path: Path, content: object, words: str) -> None:
    error = refusal(DC, put(tmp_path / RESULT, content), HAND)

    assert isinstance(error, ConvertError) and error.exit_code == 1
    assert str(error).startswith(str(tmp_path / RESULT)) and words in str(error)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (Answers(classes=ABC), "--dataset cifar10"),
        (Answers(normalization=HAND.normalization), "--classes a,b,c"),
        (Answers(dataset="mnist"), "is named as CIFAR10; --dataset mnist contradicts it"),
        (replace(HAND, whitening="whitened"), "--whitening: ladd convert dc has no use for it"),
        (replace(HAND, iteration="5"), "--iteration"),
        (replace(HAND, label_space="logits"), "--label-space logits contradicts"),
    ],
)
def test_missing_and_contradicting_answers_name_the_option(tmp_path: Path, answers: Answers, words: str) -> None:
    error = refusal(DC, save_result(tmp_path), answers)

    assert isinstance(error, UsageError) and words in str(error)


@pytest.mark.parametrize("kind", EVIL_KINDS)
def test_a_malicious_file_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    put(tmp_path / "run" / RESULT, evil_bytes(kind, tmp_path / "canary"))

    check_evil(DC, tmp_path / "run", tmp_path, monkeypatch, capsys)


def test_several_results_are_listed_and_datadams_is_sent_on(tmp_path: Path) -> None:
    one, two = save_result(tmp_path), save_result(tmp_path / "b", "res_DM_CIFAR10_ConvNet_2ipc.pt")
    other = save_result(tmp_path / "c", "res_DataDAM_CIFAR10_ConvNet_2ipc_.pt")

    error = refusal(DC, tmp_path, HAND)

    assert str(one) in str(error) and str(two) in str(error) and str(other) not in str(error)
    assert "ladd convert datadam" in str(refusal(DC, other, HAND))
    assert DC.detect(other.parent) is None
    assert "no such folder or file" in str(refusal(DC, tmp_path / "missing", HAND))
    assert "found no res_" in str(refusal(DC, other.parent, HAND))


def test_pictures_beside_the_result_are_not_read_and_the_question_knows_the_name(tmp_path: Path) -> None:
    path = save_result(tmp_path)
    (tmp_path / "vis_DSA_CIFAR10_ConvNet_2ipc_exp0_iter0.png").write_bytes(b"a sheet of pictures")

    described = DC.describe(tmp_path)

    assert described.files == (path,)
    assert [(ask.option, ask.example) for ask in described.asks] == [("--dataset", "cifar10")]
    assert CLASS_LISTS["cifar10"] == read(DC, tmp_path, Answers(dataset="cifar10")).classes


def test_a_result_of_glad_asks_for_a_dataset_that_is_known(tmp_path: Path) -> None:
    path = save_result(tmp_path, "res_MTT_imagenet-birds_ConvNet_1ipc.pt")

    (ask,) = DC.describe(path).asks

    assert (ask.option, ask.example) == ("--dataset", "imagenet-birds")
    assert fill_in(DC, Answers(dataset=ask.example)).classes == CLASS_LISTS["imagesquawk"]
