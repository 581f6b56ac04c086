"""The converter of FRePo, on a genuine run where shared/ has it, and on files made by hand everywhere."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from converter_runs import ABC, HAND, UPSTREAM, Reduce, genuine, ladd, read, refusal
from ladd_converters.frepo import FrepoConverter, recipe_for

from ladd_data import Answers, ConvertError, UsageError
from ladd_data.converter import fill_in
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter

FREPO, RUN = FrepoConverter(), UPSTREAM / "frepo/ipc1-learnlabel"
WHITENED = Answers(classes=ABC, whitening="whitened")
IMAGE = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
LABEL = (np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]] - np.float32(1 / 3)) * np.float32(1.8)


def save_step(folder: Path, step: int = 5, image: object = IMAGE, label: object = LABEL, of: str = "cifar10") -> Path:
    """Write a step as script/distill.py does, and return the run's folder."""
    run = folder / f"train_img/{of}/step0K_num6/conv_w16_d3_identity_llTrue/state2_reset4"
    (run / "np").mkdir(parents=True, exist_ok=True)
    np.savez(run / f"np/step{step:06d}.npz", image=np.asarray(image), label=np.asarray(label))
    return run


@genuine
def test_a_genuine_run_converts_whitened_with_its_targets(tmp_path: Path) -> None:
    answers = fill_in(FREPO, Answers(dataset="cifar10", whitening="whitened"))

    manifest = check_converter(FREPO, RUN, answers, tmp_path)

    distilled = read(FREPO, RUN, answers)
    assert distilled.soft and distilled.soft.values[5, 5] == pytest.approx(0.90051, abs=1e-5)  # of the run's NOTE.txt
    assert distilled.images[0].mean((1, 2)) == pytest.approx([0.022, -0.01811, -0.00259], abs=1e-5)
    assert distilled.labels.tolist() == list(range(10))
    assert manifest.soft and manifest.soft.space == "targets" and manifest.images.whitening == "zca"
    assert manifest.distillation.read["labels_learned"] is True


@genuine
def test_a_genuine_run_is_refused_unless_told() -> None:
    error = refusal(FREPO, RUN, Answers(dataset="cifar10"))

    assert isinstance(error, ConvertError) and "--whitening whitened" in str(error)


def test_channels_come_first_and_targets_are_kept(tmp_path: Path) -> None:
    run = save_step(tmp_path / "run")

    manifest = check_converter(FREPO, run, WHITENED, tmp_path / "out")

    distilled = read(FREPO, run, WHITENED)
    assert np.array_equal(distilled.images, IMAGE.transpose(0, 3, 1, 2))
    assert distilled.soft and np.array_equal(distilled.soft.values, LABEL)
    facts = manifest.distillation.read
    assert (facts["label_space"], facts["dataset"], facts["iteration"]) == ("targets", "cifar10", "5")
    assert manifest.recipe.loss == "mse"


def test_the_last_step_is_taken_unless_another_is_asked_for(tmp_path: Path) -> None:
    for step in (5, 20, 100):
        run = save_step(tmp_path, step, IMAGE * step)

    assert np.array_equal(read(FREPO, run, WHITENED).images, (IMAGE * 100).transpose(0, 3, 1, 2))
    asked = FREPO.read(run, replace(WHITENED, iteration="20"))
    assert asked.files == (run / "np/step000020.npz",) and "iteration" not in asked.read
    assert "has steps 5, 20, 100" in str(refusal(FREPO, run, replace(WHITENED, iteration="6")))
    assert "contradicts" in str(refusal(FREPO, asked.files[0], replace(WHITENED, iteration="5")))
    save_step(tmp_path, 5, of="cifar100")
    assert "found 2 runs" in str(refusal(FREPO, tmp_path, WHITENED))


def test_sets_without_colour_are_normalised_and_not_whitened(tmp_path: Path) -> None:
    run = save_step(tmp_path / "run", image=IMAGE[..., :1], of="fashion_mnist")
    answers = Answers(classes=ABC, normalization=NORMALIZATIONS["fashionmnist"])

    manifest = check_converter(FREPO, run, answers, tmp_path / "out")

    assert manifest.images.whitening == "none" and manifest.images.channels == 1
    assert "whitens no set without colour" in str(refusal(FREPO, run, WHITENED))
    assert "--normalization" in str(refusal(FREPO, run, Answers(classes=ABC)))
    assert [ask.option for ask in FREPO.describe(run).asks] == ["--dataset"]


