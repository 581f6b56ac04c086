"""The tensors converter: any pair of images and labels, of which everything is asserted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ladd_converters.tensors import TensorsConverter
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

from ladd_data import Answers, Normalization, UsageError
from ladd_data.convert import prepare
from ladd_data.presets import NORMALIZATIONS

TENSORS = TensorsConverter()
BENCH = UPSTREAM / "kmeans-random/thirdparty-dcbench"
PIXELS = (torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 255).to(torch.uint8)
ONE_HOT = torch.nn.functional.one_hot(LABELS, 3)


def save_pair(folder: Path, images: object = IMAGES, labels: object = LABELS) -> Path:
    save(folder / "my_images.pt", images)
    save(folder / "my_labels.pt", labels)
    return folder


def said(space: Any) -> Answers:
    return Answers(HALF, ABC, label_space=space)


@genuine
@pytest.mark.parametrize("kind", ["Kmeans", "random"])
def test_genuine_selections_with_float_class_numbers_convert(tmp_path: Path, kind: str) -> None:
    manifest = check_converter(TENSORS, BENCH / kind, CIFAR, tmp_path)

    assert (manifest.images.count, manifest.distillation.ipc) == (10, 1)
    assert manifest.distillation.read == {"labels_dtype": "float32"}
    assert manifest.images.quantization.mode == "clip"
    assert TENSORS.detect(BENCH / kind) is not None


@genuine
def test_known_methods_are_left_to_their_converters() -> None:
    for other in ("mtt/ipc1", "datm/ipc1-nozca-real", "glad/dm-pixel-cifar10", "frepo", "dc", "bad-inputs"):
        assert TENSORS.detect(UPSTREAM / other) is None
    error = refusal(TENSORS, BENCH, CIFAR)
    assert "found 2 pairs" in str(error) and "Kmeans" in str(error)
    assert [ask.option for ask in TENSORS.describe(BENCH).asks] == ["--images", "--labels", "--dataset"]


@pytest.mark.parametrize(
    ("images", "labels", "read"),
    [
        pytest.param(IMAGES, LABELS, {}, id="plain"),
        pytest.param(IMAGES, LABELS[:, None], {"labels_shape": [6, 1]}, id="column"),
        pytest.param(
            IMAGES, LABELS[:, None].half(), {"labels_shape": [6, 1], "labels_dtype": "float16"}, id="float-column"
        ),
        pytest.param(IMAGES, LABELS.int(), {"labels_dtype": "int32"}, id="int32"),
        pytest.param(IMAGES, ONE_HOT, {"labels_form": "one-hot"}, id="one-hot"),
        pytest.param(IMAGES.permute(0, 2, 3, 1), LABELS, {"images_axes": "n, height, width, channels"}, id="nhwc"),
        pytest.param(IMAGES.double().requires_grad_(), LABELS, {"images_dtype": "float64"}, id="float64"),
    ],
)
def test_any_shape_of_the_same_facts_is_accepted(tmp_path: Path, images: Any, labels: Any, read: Any) -> None:
    run = save_pair(tmp_path / "run", images, labels)

    manifest = check_converter(TENSORS, run, HAND, tmp_path)

    assert manifest.distillation.read == read
    distilled = TENSORS.read(run, HAND)
    assert np.allclose(np.asarray(distilled.images), IMAGES.numpy()) and distilled.labels.tolist() == LABELS.tolist()
    assert manifest.distillation.method == "unknown" and distilled.recipe is None


@pytest.mark.parametrize(("labels", "space"), [(SOFT, "probs"), (LOGITS, "logits"), (LOGITS * 0.1, "targets")])
def test_soft_labels_are_stored_as_the_person_says(tmp_path: Path, labels: torch.Tensor, space: str) -> None:
    run = save_pair(tmp_path / "run", IMAGES, labels)

    manifest = check_converter(TENSORS, run, said(space), tmp_path)

    assert manifest.soft is not None and manifest.soft.space == space
    distilled = TENSORS.read(run, said(space))
    assert distilled.labels.tolist() == labels.argmax(1).tolist()
    assert any("largest" in note for note in distilled.notes)
    assert "--label-space probs" in str(refusal(TENSORS, run, HAND))


@pytest.mark.parametrize("axes", ["nchw", "nhwc"])
@pytest.mark.parametrize("normalization", [None, HALF])
def test_uint8_pixels_are_kept_exactly(tmp_path: Path, axes: str, normalization: Normalization | None) -> None:
    stored = PIXELS if axes == "nchw" else PIXELS.permute(0, 2, 3, 1)
    run = save_pair(tmp_path / "run", stored)
    answers = Answers(normalization, ABC)

    manifest = check_converter(TENSORS, run, answers, tmp_path)

    assert manifest.images.quantization.mode == "clip"
    assert manifest.images.normalization == (normalization or NORMALIZATIONS["none"])
    assert np.array_equal(np.asarray(prepare(TENSORS.read(run, answers), "x").stored), PIXELS.numpy())


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 1, 28, 28), (3, 28, 28, 1)])
def test_grey_pictures_have_one_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    run = save_pair(tmp_path / "run", torch.rand(shape), torch.arange(3))

    manifest = check_converter(TENSORS, run, Answers(NORMALIZATIONS["mnist"], ABC), tmp_path)

    assert (manifest.images.channels, manifest.images.height) == (1, 28)


def test_arrays_are_read_as_tensors_are(tmp_path: Path) -> None:
    big_endian = IMAGES.numpy().astype(">f4")
    for folder in ("npy", "npz", "one"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "npy/train_images.npy", big_endian)
    np.save(tmp_path / "npy/train_labels.npy", LABELS.numpy())
    np.savez_compressed(tmp_path / "npz/set.npz", images=big_endian, labels=LABELS.numpy())
    np.savez(tmp_path / "one/set.npz", image=IMAGES.numpy(), label=LABELS.numpy())

    for folder, known in (("npy", True), ("npz", True), ("one", False)):
        assert (TENSORS.detect(tmp_path / folder) is not None) is known
        check_converter(TENSORS, tmp_path / folder, HAND, tmp_path / f"{folder}-out")
    assert TENSORS.read(tmp_path / "npz/set.npz", HAND).files == (tmp_path / "npz/set.npz",)


def test_a_named_pair_of_any_names_is_read(tmp_path: Path) -> None:
    images, labels = save(tmp_path / "x.pt", IMAGES), save(tmp_path / "y.pt", LABELS)

    manifest = check_converter(TENSORS, tmp_path, Answers(HALF, ABC, images=images, labels=labels), tmp_path)

    assert manifest.distillation.asserted["images"] == "x.pt"
    assert "--images and --labels go together" in str(refusal(TENSORS, tmp_path, Answers(HALF, ABC, images=images)))


@pytest.mark.parametrize(
    ("images", "labels", "answers", "words"),
    [
        pytest.param(IMAGES, LABELS, Answers(HALF), "--classes", id="no-classes"),
        pytest.param(IMAGES, LABELS, Answers(classes=ABC), "--normalization", id="no-normalization"),
        pytest.param(IMAGES, LABELS, Answers(HALF, ABC, "whitened"), "does not go with --whitening", id="both"),
        pytest.param(PIXELS, LABELS, Answers(classes=ABC, whitening="whitened"), "not whitened", id="uint8-whitened"),
        pytest.param(PIXELS[:, :1], LABELS, HAND, "1 channel(s); expected 3", id="uint8-channels"),
        pytest.param(PIXELS.int(), LABELS, HAND, "as floats, or as uint8", id="int32"),
        pytest.param(torch.rand(6, 3, 8, 3), LABELS, HAND, "either axis", id="ambiguous"),
        pytest.param(torch.rand(6, 2, 8, 8), LABELS, HAND, "expected images", id="two-channels"),
        pytest.param(torch.rand(8), LABELS, HAND, "expected images", id="1-d"),
        pytest.param(IMAGES, LABELS, said("logits"), "one number for each image", id="hard-said-soft"),
        pytest.param(IMAGES, SOFT, said("classes"), "not one-hot", id="soft-said-hard"),
        pytest.param(IMAGES, LOGITS, said("probs"), "Are they logits?", id="logits-said-probs"),
        pytest.param(IMAGES, LABELS[:5], HAND, "6 images and 5 labels", id="lengths"),
        pytest.param(IMAGES, LABELS + 1, HAND, "labels 1 .. 3", id="beyond"),
        pytest.param(IMAGES, LABELS + 0.5, HAND, "not whole", id="fractions"),
        pytest.param(IMAGES * torch.nan, LABELS, HAND, "NaN", id="nan"),
        pytest.param(IMAGES, SOFT * torch.nan, said("probs"), "NaN or infinity in 6 of 6", id="nan-labels"),
        pytest.param(IMAGES, torch.rand(6, 5), said("logits"), "5 classes; 3 were given", id="width"),
        pytest.param(
            IMAGES,
            LABELS,
            Answers(HALF, ABC, experiment=0),
            "--experiment: ladd convert",
            id="experiment",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    tmp_path: Path, images: Any, labels: Any, answers: Answers, words: str
) -> None:
    assert words in str(refusal(TENSORS, save_pair(tmp_path, images, labels), answers))


@pytest.mark.parametrize("position", ["images", "labels"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_malicious_file_is_refused_and_nothing_runs(tmp_path: Path, position: str, kind: str) -> None:
    canary = tmp_path / "canary"
    pair = {"images": IMAGES, "labels": LABELS, position: evil(kind, canary)}
    run = save_pair(tmp_path / "run", pair["images"], pair["labels"])

    TENSORS.describe(run)
    error = refusal(TENSORS, run, HAND)

    assert error.exit_code == 1 and "Nothing in it was run" in str(error) and not canary.exists()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_objects_and_damage_are_refused(tmp_path: Path, suffix: str) -> None:
    objects = np.array([print], dtype=object)
    buffer = io.BytesIO()
    np.savez(buffer, images=objects, labels=objects) if suffix == "npz" else np.save(buffer, objects)
    labels = tmp_path / "labels.npy"
    np.save(labels, LABELS.numpy())
    for content in (buffer.getvalue(), buffer.getvalue()[:-9], b"", b"text"):
        file = save(tmp_path / f"images.{suffix}", content)
        pair = Answers(HALF, ABC, images=file, labels=file if suffix == "npz" else labels)

        assert refusal(TENSORS, tmp_path, pair).exit_code == 1


def test_a_path_without_a_pair_says_what_is_expected(tmp_path: Path) -> None:
    save(tmp_path / "weights.pt", IMAGES)

    for path in (tmp_path, tmp_path / "weights.pt", tmp_path / "missing"):
        assert isinstance(refusal(TENSORS, path, HAND), UsageError)
    assert TENSORS.detect(save_run(tmp_path / "run")) is None


@pytest.mark.parametrize("name", ["both.npz", "images.npy"])
@pytest.mark.parametrize(
    ("data", "words"), [(b"<html>", "a web page"), (b"version https://git-lfs", "a Git-LFS pointer")]
)
def test_what_a_failed_download_left_is_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    np.save(tmp_path / "labels.npy", LABELS.numpy())

    path = tmp_path / name if name.endswith("npz") else tmp_path
    error = refusal(TENSORS, path, HAND)

    assert words in str(error) and error.exit_code == 1


def test_cifar100_is_named_with_its_convention() -> None:
    wanted = {name: preset.normalization for name, preset in TENSORS.datasets.items() if preset.classes == "cifar100"}

    assert wanted == {
        "cifar100-mtt": "cifar10",
        "cifar100-dc": "cifar100-dc",
        "cifar100-gvbsm": "cifar100-gvbsm",
    }
