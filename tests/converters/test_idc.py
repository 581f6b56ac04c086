"""The converter of IDC, on a genuine run where shared/ has it, and on files made by hand everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from converter_runs import (
    ABC,
    EVIL_KINDS,
    HAND,
    LABELS,
    OPTIONS,
    PLAIN,
    UPSTREAM,
    check_evil,
    evil_bytes,
    genuine,
    put,
    read,
    refusal,
)
from ladd_converters.idc import IdcConverter, epochs_for_imagenet

from ladd_data import Answers, Classes, ConvertError, UsageError
from ladd_data.converter import fill_in
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter

IDC, RUN = IdcConverter(), UPSTREAM / "idc/factor2-ipc1"
TAGS = "conv3in_grad_mse_nd2000_cut_niter2000"
MINE = Answers(classes=ABC)
MANY = Answers(classes=Classes(names=tuple("abcdef")))


def save_run(folder: Path, tag: str = f"{TAGS}_factor2_lr0.005_mix_ipc2", **arguments: object) -> Path:
    """Write a run as condense.py does; args.txt only where arguments are given."""
    put(folder / tag / "data.pt", [PLAIN, LABELS])
    if arguments:
        (folder / tag / "args.txt").write_text(json.dumps(arguments))
    return folder / tag


@genuine
def test_a_genuine_run_converts_with_its_mosaics(tmp_path: Path) -> None:
    manifest = check_converter(IDC, RUN, fill_in(IDC, Answers(dataset="cifar10")), tmp_path)

    facts, recipe = manifest.distillation.read, manifest.recipe
    assert (manifest.distillation.mosaic_factor, facts["mosaic_factor_from"]) == (2, "args.txt")
    assert manifest.images.normalization == NORMALIZATIONS["none"]
    assert recipe.optimizer and recipe.augmentation and recipe.schedule
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.lr) == (1000, 64, 0.01)
    assert (recipe.augmentation.dsa, recipe.augmentation.cutmix) == ("color_crop_flip_scale_rotate", 1.0)
    assert [file.path for file in manifest.distillation.files] == ["data.pt", "args.txt"]


@pytest.mark.parametrize(
    ("tag", "arguments", "factor", "source"),
    [
        (f"{TAGS}_factor2_lr0.005_mix_ipc2", {}, 2, "the folder's name"),
        (f"{TAGS}_factor1_lr0.005_random_ipc2", {}, 1, "the folder's name"),
        ("renamed", {"factor": 3, "dataset": "cifar10"}, 3, "args.txt"),
        (f"{TAGS}_factor1_ipc2", {"factor": 0}, 1, "args.txt"),
    ],
)
def test_the_mosaic_factor_is_read_where_it_stands(
    tmp_path: Path, tag: str, arguments: dict[str, object], factor: int, source: str
) -> None:
    run = save_run(tmp_path / "results", tag, **arguments)

    manifest = check_converter(IDC, run, MINE, tmp_path / "out")

    assert manifest.distillation.mosaic_factor == factor
    assert manifest.distillation.read["mosaic_factor_from"] == source
    assert manifest.distillation.read["normalization"] == "none: IDC stores plain 0..1 pixels"
    other = refusal(IDC, run, replace(MINE, mosaic_factor=factor + 1))
    assert isinstance(other, UsageError) and f"says factor {factor}" in str(other)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"factor": "two"}', "{}", "[" * 100000])
def test_a_factor_that_nothing_says_is_asked_for(tmp_path: Path, text: str) -> None:
    run = save_run(tmp_path, "renamed")
    (run / "args.txt").write_text(text)

    error = refusal(IDC, run, MINE)

    assert isinstance(error, UsageError) and "--mosaic-factor" in str(error)
    assert [ask.option for ask in IDC.describe(run).asks] == ["--dataset", "--mosaic-factor"]
    distilled = read(IDC, run, replace(MINE, mosaic_factor=2))
    assert distilled.mosaic_factor == 2 and distilled.asserted["mosaic_factor"] == 2


@pytest.mark.parametrize("local", [True, False])
def test_phases_are_put_together_in_their_order(tmp_path: Path, local: bool) -> None:
    for number in (1, 0):
        run = tmp_path / "results/imagenet" / f"resnet10apin_cut_factor2_mix_ipc2_3_phase{number}"
        put(run / "data.pt", [PLAIN / (number + 1), LABELS + (0 if local else 3 * number)])

    manifest = check_converter(IDC, tmp_path / "results", MANY, tmp_path / "out")

    distilled = read(IDC, tmp_path / "results", MANY)
    assert distilled.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert np.array_equal(distilled.images, torch.cat([PLAIN, PLAIN / 2]).numpy())
    assert manifest.distillation.read["phases"] == 2
    assert ("labels_moved" in manifest.distillation.read) == local


def test_a_missing_phase_and_phases_that_differ_are_refused(tmp_path: Path) -> None:
    for number in (0, 2):
        put(tmp_path / f"x_factor2_ipc2_3_phase{number}/data.pt", [PLAIN, LABELS])
    assert "phase [1]" in str(refusal(IDC, tmp_path, MANY))

    put(tmp_path / "x_factor2_ipc2_3_phase1/data.pt", [PLAIN[..., :4], LABELS])
    assert "one size" in str(refusal(IDC, tmp_path, MANY))


def test_one_phase_alone_is_a_run_of_its_own(tmp_path: Path) -> None:
    run = save_run(tmp_path, "x_factor2_ipc2_3_phase4")

    assert read(IDC, run, MINE).labels.tolist() == LABELS.tolist()


def test_pixels_without_colour_and_the_recipe_for_large_ones(tmp_path: Path) -> None:
    put(tmp_path / "mnist/x_factor1_ipc2/data.pt", [torch.rand(6, 1, 28, 28), LABELS])
    put(tmp_path / "imagenet/x_factor3_ipc2/data.pt", [torch.rand(6, 3, 96, 96), LABELS])

    check_converter(IDC, tmp_path / "mnist", MINE, tmp_path / "out")
    large = read(IDC, tmp_path / "imagenet", MINE).recipe

    assert large and large.augmentation and (large.epochs, large.augmentation.dsa) == (1500, None)
    assert large.augmentation.crop_scale == (0.5, 1.0) and large.augmentation.cutmix == 1.0
    assert epochs_for_imagenet(1, 1, 10) == 3000 and epochs_for_imagenet(20, 2, 100) == 600


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"data": [[PLAIN, LABELS]]}, "ladd convert dc"),
        (PLAIN, "one bare tensor"),
        ([PLAIN], "a list of 1"),
        ([PLAIN, [0]], "a list of 2"),
        ([PLAIN * 8 - 4, LABELS], "expected about 0 .. 1"),
        ([PLAIN * torch.nan, LABELS], "NaN or infinity"),
        ([PLAIN, LABELS[1:]], "6 images and 5 labels"),
        ([PLAIN[:4], LABELS[:4]], 'no image of class "c"'),
        ([PLAIN[:, :2], LABELS], "expected [n, 3 or 1"),
    ],
)
def test_what_is_no_run_is_refused_for_what_it_is(tmp_path: Path, content: object, words: str) -> None:
    error = refusal(IDC, put(tmp_path / "x_factor1_ipc2/data.pt", content), MINE)

    assert isinstance(error, ConvertError) and words in str(error)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (Answers(), "--classes a,b,c"),
        (HAND, "leave --normalization out"),
        (replace(MINE, whitening="whitened"), "--whitening"),
        (replace(MINE, dataset="cifar100"), "is named as cifar10"),
    ],
)
def test_missing_and_contradicting_answers_name_the_option(tmp_path: Path, answers: Answers, words: str) -> None:
    run = save_run(tmp_path, dataset="cifar10", factor=1)

    with pytest.raises(UsageError, match=words):
        IDC.read(run, answers)


@pytest.mark.parametrize("kind", EVIL_KINDS)
def test_a_malicious_file_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    put(tmp_path / "x_factor1_ipc2/data.pt", evil_bytes(kind, tmp_path / "canary"))

    check_evil(IDC, tmp_path / "x_factor1_ipc2", tmp_path, monkeypatch, capsys, OPTIONS[:2])


def test_detect_leaves_other_files_of_this_name_alone(tmp_path: Path) -> None:
    put(tmp_path / "syn_data/rded/cifar100_conv3/ipc10/data.pt", {"dataset": "cifar100"})

    assert IDC.detect(tmp_path) is None
    assert IDC.detect(save_run(tmp_path / "results")) is not None
