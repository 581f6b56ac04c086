"""The GLaD converter: five-digit iterations, hand-ordered subsets, and two means."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ladd_converters.glad import DATASETS, GladConverter
from ladd_converters.mtt import MttConverter
from making_runs import (
    CIFAR,
    HAND,
    IMAGES,
    KINDS,
    LABELS,
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
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS

GLAD = GladConverter()
RUN = UPSTREAM / "glad/dm-pixel-cifar10"
TEN = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(2)) - 0.5


@genuine
@pytest.mark.parametrize("iteration", [None, "20", "00020"])
def test_the_genuine_run_converts(tmp_path: Path, iteration: str | None) -> None:
    manifest = check_converter(GLAD, RUN, Answers(dataset="cifar10", iteration=iteration), tmp_path)

    assert (manifest.images.count, manifest.images.quantization.mode) == (10, "range")
    assert manifest.distillation.files[0].path == ("images_00020.pt" if iteration else "images_best.pt")
    assert manifest.recipe.ema == 0.995


@genuine
def test_the_genuine_run_is_told_from_mtts() -> None:
    assert "five digits" in (GLAD.detect(RUN) or "") and MttConverter().detect(RUN) is None
    assert GLAD.detect(UPSTREAM / "mtt/ipc1") is None


@pytest.mark.parametrize("dataset", [name for name in DATASETS if name != "cifar10"])
def test_subsets_have_their_own_order_and_imagenets_training_mean(tmp_path: Path, dataset: str) -> None:
    run = save_run(tmp_path / "logged_files" / dataset / "run", TEN, torch.arange(10), it="00100")

    answers = Answers(dataset=dataset, iteration="100")
    manifest = check_converter(GLAD, run, answers, tmp_path)

    assert manifest.images.normalization == NORMALIZATIONS["imagenet"]
    assert manifest.classes.source == "imagenet-1k" and manifest.classes.ids is not None
    assert manifest.classes == CLASS_LISTS[DATASETS[dataset].classes]


def test_both_means_are_offered_and_what_was_not_taken_is_noted(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", TEN, torch.arange(10), it="00000")
    classes, step = CLASS_LISTS["glad-a"], "0"

    trained = GLAD.read(run, Answers(NORMALIZATIONS["imagenet"], classes, iteration=step))
    rendered = GLAD.read(run, Answers(NORMALIZATIONS["glad-render"], classes, iteration=step))
    missing = refusal(GLAD, run, Answers(classes=classes, iteration=step))

    assert any("glad-render" in note for note in trained.notes)
    assert any(".485 .456 .406" in note for note in rendered.notes)
    assert rendered.normalization == NORMALIZATIONS["glad-render"]
    assert isinstance(missing, UsageError) and "imagenet (" in str(missing) and "glad-render (" in str(missing)


def test_best_files_alone_are_told_by_their_folder(tmp_path: Path) -> None:
    run = save_run(tmp_path / "logged_files/imagenet-birds/run", TEN, torch.arange(10))

    description = GLAD.describe(run)

    assert "imagenet-<subset>" in description.reason
    assert description.asks[-1].example == "imagenet-birds"
    assert any("GLaD" in note for note in MttConverter().describe(run).notes)


def test_an_mtt_run_of_many_iterations_is_not_glads(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", it="10000")

    assert GLAD.detect(run) is None and MttConverter().detect(run) is not None


def test_a_result_dictionary_is_pointed_to_dc(tmp_path: Path) -> None:
    file = save(tmp_path / "res_MTT_x_1ipc.pt", {"data": [], "accs_all_exps": {}})

    for path in (tmp_path, file):
        assert f"ladd convert dc {file}" in str(refusal(GLAD, path, HAND))
    (tmp_path / "empty").mkdir()
    assert "found no images_*.pt" in str(refusal(GLAD, tmp_path / "empty", HAND))


def test_soft_labels_and_whitening_are_not_glads(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", IMAGES, SOFT)

    assert "GLaD writes no soft labels" in str(refusal(GLAD, run, HAND))
    whitened = Answers(dataset="cifar10", whitening="whitened")
    assert "--whitening: ladd convert glad has no use for it" in str(refusal(GLAD, run, whitened))
    assert "no such run" not in str(refusal(GLAD, tmp_path / "missing", CIFAR))


@pytest.mark.parametrize("position", ["images", "labels"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_malicious_file_is_refused_and_nothing_runs(tmp_path: Path, position: str, kind: str) -> None:
    canary = tmp_path / "canary"
    pair = {"images": IMAGES, "labels": LABELS, position: evil(kind, canary)}
    run = save_run(tmp_path / "run", pair["images"], pair["labels"], it="00010")

    GLAD.describe(run)
    error = refusal(GLAD, run / "images_00010.pt", HAND)

    assert error.exit_code == 1 and "Nothing in it was run" in str(error) and not canary.exists()
