"""Evaluation: protocols, controls, what is added by what, resuming, sharing, and misuse refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import CLASSES, label, make_distilled, make_labeler
from running import run_alone, run_ranks, write_script
from typer.testing import CliRunner

import ladd_data as ladd
from ladd_data.cli import app
from ladd_data.convert import convert, prepare
from ladd_data.deploy.train import DivergedError, Trainer
from ladd_data.evaluation.arms import draw_per_class
from ladd_data.evaluation.evaluate import Evaluation, Listener
from ladd_data.evaluation.protocol import OPTIMIZERS, choose_optimizer, name_networks
from ladd_data.evaluation.runs import Outcome
from ladd_data.evaluation.student import StudentTrainer
from ladd_data.evaluation.write import make_csv
from ladd_data.recipe import Augmentation, Optimizer, Recipe, Schedule
from ladd_data.sources import ImageSet

SGD = Optimizer(name="sgd", lr=0.01, momentum=0.9)
RECIPE = Recipe(
    loss="ladd", view_reduction="sum", optimizer=SGD, schedule=Schedule(kind="constant"), epochs=1, batch_size=6
)
PLAN = ladd.EvaluationPlan(RECIPE, "convnet-d3", seeds=2, width=4, threads=1)


def pictures(seed: int, count: int = 24, channels: int = 3, name: str = "real") -> ImageSet:
    images = np.random.default_rng(seed).integers(0, 256, (count, channels, 32, 32), np.uint8)
    return ImageSet(f"{name}-{seed}", images, np.arange(count) % 3, CLASSES.names)


VAL, TRAIN = pictures(1), pictures(2)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In place of training, an accuracy that tells arms, networks and seeds apart; the runs' names in order."""
    names: list[str] = []
    points = {"distilled-soft": 0.8, "distilled-hard": 0.5, "random-soft": 0.6, "random-hard": 0.4}

    def train(self: StudentTrainer, run: Any) -> Outcome:
        self._dataset_of(run)
        names.append(run.name)
        more = 0.1 if run.network.name == "alexnet" else 0.0
        return Outcome(accuracy=points[run.arm] + more + 0.02 * run.seed, loss=1.0, steps=3, seconds=0.5)

    monkeypatch.setattr(StudentTrainer, "train", train)
    return names


def controlled(labelled: Path, labeler: Path, out: Path, **changes: Any) -> Evaluation:
    plan = replace(PLAN, controls=True, **changes)
    return ladd.evaluate(labelled, VAL, out, plan, train=TRAIN, labelers=[labeler], plots=False)


def test_a_protocol_names_the_networks_of_the_papers() -> None:
    assert name_networks("5-cae", 128) == ("convnet-d5", "vgg11", "resnet18", "alexnet", "vit")
    assert name_networks("4-cae", 128) == ("convnet-d5", "vgg11", "resnet18", "alexnet")
    assert name_networks("5-cae", 32) == ("convnet-d3", "vgg11-cifar", "resnet18", "alexnet", "vit-cifar")
    assert [name_networks("4-cae", side)[0] for side in (16, 64, 256, 512)] == [
        *("convnet-d3", "convnet-d4", "convnet-d6", "convnet-d6")
    ]
    assert name_networks("convnet-d3, timm:resnet10t", 64) == ("convnet-d3", "timm:resnet10t")
    for wrong in ("", "a,,b", "vgg11,vgg11"):
        with pytest.raises(ladd.UsageError, match="--protocol"):
            name_networks(wrong, 32)


def test_an_optimiser_keeps_the_recipes_numbers_where_it_is_the_recipes_own() -> None:
    own = SGD.model_copy(update={"lr_by_network": {"vgg11": 1e-4}})

    assert choose_optimizer("sgd", own) == own
    assert choose_optimizer("adam", own) == OPTIMIZERS["adam"]
    assert choose_optimizer("sgd:0.5", own).lr == 0.5 and choose_optimizer("sgd:0.5", own).lr_by_network == {}
    for wrong in ("adamx", "sgd:", "sgd:-1", "sgd:nan"):
        with pytest.raises(ladd.UsageError, match="--optimizers"):
            choose_optimizer(wrong, own)