def test_targets_that_point_elsewhere_are_noted(tmp_path: Path) -> None:
    run = save_step(tmp_path, label=LABEL[[2, 1, 0, 3, 4, 5]])

    distilled = read(FREPO, run, WHITENED)

    assert distilled.labels.tolist() == [1, 0, 0, 1, 2, 2]
    assert any(note.startswith("2 of 6 images") for note in distilled.notes)


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        (Answers(classes=ABC), ConvertError, "which FRePo whitens"),
        (HAND, ConvertError, "which FRePo whitens"),
        (replace(WHITENED, whitening="dewhitened"), UsageError, "the matrix is not in the run"),
        (replace(WHITENED, normalization=HAND.normalization), UsageError, "does not go with"),
        (replace(WHITENED, classes=None), UsageError, "--dataset cifar10"),
        (replace(WHITENED, label_space="probs"), UsageError, "regression targets"),
        (replace(WHITENED, dataset="cifar100"), UsageError, "is named as cifar10"),
        (replace(WHITENED, experiment=1), UsageError, "--experiment"),
    ],
)
def test_missing_and_contradicting_answers_name_the_option(
    tmp_path: Path, answers: Answers, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        FREPO.read(save_step(tmp_path), answers)


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        (IMAGE.transpose(0, 3, 1, 2), LABEL, "channels, which come last"),
        (IMAGE[0], LABEL, '"image" float32 [8, 8, 3]'),
        (IMAGE, LABEL.argmax(1), '"label" int64 [6]'),
        (IMAGE, LABEL * np.nan, "NaN or infinity in the labels"),
        (IMAGE * np.nan, LABEL, "NaN or infinity in 6 of 6"),
        (IMAGE, LABEL[:5], "6 images and 5 labels"),
        (IMAGE[:4], LABEL[:4], 'no image of class "c"'),
        (IMAGE, LABEL[:, :2], 'no image of class "c"'),
        (np.array([Reduce("true")], dtype=object), LABEL, "allow_pickle=False"),
    ],
)
def test_other_arrays_are_refused_for_what_they_are(tmp_path: Path, image: object, label: object, words: str) -> None:
    error = refusal(FREPO, save_step(tmp_path, image=image, label=label), WHITENED)

    assert isinstance(error, ConvertError) and words in str(error)


def test_files_that_are_no_archives_of_arrays_are_refused(tmp_path: Path) -> None:
    run = save_step(tmp_path)
    file = run / "np/step000005.npz"
    whole = file.read_bytes()
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", bytes(70 << 20))

    for content in (b"", b"<html>", whole[:-30], whole[:200], (tmp_path / "bomb.npz").read_bytes()):
        file.write_bytes(content)
        assert str(file) in str(refusal(FREPO, run, WHITENED))
    assert "unfold to" in str(refusal(FREPO, run, WHITENED))
    np.savez(file, picture=IMAGE)
    assert "found arrays picture" in str(refusal(FREPO, run, WHITENED))


@pytest.mark.parametrize("kind", ["object-array", "bare-pickle"])
def test_a_malicious_file_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    evil = Reduce(f"touch '{tmp_path}/canary'")
    run = save_step(tmp_path, image=np.array([evil], dtype=object))
    if kind == "bare-pickle":
        (run / "np/step000005.npz").write_bytes(pickle.dumps(evil))

    options = ("--classes", "a,b,c", "--whitening", "whitened")
    code = ladd(monkeypatch, FREPO, "convert", "frepo", run, "-o", tmp_path / "out", *options)

    assert code == 1 and "step000005.npz: found" in capsys.readouterr().err
    assert not (tmp_path / "canary").exists() and not (tmp_path / "out").exists()


def test_the_recipe_counts_steps_by_images() -> None:
    assert (recipe_for(10).epochs, recipe_for(100).epochs, recipe_for(1000).epochs) == (1000, 2000, 5000)
    assert recipe_for(7).epochs is None


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"<!DOCTYPE html>", "a web page"), (b"version https://git-lfs", "a Git-LFS pointer"), (b"", "an empty file")],
)
def test_what_a_failed_download_left_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    run = save_step(tmp_path / "run")
    (run / "np/step000005.npz").write_bytes(data)

    assert words in str(refusal(FREPO, run, WHITENED))


def test_the_question_is_for_the_names_where_no_list_is_known(tmp_path: Path) -> None:
    known = FREPO.describe(save_step(tmp_path / "a", of="tiny_imagenet")).asks[0]
    other = FREPO.describe(save_step(tmp_path / "b", of="imagewoof")).asks[0]

    assert (known.option, known.example, other.option) == ("--dataset", "tinyimagenet", "--classes")
