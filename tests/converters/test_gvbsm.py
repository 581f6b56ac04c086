"""The converter of G-VBSM and EDC: numbered class folders of PNG or JPEG files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ladd_converters.gvbsm import GvbsmConverter
from making_pictures import HAND, UPSTREAM, genuine, picture_bytes, refusal, write_picture, write_run

from ladd_data import Answers, UsageError
from ladd_data.converter import fill_in
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter

CONVERTER = GvbsmConverter()
PNG = "new{c:03d}/class{c:03d}_id{i:03d}.png"
CIFAR = fill_in(CONVERTER, Answers(dataset="cifar10"))


@genuine
def test_the_genuine_run_converts_with_cifar100s_numbers_for_cifar10(tmp_path: Path) -> None:
    manifest = check_converter(CONVERTER, UPSTREAM / "gvbsm", CIFAR, tmp_path)
    notes = CONVERTER.read(UPSTREAM / "gvbsm", CIFAR).notes

    assert (manifest.images.count, manifest.images.height, manifest.images.encoding) == (30, 32, "png")
    assert manifest.images.normalization == NORMALIZATIONS["cifar100-gvbsm"]
    assert (manifest.distillation.ipc, manifest.distillation.method) == (3, "G-VBSM or EDC")
    assert any("FKD_GVBSM_cutmix_fp16" in note for note in notes)


@genuine
def test_the_path_of_the_genuine_run_gives_the_example() -> None:
    assert CONVERTER.describe(UPSTREAM / "gvbsm").asks[0].example == "cifar10"


@pytest.mark.parametrize("names", [PNG, PNG.replace(".png", ".jpg")])
def test_png_and_jpeg_are_read(tmp_path: Path, names: str) -> None:
    run = write_run(tmp_path / "run[1]", names)

    manifest = check_converter(CONVERTER, run, HAND, tmp_path / "out")

    assert manifest.images.encoding == ("png" if names is PNG else "jpeg")


def test_edcs_jpeg_at_32_pixels_is_told_by_its_size(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PNG.replace(".png", ".jpg"), classes=range(10), ipc=1, size=(32, 32))

    distilled = CONVERTER.read(run, CIFAR)

    assert distilled.method == "EDC"
    assert distilled.recipe is not None
    assert (distilled.recipe.hard_weight, distilled.recipe.batch_size) == (0.025, 100)


def test_steps_in_the_class_folders_are_left_out_and_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PNG.replace(".png", ".jpg"))
    write_picture(run / "new000/class000_id000_iter0500.jpg")
    write_picture(run / "new000/loss0.5_id001.jpg")

    distilled = CONVERTER.read(run, HAND)

    assert distilled.method == "EDC"
    assert distilled.images.shape[0] == 6
    assert "class000_id000_iter0500.jpg, loss0.5_id001.jpg" in distilled.notes[0]


@pytest.mark.parametrize(("classes", "side", "weight", "batch"), [(10, 32, 0.15, 100), (100, 32, 0.15, 64)])
def test_the_recipe_is_that_of_the_set(tmp_path: Path, classes: int, side: int, weight: float, batch: int) -> None:
    run = write_run(tmp_path / "run", PNG, classes=range(classes), ipc=1, size=(side, side))

    recipe = CONVERTER.read(run, fill_in(CONVERTER, Answers(dataset=f"cifar{classes}"))).recipe

    assert recipe is not None
    assert (recipe.hard_weight, recipe.batch_size, recipe.epochs) == (weight, batch, 1000)


def test_a_truncated_png_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PNG)
    (run / "new001/class001_id000.png").write_bytes(picture_bytes(kind="PNG")[:-60])

    assert "class001_id000.png: found" in refusal(CONVERTER, run, HAND, tmp_path)


def test_what_is_missing_is_asked(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PNG)

    with pytest.raises(UsageError, match="--dataset"):
        CONVERTER.read(run, Answers())
    with pytest.raises(UsageError, match="cifar100-gvbsm"):
        CONVERTER.read(run, Answers(classes=HAND.classes))