def test_overall_is_the_mean_over_models_of_means_and_of_deviations(
    labelled: Path, tmp_path: Path, trained: list[str]
) -> None:
    found = ladd.evaluate(labelled, VAL, tmp_path / "out", replace(PLAN, protocol="convnet-d3,alexnet"), plots=False)

    cells, (overall,) = found.findings.cells, found.findings.overall
    assert [round(value, 6) for cell in cells for value in cell.accuracies] == [0.8, 0.82, 0.9, 0.92]
    assert cells[0].std == pytest.approx(np.std([0.8, 0.82], ddof=1))
    assert overall.mean == pytest.approx(0.86) and overall.std == pytest.approx(cells[0].std)
    assert found.findings.differences == ()


def test_controls_tell_what_labels_add_from_what_images_add(
    labelled: Path, labeler: Path, tmp_path: Path, trained: list[str]
) -> None:
    found = controlled(labelled, labeler, tmp_path / "out")

    adds = {one.what: one for one in found.findings.differences}
    assert {what: round(one.mean, 6) for what, one in adds.items()} == {
        "labels, on distilled images": 0.3,
        "labels, on random images": 0.2,
        "images, with soft labels": 0.2,
        "images, without soft labels": 0.1,
    }
    assert all(one.std == pytest.approx(0) for one in adds.values())
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["adds"] for one in document["differences"]] == list(adds)
    assert "| labels, on distilled images | sgd | +30.0 ± 0.0 |" in (tmp_path / "out" / "results.md").read_text()


def test_controls_differ_in_nothing_but_images_and_labels(
    labelled: Path, labeler: Path, tmp_path: Path, trained: list[str]
) -> None:
    found = controlled(labelled, labeler, tmp_path / "out")
    by_arm = {run.arm: run for run, _ in found.runs}

    assert by_arm["random-soft"].recipe == by_arm["distilled-soft"].recipe == RECIPE
    hard = by_arm["random-hard"].recipe
    assert (
        hard == by_arm["distilled-hard"].recipe == RECIPE.model_copy(update={"loss": "hard-ce", "view_reduction": None})
    )
    assert by_arm["random-hard"].formula == "CE(z, y) [x, y]"
    dataset, sets = ladd.load(labelled), sorted((tmp_path / "out" / "random").glob("*/seed-00?-labelled"))
    assert len(sets) == 2
    for folder in sets:
        drawn = ladd.load(folder)
        assert drawn.arrays.labels.tolist() == dataset.arrays.labels.tolist()
        assert drawn.manifest.labels and dataset.manifest.labels
        assert drawn.manifest.labels.views == dataset.manifest.labels.views
        assert drawn.manifest.labels.labelers[0].weights_digest == dataset.manifest.labels.labelers[0].weights_digest
        rows = [np.flatnonzero((TRAIN.images == image).all((1, 2, 3))).tolist() for image in drawn.arrays.images]
        assert [TRAIN.labels[row].item() for (row,) in rows] == drawn.arrays.labels.tolist()  # pixels are the real ones
    assert ladd.load(sets[0]).manifest.digest != ladd.load(sets[1]).manifest.digest


def test_drawing_is_without_repeats_and_fixed_by_the_seed() -> None:
    real, wanted = np.arange(30) % 3, np.array([2, 0, 0, 1, 2])

    rows = draw_per_class(real, wanted, 7, "real")

    assert real[rows].tolist() == wanted.tolist() and len(set(rows.tolist())) == 5
    assert rows.tolist() == draw_per_class(real, wanted, 7, "real").tolist()
    assert rows.tolist() != draw_per_class(real, wanted, 8, "real").tolist()
    with pytest.raises(ladd.LaddError, match="found 10 pictures of class 1; expected at least the 11"):
        draw_per_class(real, np.ones(11, np.int64), 0, "real")


def test_what_is_left_out_is_said(labelled: Path, tmp_path: Path, trained: list[str]) -> None:
    bare = ladd.evaluate(labelled, VAL, tmp_path / "bare", replace(PLAN, controls=True), plots=False)
    plain = ladd.evaluate(labelled, VAL, tmp_path / "plain", replace(PLAN, controls=True), train=TRAIN, plots=False)

    assert [run.arm for run, _ in bare.runs] == ["distilled-soft"] * 2 + ["distilled-hard"] * 2
    assert "--train does not say" in bare.notes[0] and "--labeler" in bare.notes[1]
    assert {run.arm for run, _ in plain.runs} == {"distilled-soft", "distilled-hard", "random-hard"}
    assert len(plain.notes) == 1 and "--labeler" in plain.notes[0]


