"""The converter of RDED: five-digit class folders, and a mosaic factor in a folder's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from ladd_converters.rded import RdedConverter
from making_pictures import HAND, TEN, UPSTREAM, files_of, genuine, refusal, write_picture, write_run

from ladd_data import Answers, UsageError
from ladd_data.converter import fill_in
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter

CONVERTER = RdedConverter()
NAMES = "{c:05d}/class{c:05d}_id{i:05d}.jpg"
IMAGENET = NORMALIZATIONS["imagenet"]
NETTE = "imagenet-nette_resnet18_f2_mipc300_ipc10_cr5"


def answers(dataset: str, **more: int) -> Answers:
    return fill_in(CONVERTER, Answers(dataset=dataset, mosaic_factor=more.get("factor")))


def write_nette(folder: Path, tag: str = NETTE, ipc: int = 10) -> Path:
    return write_run(folder / "exp" / tag / "syn_data", NAMES, range(10), ipc)


@genuine
def test_the_genuine_run_converts_from_any_folder_above_it(tmp_path: Path) -> None:
    manifest = check_converter(CONVERTER, UPSTREAM / "rded", answers("cifar10"), tmp_path)

    assert (manifest.images.count, manifest.images.encoding, manifest.distillation.ipc) == (50, "jpeg", 5)
    assert manifest.images.normalization == IMAGENET
    assert manifest.distillation.read == {
        "run": "cifar10_conv3_f1_mipc40_ipc5_cr5",
        "subset": "cifar10",
        "architecture": "conv3",
        "ipc": 5,
        "mosaic_factor": 1,
        "class_folders": "places in the class list",
    }


def test_the_factor_in_the_name_is_a_fact_and_shapes_the_recipe(tmp_path: Path) -> None:
    run = write_nette(tmp_path)

    manifest = check_converter(CONVERTER, run, answers("imagenet-nette"), tmp_path / "out")
    recipe = CONVERTER.read(tmp_path, answers("imagenet-nette")).recipe

    assert manifest.distillation.mosaic_factor == manifest.distillation.read["mosaic_factor"] == 2
    assert recipe is not None and recipe.augmentation is not None
    assert (recipe.augmentation.crop_scale, recipe.augmentation.patch_shuffle) == ((0.5, 1.0), 2)
    assert recipe.batch_size == 50


@pytest.mark.parametrize(
    ("tag", "classes", "batch", "lr"),
    [
        ("cifar100_conv3_f1_mipc300_ipc1_cr5", 100, 25, 2e-3),
        ("cifar100_resnet18_modified_f1_mipc300_ipc1_cr5", 100, 20, 1e-3),
        ("cifar10_conv3_f1_mipc300_ipc1_cr5", 10, 10, 1e-3),
        ("cifar10_conv3_f1_mipc300_ipc7_cr5", 10, None, 1e-3),
    ],
)
def test_batch_and_learning_rate_are_those_of_its_arguments(
    tmp_path: Path, tag: str, classes: int, batch: int | None, lr: float
) -> None:
    write_run(tmp_path / tag / "syn_data", NAMES, range(classes), 1, size=(32, 32))

    recipe = CONVERTER.read(tmp_path, answers(tag.split("_")[0])).recipe

    assert recipe is not None and recipe.optimizer is not None
    assert (recipe.batch_size, recipe.optimizer.lr) == (batch, lr)


def test_a_folder_that_was_renamed_needs_the_factor(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", NAMES)

    assert [ask.option for ask in CONVERTER.describe(run).asks] == ["--dataset", "--mosaic-factor"]
    with pytest.raises(UsageError, match="--mosaic-factor"):
        CONVERTER.read(run, HAND)

    given = Answers(classes=HAND.classes, normalization=HAND.normalization, mosaic_factor=2)
    manifest = check_converter(CONVERTER, run, given, tmp_path / "out")
    assert manifest.distillation.mosaic_factor == manifest.distillation.asserted["mosaic_factor"] == 2


def test_a_factor_that_contradicts_the_name_is_refused_and_one_that_agrees_is_asserted(tmp_path: Path) -> None:
    write_nette(tmp_path, ipc=1)

    with pytest.raises(UsageError, match="says factor 2"):
        CONVERTER.read(tmp_path, answers("imagenet-nette", factor=1))
    distilled = CONVERTER.read(tmp_path, answers("imagenet-nette", factor=2))

    assert distilled.asserted["mosaic_factor"] == 2
    assert "mosaic_factor" not in distilled.read


def test_another_dataset_than_the_name_says_is_refused(tmp_path: Path) -> None:
    write_nette(tmp_path, ipc=1)

    assert "is a run on imagenet-nette" in refusal(CONVERTER, tmp_path, answers("cifar10"), tmp_path)


def test_the_order_of_woofs_classes_is_asked(tmp_path: Path) -> None:
    write_nette(tmp_path, "imagenet-woof_resnet18_f2_mipc300_ipc10_cr5", ipc=1)

    asks = CONVERTER.describe(tmp_path).asks

    assert [(ask.option, ask.example) for ask in asks] == [
        ("--classes", "@names.txt"),
        ("--normalization", "imagenet"),
    ]
    with pytest.raises(UsageError, match="order that your training folders had"):
        CONVERTER.read(tmp_path, Answers(normalization=IMAGENET))
    assert CONVERTER.read(tmp_path, Answers(classes=TEN, normalization=IMAGENET)).mosaic_factor == 2


def test_fewer_pictures_than_the_name_says_are_said(tmp_path: Path) -> None:
    write_nette(tmp_path, ipc=2)

    notes = CONVERTER.read(tmp_path, answers("imagenet-nette")).notes

    assert "The run's name says 10 pictures a class; there are 2." in notes


def test_classes_that_outgrow_five_digits_and_ids_keep_their_order(tmp_path: Path) -> None:
    tag = "mine_conv3_f1_mipc1_ipc1_cr1"
    run = write_run(tmp_path / tag / "syn_data", NAMES, [99_999, 100_000, 100_001], 1)
    write_picture(run / "99999/class99999_id100000.jpg")
    write_picture(run / "99999/class99999_id99999.jpg")

    distilled = CONVERTER.read(run, HAND)

    assert [file.stem for file in files_of(distilled)[:4]] == [
        "class99999_id00000",
        "class99999_id99999",
        "class99999_id100000",
        "class100000_id00000",
    ]


def test_a_grid_in_the_run_is_left_out_and_said(tmp_path: Path) -> None:
    run = write_nette(tmp_path, ipc=1)
    write_picture(run / "vis_grid.png", size=(64, 64))

    assert any("vis_grid.png" in note for note in CONVERTER.read(run, answers("imagenet-nette")).notes)


def test_a_run_without_its_last_class_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / NETTE / "syn_data", NAMES, range(9), 1)

    assert '"parachute" (9)' in refusal(CONVERTER, run, answers("imagenet-nette"), tmp_path)
