"""What a person is asked, and told, when a run of MTT is converted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ladd_converters.mtt import MttConverter
from mtt_runs import (
    ABC,
    CIFAR,
    HAND,
    IMAGES,
    OPTIONS,
    everything_in,
    ladd,
    refusal,
    save_run,
    save_zca_run,
)

from ladd_data import Answers, UsageError
from ladd_data.converter import fill_in
from ladd_data.pixels import CLIP_RMSE_LIMIT
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS
from ladd_data.testing import check_converter


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (Answers(classes=ABC), ["--normalization", "cifar10", "imagenet", "0.5,0.5,0.5/0.5,0.5,0.5"]),
        (Answers(normalization=HAND.normalization), ["--classes", "cifar10", "imagenette", "a,b,c", "@FILE"]),
        (Answers(HAND.normalization, ABC, "whitened"), ["--normalization does not go with --whitening whitened"]),
        (Answers(HAND.normalization, ABC, "dewhitened"), ["raw 0..1 scale"]),
        (Answers(HAND.normalization, ABC, images=Path("images_best.pt")), ["--images and --labels go together"]),
    ],
)
def test_a_missing_or_contradicting_answer_names_the_option(tmp_path: Path, answers: Answers, words: list[str]) -> None:
    error = refusal(save_run(tmp_path), answers)

    assert isinstance(error, UsageError) and error.exit_code == 2
    assert all(word in str(error) for word in words)


def test_a_zca_run_is_refused_unless_told(tmp_path: Path) -> None:
    run = save_zca_run(tmp_path / "run")
    told, whitened = Answers(classes=ABC, whitening="dewhitened"), Answers(classes=ABC, whitening="whitened")

    assert refusal(run, HAND).exit_code == refusal(run, Answers(classes=ABC)).exit_code == 1
    assert "images_zca_3.pt: is the de-whitened copy" in str(refusal(run / "images_zca_3.pt", whitened))
    assert MttConverter().read(run / "images_20.pt", told).files[0] == run / "images_zca_20.pt"
    torch.save(IMAGES + 1, run / "images_best.pt")
    assert "equals this file" in str(refusal(run, told))


def test_the_dataset_stands_for_classes_and_the_methods_normalization(tmp_path: Path) -> None:
    run = save_run(tmp_path / "logged_files/CIFAR100/run", torch.zeros(100, 3, 4, 4), torch.arange(100))

    manifest = check_converter(MttConverter(), run, fill_in(MttConverter(), Answers(dataset="cifar100")), tmp_path)

    assert manifest.classes == CLASS_LISTS["cifar100"]
    assert manifest.images.normalization == NORMALIZATIONS["cifar10"]  # MTT's convention, not DC's
    assert MttConverter().describe(run).asks[-1].example == "cifar100"
    assert manifest.recipe.optimizer is not None and manifest.recipe.optimizer.lr is None


def test_a_dataset_that_the_folder_contradicts_is_refused(tmp_path: Path) -> None:
    run = save_run(tmp_path / "logged_files/CIFAR10/run", torch.zeros(10, 3, 4, 4), torch.arange(10))

    for dataset in ("cifar100", "imagenette"):
        answers = fill_in(MttConverter(), Answers(dataset=dataset))
        assert "so it is of cifar10" in str(refusal(run, answers))
    own_words = Answers(NORMALIZATIONS["imagenet"], CLASS_LISTS["imagenette"])
    assert MttConverter().read(run, own_words).classes == CLASS_LISTS["imagenette"]


def test_a_texture_canvas_is_refused(tmp_path: Path) -> None:
    run = save_run(tmp_path, torch.zeros(10, 3, 64, 64), torch.arange(10))

    assert "--texture" in str(refusal(run, CIFAR))
    assert "--texture" not in str(refusal(run, Answers(CIFAR.normalization, ABC)))


def test_a_learned_learning_rate_is_as_the_person_says(tmp_path: Path) -> None:
    run = save_run(tmp_path)

    told = MttConverter().read(run, Answers(HAND.normalization, ABC, learned_lr=0.03))

    assert told.learned_lr == 0.03 and not any("--learned-lr" in note for note in told.notes)
    assert any("--learned-lr" in note for note in MttConverter().read(run, HAND).notes)


def test_doubt_about_whitening_is_noted_where_no_file_could_tell(tmp_path: Path) -> None:
    alone = save_run(tmp_path / "published")
    run = save_run(save_run(tmp_path / "run"), it="0")
    many = save_run(save_run(tmp_path / "many", torch.zeros(150, 3, 2, 2), torch.arange(150) // 50), it="0")
    doubt = [any("ZCA" in note for note in MttConverter().read(one, HAND).notes) for one in (alone, run, many)]

    assert doubt == [True, False, True]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (Answers(HAND.normalization, ABC, iteration="9"), "found no iteration 9. Choose one: --iteration 20"),
        (Answers(HAND.normalization, ABC, experiment=0), "--experiment: ladd convert mtt has no use for it"),
        (Answers(HAND.normalization, ABC, label_space="logits"), "class numbers"),
        (
            Answers(HAND.normalization, ABC, images=Path("a"), labels=Path("b"), iteration="3"),
            "--iteration does not go",
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(tmp_path: Path, answers: Answers, words: str) -> None:
    run = save_run(save_run(save_run(tmp_path / "run"), it="3"), it="20")

    assert words in str(refusal(run, answers))
    assert "is of iteration 3" in str(refusal(run / "images_3.pt", Answers(HAND.normalization, ABC, iteration="20")))


def test_replay_buffers_are_named_for_what_they_are(tmp_path: Path) -> None:
    buffer = tmp_path / "buffers/CIFAR10_NO_ZCA/ConvNet/replay_buffer_0.pt"
    buffer.parent.mkdir(parents=True)
    torch.save([[[torch.zeros(2, 2), torch.zeros(2)]]], buffer)

    assert "weights of experts" in str(refusal(tmp_path, HAND))
    assert MttConverter().detect(tmp_path) is None
    torch.save([[[torch.zeros(2, 2), torch.zeros(2)]]], save_run(tmp_path / "run") / "images_best.pt")
    assert "expected one bare tensor" in str(refusal(tmp_path / "run", HAND))


def test_a_look_at_an_unknown_folder_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladd_converters.mtt.MOST_NAMES", 50)
    for number in range(60):
        (tmp_path / f"a{number}.jpg").touch()
    save_run(tmp_path / "deeper")

    assert MttConverter().detect(tmp_path) is None
    assert MttConverter().read(tmp_path, HAND).files[0].parent == tmp_path / "deeper"


def test_several_runs_are_listed(tmp_path: Path) -> None:
    runs = [save_run(tmp_path / "logged_files" / name) for name in ("calm-sun-1", "odd-moon-2")]
    save_run(runs[1] / "a-copy")

    error = refusal(tmp_path, HAND)

    assert isinstance(error, UsageError)
    assert all(str(run) in str(error) for run in runs)
    assert MttConverter().read(runs[1], HAND).files[0].parent == runs[1]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing", "no such folder or file"),
        ("empty", "no images_*.pt"),
        ("run/labels_7.pt", "expected a run folder or an images_<it>.pt"),
        ("run", "--iteration 7"),
        ("alone", "found images_5.pt but no labels_5.pt"),
        ("alone/images_5.pt", "found no labels_5.pt beside it"),
        ("run/images_\udcff.pt", "no such folder or file"),
    ],
)
def test_a_path_without_a_best_pair_says_what_to_name(tmp_path: Path, path: str, words: str) -> None:
    save_run(tmp_path / "run", it="7")
    save_run(tmp_path / "alone", it="5")
    (tmp_path / "alone/labels_5.pt").unlink()
    (tmp_path / "empty/images_best.pt").mkdir(parents=True)

    error = refusal(tmp_path / path, HAND)

    assert isinstance(error, UsageError)
    assert words.format(tmp_path, tmp_path) in str(error)


def test_detect_names_a_reason_or_nothing(tmp_path: Path) -> None:
    mtt, datm = save_run(tmp_path / "mtt"), save_run(tmp_path / "datm")
    torch.save(torch.tensor(0.01), datm / "lr_best.pt")

    assert "images_best.pt" in (MttConverter().detect(mtt) or "")
    assert MttConverter().detect(datm) is None
    assert MttConverter().detect(tmp_path / ("a" * 300)) is None


def test_a_dry_run_reports_both_costs_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(tmp_path / "run", IMAGES * 5)
    monkeypatch.chdir(tmp_path)
    before = everything_in(tmp_path)

    code = ladd(monkeypatch, "convert", "mtt", "run", "-o", "out", *OPTIONS, "--dry-run", "--json")

    report = json.loads(capsys.readouterr().out)
    assert code == 0 and report["written"] is None
    assert report["pixels"]["clip"]["rmse"] > CLIP_RMSE_LIMIT > report["pixels"]["range"]["rmse"] > 0
    assert report["asserted"] == {"classes": ["a", "b", "c"], "normalization": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    assert everything_in(tmp_path) == before