def test_finished_students_are_not_trained_again_and_more_may_be_asked_for(
    labelled: Path, tmp_path: Path, trained: list[str]
) -> None:
    ladd.evaluate(labelled, VAL, tmp_path / "out", PLAN, plots=False)
    (tmp_path / "out" / "runs" / "convnet-d3.sgd.distilled-soft.seed-001.json").write_text('{"settings": {')
    trained.clear()

    more = replace(PLAN, seeds=3, optimizers=("sgd", "adam"), controls=True)
    found = ladd.evaluate(labelled, VAL, tmp_path / "out", more, plots=False)

    assert len(found.runs) == 3 * 2 * 2
    assert len(trained) == 3 * 2 * 2 - 1  # one is sound; the damaged one is trained again
    assert "convnet-d3.sgd.distilled-soft.seed-000" not in trained


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plan: replace(plan, recipe=RECIPE.model_copy(update={"epochs": 2})), "recipe.epochs was 1, now 2"),
        (lambda plan: replace(plan, width=8), "network.width was 4, now 8"),
        (lambda plan: replace(plan, threads=2), "threads was 1, now 2"),
        (
            lambda plan: replace(plan, recipe=RECIPE.model_copy(update={"augmentation": Augmentation(flip=True)})),
            "recipe.augmentation.flip was not set, now True",
        ),
    ],
)
def test_changed_settings_are_refused_with_what_changed(
    labelled: Path, tmp_path: Path, trained: list[str], change: Callable[[Any], Any], said: str
) -> None:
    ladd.evaluate(labelled, VAL, tmp_path / "out", PLAN, plots=False)

    with pytest.raises(ladd.UsageError, match=said):
        ladd.evaluate(labelled, VAL, tmp_path / "out", change(PLAN), plots=False)
    ladd.evaluate(labelled, VAL, tmp_path / "out", change(PLAN), plots=False, overwrite=True)


def test_other_images_are_other_settings_and_threads_are_remembered(
    labelled: Path, tmp_path: Path, trained: list[str]
) -> None:
    ladd.evaluate(labelled, VAL, tmp_path / "out", PLAN, plots=False)

    with pytest.raises(ladd.UsageError, match=r"val\.digest was"):
        ladd.evaluate(labelled, pictures(3), tmp_path / "out", PLAN, plots=False)
    found = ladd.evaluate(labelled, VAL, tmp_path / "out", replace(PLAN, threads=None), plots=False)
    assert found.facts["threads"] == 1


