"""The FTD converter: two trees, of which a person names one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ladd_converters.ftd import FtdConverter
from ladd_converters.mtt import MttConverter
from ladd_converters.torch_files import read_tensor
from making_runs import (
    ABC,
    CIFAR,
    HAND,
    IMAGES,
    KINDS,
    LABELS,
    UPSTREAM,
    check_converter,
    evil,
    genuine,
    refusal,
    save_run,
)

from ladd_data import Answers, UsageError
from ladd_data.converter import fill_in

FTD = FtdConverter()
RUN = UPSTREAM / "ftd/ipc1-zca"


def cifar(whitening: Any) -> Answers:
    return Answers(dataset="cifar10", whitening=whitening)


def save_ftd(folder: Path, *, zca: bool = False) -> tuple[Path, Path]:
    """Write both trees of a run whose best step is 3, without ZCA or with it."""
    plain, ema = (folder / tree / "CIFAR10/calm-sun-1" for tree in ("logged_files", "ema_logged_files"))
    for it, shift in (("0", 0.5), ("3", 1.0), ("best", 1.0)):
        save_run(plain, IMAGES * shift, it=it)
        save_run(ema, IMAGES * shift * 0.75, it=it, prefix="ema_")
        if zca and it != "best":
            torch.save(IMAGES * shift / 2, plain / f"images_zca_{it}.pt")
            torch.save(IMAGES * shift / 4, ema / f"images_zca_{it}.pt")
    return plain, ema


@genuine
@pytest.mark.parametrize("tree", ["logged_files", "ema_logged_files"])
@pytest.mark.parametrize(("whitening", "iteration"), [("whitened", "best"), ("dewhitened", "3")])
def test_either_tree_of_the_genuine_run_converts(tmp_path: Path, tree: str, whitening: str, iteration: str) -> None:
    manifest = check_converter(FTD, RUN / tree, cifar(whitening), tmp_path)

    assert manifest.distillation.read["ema"] is (tree == "ema_logged_files")
    assert manifest.distillation.read["iteration"] == iteration
    assert manifest.recipe.source == "FTD"


@genuine
def test_dewhitened_copies_of_one_name_are_taken_from_their_own_tree() -> None:
    plain, ema = (
        FTD.read(RUN / tree, fill_in(FTD, cifar("dewhitened"))) for tree in ("logged_files", "ema_logged_files")
    )

    assert plain.files[0].name == ema.files[0].name == "images_zca_3.pt"
    assert not torch.equal(torch.from_numpy(plain.images), torch.from_numpy(ema.images))
    assert torch.equal(
        torch.from_numpy(ema.images), read_tensor(next((RUN / "ema_logged_files").rglob("images_zca_3.pt")))
    )


def test_a_run_with_both_trees_asks_for_one(tmp_path: Path) -> None:
    plain, ema = save_ftd(tmp_path)

    error = refusal(FTD, tmp_path, HAND)

    assert isinstance(error, UsageError) and str(plain) in str(error) and str(ema) in str(error)
    description = FTD.describe(tmp_path)
    assert [ask.option for ask in description.asks] == ["--images", "--labels", "--dataset"]
    assert "running mean" in description.asks[0].why
    named = {ask.option: Path(ask.example) for ask in description.asks[:2]}
    pair = Answers(HAND.normalization, ABC, images=named["--images"], labels=named["--labels"])
    assert FTD.read(tmp_path, pair).read["ema"] is True


@pytest.mark.parametrize("tree", [0, 1])
def test_each_tree_is_read_by_its_folder_or_by_a_file(tmp_path: Path, tree: int) -> None:
    run = save_ftd(tmp_path)[tree]

    by_folder = check_converter(FTD, run, HAND, tmp_path)

    by_file = FTD.read(run / f"{'ema_' if tree else ''}images_3.pt", HAND)
    assert by_folder.distillation.read["ema"] is by_file.read["ema"] is bool(tree)
    assert FTD.read(run, Answers(HAND.normalization, ABC, iteration="0")).files[0].name.endswith("images_0.pt")
    assert FTD.detect(run) is not None and MttConverter().detect(run) is None


@pytest.mark.parametrize("tree", [0, 1])
def test_zca_trees_are_refused_unless_told_and_dewhitened_by_equality(tmp_path: Path, tree: int) -> None:
    run = save_ftd(tmp_path, zca=True)[tree]

    assert refusal(FTD, run, HAND).exit_code == 1
    distilled = FTD.read(run, Answers(classes=ABC, whitening="dewhitened"))
    assert distilled.read["iteration"] == "3" and distilled.read["ema"] is bool(tree)
    by_file = FTD.read(run / "images_zca_0.pt", Answers(classes=ABC, whitening="dewhitened"))
    assert by_file.read["ema"] is bool(tree)
    assert by_file.files[1].name == f"{'ema_' if tree else ''}labels_0.pt"


def test_without_its_second_tree_it_looks_like_mtt_and_reads_the_same(tmp_path: Path) -> None:
    run = save_run(tmp_path / "logged_files/CIFAR10/run")

    assert FTD.detect(run) is None and MttConverter().detect(run) is not None
    assert FTD.read(run, HAND).labels.tolist() == LABELS.tolist()
    assert FTD.read(run, HAND).read["ema"] is False


@pytest.mark.parametrize("position", ["images", "labels"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_malicious_file_is_refused_and_nothing_runs(tmp_path: Path, position: str, kind: str) -> None:
    canary = tmp_path / "canary"
    pair = {"images": IMAGES, "labels": LABELS, position: evil(kind, canary)}
    run = save_run(tmp_path / "run", pair["images"], pair["labels"], prefix="ema_")

    FTD.describe(run)
    error = refusal(FTD, run, HAND)

    assert error.exit_code == 1 and "Nothing in it was run" in str(error) and not canary.exists()


@genuine
def test_nothing_else_is_taken_for_ftd() -> None:
    for other in ("mtt/ipc1", "datm/ipc1-nozca-real", "glad/dm-pixel-cifar10", "tesla/ipc1-zca"):
        assert FTD.detect(UPSTREAM / other) is None
    assert "--whitening" in str(refusal(FTD, RUN / "logged_files", CIFAR))