def test_a_folder_of_something_else_is_left_alone(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")

    with pytest.raises(ladd.UsageError, match="holds no evaluation"):
        ladd.evaluate(labelled, VAL, tmp_path / "mine", PLAN, overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"


def test_misuse_is_refused_with_a_reason(
    labelled: Path, unlabelled: Path, labeler: Path, tmp_path: Path, trained: list[str]
) -> None:
    def refuse(match: str, *, dataset: Path = labelled, val: Any = VAL, plan: Any = PLAN, **more: Any) -> None:
        with pytest.raises(ladd.LaddError, match=match):
            ladd.evaluate(dataset, val, tmp_path / "out", plan, plots=False, **more)

    controls = replace(PLAN, controls=True)
    other = make_labeler(tmp_path / "other.safetensors", seed=9)
    convert(prepare(replace(make_distilled(), normalization=None, whitening="zca"), "zca"), tmp_path / "zca")
    refuse("needs dense labels|no dense labels", dataset=unlabelled)
    refuse("ZCA-whitened", dataset=tmp_path / "zca")
    refuse("found images uint8 .24, 1, 32, 32.; expected uint8 .n, 3, 32, 32.", val=pictures(1, channels=1))
    refuse("classes are not the dataset's 3", val=replace(VAL, classes=("ant", "bee", "dog")))
    refuse("pictures of 2 classes; expected all 3.*None of: cat", val=replace(VAL, labels=np.arange(24) % 2))
    refuse("labels 0 .. 3", val=(VAL.images, np.arange(24) % 4))
    refuse("same pictures", plan=controls, train=replace(VAL, name="copy"))
    refuse("add --controls", train=TRAIN)
    refuse("say with --train", plan=controls, labelers=[labeler])
    refuse("was labelled by", plan=controls, train=TRAIN, labelers=[other])
    refuse(
        "no dense labels, so random",
        dataset=unlabelled,
        plan=replace(controls, recipe="hard-labels"),
        train=TRAIN,
        labelers=[labeler],
    )
    refuse("names one twice", plan=replace(PLAN, optimizers=("sgd", "sgd:0.1")))
    refuse("not known", plan=replace(PLAN, protocol="convnet-d33"))
    refuse("too small|not a multiple", plan=replace(PLAN, protocol="vit,convnet-d6", width=None))
    assert trained == []


def test_grey_arrays_are_refused_for_a_colour_set_and_classes_are_put_in_order(
    labelled: Path, tmp_path: Path, trained: list[str]
) -> None:
    grey = VAL.images[:, :1].transpose(0, 2, 3, 1)
    np.savez(tmp_path / "grey.npz", images=grey, labels=VAL.labels)
    with pytest.raises(ladd.UsageError, match=r"images of 1 channel.*expected 3"):
        ladd.evaluate(labelled, str(tmp_path / "grey.npz"), tmp_path / "out", PLAN)

    order = ("cat", "ant", "bee")
    shuffled = replace(VAL, classes=order, labels=np.array([order.index(CLASSES.names[y]) for y in VAL.labels]))
    found = ladd.evaluate(labelled, shuffled, tmp_path / "out", PLAN, plots=False)
    assert found.facts["val"]["classes"] == "matched by name"
    again = ladd.evaluate(labelled, replace(VAL, name=shuffled.name), tmp_path / "out", PLAN, plots=False)
    assert len(trained) == 2 and again.facts["val"]["digest"] == found.facts["val"]["digest"]


def test_results_say_all_that_decides_them(labelled: Path, tmp_path: Path) -> None:
    told: list[str] = []
    listener = Listener(on_run=lambda done, total, run, outcome: told.append(f"{done}/{total} {run.seed}"))

    found = ladd.evaluate(labelled, VAL, tmp_path / "out", PLAN, listener=listener)

    document = json.loads((tmp_path / "out" / "results.json").read_text())
    manifest = ladd.load(labelled).manifest
    assert document["dataset"]["digest"] == manifest.digest and document["val"]["digest"] == VAL.digest()
    training = document["trainings"]["convnet-d3, sgd, soft"]
    assert Recipe.model_validate_json(json.dumps(training["recipe"])) == RECIPE
    assert training["options"]["views_per_pass"] == 25 and "sum_j" in training["loss"]
    assert document["libraries"]["torch"] == torch.__version__.split("+")[0] or document["libraries"]["torch"]
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert [float(row["accuracy"]) for row in rows] == list(found.findings.cells[0].accuracies)
    assert told == ["1/2 0", "2/2 1"]
    assert (tmp_path / "out" / "results.svg").read_text().startswith("<?xml")
    assert (tmp_path / "out" / "results.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_plots_are_left_out_with_a_reason(
    labelled: Path, tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)

    found = ladd.evaluate(labelled, VAL, tmp_path / "out", PLAN)

    assert found.notes == (
        'No plots: matplotlib is not installed. "pip install ladd-data[plots]", then the same command again.',
    )
    assert (tmp_path / "out" / "results.md").is_file() and not list((tmp_path / "out").glob("*.svg"))


def test_a_student_that_diverges_counts_as_one_that_guesses(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: Trainer, seed: int) -> None:
        raise DivergedError("the loss is nan")

    monkeypatch.setattr(Trainer, "train", diverge)

    found = ladd.evaluate(labelled, VAL, tmp_path / "out", PLAN, plots=False)

    assert [round(value, 6) for value in found.findings.cells[0].accuracies] == [0.333333, 0.333333]
    assert found.notes[0].startswith("2 of 2 students diverged and count as guesses")
    assert ",,0.333" in make_csv("tiny", found.runs)


def test_the_command_evaluates_and_two_ranks_give_the_bytes_of_one(
    labelled: Path, labeler: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "val.npz", images=VAL.images, labels=VAL.labels, classes=np.array(CLASSES.names))
    np.savez(tmp_path / "train.npz", images=TRAIN.images, labels=TRAIN.labels, classes=np.array(CLASSES.names))
    settings = ["batch_size=6", "augmentation=none", "ema=none"]
    arguments = ["evaluate", labelled, "--val", tmp_path / "val.npz", "--protocol", "convnet-d3", "--width", 4]
    arguments += ["--seeds", 2, "--epochs", 1, "--recipe", "ladd", "--threads", 1, "--device", "cpu", "--controls"]
    arguments += ["--train", tmp_path / "train.npz", "--labeler", labeler, *[x for s in settings for x in ("--set", s)]]
    script = write_script(tmp_path / "ladd.py")

    alone = run_alone(script, *arguments, "-o", tmp_path / "alone")
    shared = run_ranks(script, *arguments, "-o", tmp_path / "shared")

    assert alone.returncode == 0, alone.stderr
    assert shared.returncode == 0, shared.stderr
    for name in ("results.json", "results.csv", "results.md", "results.svg"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()
    assert shared.stdout.count("wrote ") == 1 and shared.stdout.count("accuracy") == 8 + 1
    assert "what adds" in alone.stdout


def test_the_command_computes_as_it_is_told_and_says_so(labelled: Path, tmp_path: Path, trained: list[str]) -> None:
    np.savez(tmp_path / "val.npz", images=VAL.images, labels=VAL.labels, classes=np.array(CLASSES.names))
    call = ["evaluate", labelled, "--val", tmp_path / "val.npz", "-o", tmp_path / "out", "--protocol", "convnet-d3"]
    call += ["--seeds", 1, "--recipe", "ladd", "--bf16", "--channels-last", "--compile", "--device", "cpu"]

    result = CliRunner().invoke(app, [str(part) for part in call])

    assert result.exit_code == 0, result.output
    (training,) = json.loads((tmp_path / "out" / "results.json").read_text())["trainings"].values()
    assert training["options"]["precision"] == "bf16"
    assert training["options"]["channels_last"] and training["options"]["compiled"]
    assert training["passes"].startswith("the full images; 25 views of each, ")


def test_the_command_takes_the_labels_of_a_set(
    unlabelled: Path, labeler: Path, tmp_path: Path, trained: list[str]
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(unlabelled, folder)
    add = ["label", str(folder), "--labeler", str(labeler), "--grid", "2", "--as", "few"]
    assert CliRunner().invoke(app, add).exit_code == 0
    np.savez(tmp_path / "val.npz", images=VAL.images, labels=VAL.labels, classes=np.array(CLASSES.names))
    call = ["evaluate", folder, "--labels", "few", "--val", tmp_path / "val.npz", "-o", tmp_path / "out"]
    call += ["--protocol", "convnet-d3", "--seeds", 1, "--recipe", "ladd", "--device", "cpu"]

    result = CliRunner().invoke(app, [str(part) for part in call])

    assert result.exit_code == 0, result.output
    (training,) = json.loads((tmp_path / "out" / "results.json").read_text())["trainings"].values()
    assert training["passes"].startswith("the full images; 4 views of each, ")


def test_the_command_says_what_is_wrong_on_one_line(labelled: Path, tmp_path: Path) -> None:
    call = ["evaluate", str(labelled), "--val", "nowhere", "-o", str(tmp_path / "out")]

    result = CliRunner().invoke(app, [*call, "--protocol", "convnet-d3", "--set", "speed=9"])

    assert isinstance(result.exception, ladd.UsageError) and "speed" in str(result.exception)


def test_a_set_with_topk_labels_is_controlled_with_topk_labels(
    unlabelled: Path, labeler: Path, tmp_path: Path, trained: list[str]
) -> None:
    compact = label(unlabelled, labeler, tmp_path / "compact", profile="compact", n=2)

    controlled(compact, labeler, tmp_path / "out", seeds=1)

    drawn = ladd.load(next((tmp_path / "out" / "random").glob("*/*-labelled"))).manifest.labels
    own = ladd.load(compact).manifest.labels
    assert drawn and own and (drawn.coding, drawn.views, drawn.profile) == (own.coding, own.views, own.profile)
