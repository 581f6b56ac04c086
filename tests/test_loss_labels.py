"""What labels a loss takes: those that cannot serve are refused, with what to store; none is taken for another."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import ladd_data as ladd
from ladd_data.deploy.losses import GIFT, KL, MSE, SoftCE, has_stand_in, loss_of
from ladd_data.deploy.losses.criterion import SoftLoss, soft_rows
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.manifest import Coding, Full, Grid, Manifest
from ladd_data.recipe import Recipe
from ladd_data.types import Logits, LogProbabilities, Probabilities, RegressionTargets, SoftLabels
from ladd_data.views.geometry import grid

DENSE = Coding(encoding="dense", space="log_probs", dtype="float16", logz=True)
PAPER = Coding(encoding="dense", space="probs", dtype="float32")
TOPK = Coding(encoding="topk", logz=True, k=5)
ALL = [PAPER, DENSE, Coding(encoding="dense", space="logits"), Coding(encoding="q8"), Coding(encoding="q4", logz=True)]
NAMES = tuple(f"c{number}" for number in range(10))


def manifest(coding: Coding | None, *, soft: str | None = None, temperature: float = 1.0) -> Manifest:
    """Return what `check` looks at."""
    labels = SimpleNamespace(coding=coding, temperature=temperature, views=grid(5, "5/8"), count=25)
    own = SimpleNamespace(space=soft, temperature=1.0) if soft else None
    classes = SimpleNamespace(names=NAMES)
    return cast(Manifest, SimpleNamespace(labels=labels if coding else None, soft=own, classes=classes))


def recipe(name: Any, **more: Any) -> Recipe:
    return Recipe(loss=name, **more)


REFUSED = [
    (recipe("mse"), PAPER, "needs logits.*stores float32 probs, without logz.*--profile default"),
    (recipe("gift"), Coding(encoding="q8"), "needs logits.*float16 log_probs as q8, without logz.*--profile default"),
    (recipe("mse-ce", hard_weight=0.1), TOPK, "logits of all classes.*the 5 likeliest classes.*--encoding q8"),
    (recipe("kl", temperature=20.0), TOPK, "temperature 20.*the 5 likeliest.*--encoding q8.*topk-kl"),
    (recipe("soft-ce", teacher_temperature=2.0), TOPK, "temperature 2.*--encoding q8"),
    (recipe("topk-kl", top_k=6), TOPK, "the 6 likeliest.*--encoding topk --top-k 6"),
    (recipe("topk-kl", top_k=11), DENSE, "11 classes: this dataset has 10"),
    (recipe("ladd"), None, "no dense labels.*ladd label"),
    (recipe("kl"), None, "no dense labels.*ladd label"),
    (recipe("soft-ce", target="image"), None, "neither.*nor dense labels.*ladd label"),
    (recipe("mse", target="image"), PAPER, "needs logits.*--profile default"),
]


@pytest.mark.parametrize(("wanted", "coding", "message"), REFUSED)
def test_labels_that_cannot_serve_are_refused_with_what_to_store(
    wanted: Recipe, coding: Coding | None, message: str
) -> None:
    with pytest.raises(ladd.UsageError, match=message):
        loss_of(wanted).check(manifest(coding))


@pytest.mark.parametrize(
    ("wanted", "space", "message"),
    [
        (recipe("mse", target="image"), "probs", "soft labels are probabilities.*logits"),
        (recipe("gift", target="image"), "probs", "soft labels are probabilities.*logits"),
        (recipe("soft-ce", target="image"), "targets", "regression targets.*--loss mse"),
        (recipe("kl", target="image", temperature=3.0), "targets", "regression targets.*--loss mse"),
        (recipe("topk-kl", target="image", top_k=12), "logits", "12 classes"),
    ],
)
def test_whole_image_labels_that_cannot_serve_are_refused(wanted: Recipe, space: str, message: str) -> None:
    with pytest.raises(ladd.UsageError, match=message):
        loss_of(wanted).check(manifest(PAPER, soft=space))


@pytest.mark.parametrize("coding", [*ALL, TOPK], ids=lambda coding: f"{coding.encoding} {coding.space} {coding.logz}")
def test_labels_that_can_serve_are_taken(coding: Coding) -> None:
    served = [recipe("ladd"), recipe("soft-ce"), recipe("kl"), recipe("topk-kl", top_k=5), recipe("hard-ce")]
    if coding.encoding != "topk":
        served += [recipe("kl", temperature=20.0)]
        if coding.logz or coding.space == "logits":
            served += [recipe("mse"), recipe("gift")]
    for wanted in served:
        loss_of(wanted).check(manifest(coding))
    loss_of(recipe("kl", temperature=20.0)).check(manifest(coding, temperature=20.0))


def test_switches_and_constants_that_leave_nothing_are_refused() -> None:
    for switches, message in [
        ({"full": False, "sub": False}, "no images"),
        ({"hard": False, "soft": False}, "no labels"),
        ({"views_per_pass": 0}, "views_per_pass 0"),
        ({"views_per_step": -1}, "views_per_step -1"),
    ]:
        with pytest.raises(ladd.UsageError, match=message):
            loss_of(recipe("ladd"), **switches)  # type: ignore[arg-type]
    with pytest.raises(ladd.UsageError, match="top_k"):
        loss_of(recipe("topk-kl"))
    with pytest.raises(ladd.UsageError, match=r"26 views per step.*25"):
        loss_of(recipe("ladd"), views_per_step=26).check(manifest(PAPER))


PLAIN = torch.randn(4, 10)
KINDS: list[SoftLabels] = [
    Probabilities(PLAIN.softmax(-1)),
    LogProbabilities(PLAIN.log_softmax(-1)),
    Logits(PLAIN),
    RegressionTargets(PLAIN),
]
TAKEN: list[tuple[SoftLoss, tuple[type, ...]]] = [
    (SoftCE(), (Probabilities,)),
    (KL(4.0), (LogProbabilities,)),
    (MSE(), (Logits, RegressionTargets)),
    (GIFT(), (Logits, RegressionTargets)),
]


@pytest.mark.parametrize(("loss", "taken"), TAKEN, ids=lambda value: type(value).__name__)
def test_no_loss_takes_numbers_of_another_kind(loss: SoftLoss, taken: tuple[type, ...]) -> None:
    for kind in KINDS:
        if isinstance(kind, taken):
            assert soft_rows(loss, PLAIN, kind, torch.zeros(4, dtype=torch.int64)).shape == (4,)
        else:
            with pytest.raises(ladd.UsageError, match=f"not {type(kind).__name__}"):
                soft_rows(loss, PLAIN, kind, torch.zeros(4, dtype=torch.int64))


def never_run_but_type_checked(logits: Tensor, probabilities: Probabilities, outputs: Logits) -> None:
    """Do what mypy must refuse: strict mypy fails on an ignore that is not needed, so each line proves an error."""
    SoftCE().rows(logits, outputs)  # type: ignore[arg-type]
    SoftCE().rows(logits, probabilities.to_logs())  # type: ignore[arg-type]
    KL(20.0).rows(logits, probabilities)  # type: ignore[arg-type]
    MSE().rows(logits, probabilities)  # type: ignore[arg-type]
    GIFT().rows(logits, probabilities, logits)  # type: ignore[arg-type]
    SoftCE().rows(logits, probabilities.values)  # type: ignore[arg-type]
    probabilities.softmax(-1)  # type: ignore[attr-defined]
    torch.softmax(probabilities, -1)  # type: ignore[arg-type]


def test_a_softmax_of_probabilities_cannot_be_had_by_accident() -> None:
    with pytest.raises(TypeError):
        torch.softmax(Probabilities(PLAIN), -1)  # type: ignore[arg-type]
    assert not {"softmax", "log_softmax"} & set(dir(Probabilities))


def test_a_batch_of_another_space_is_refused_when_it_comes(paper: Path) -> None:
    dataset = ladd.load(paper)
    batch = next(iter(dataset.loader(2)))
    with pytest.raises(ladd.UsageError, match=r'labels as probabilities.*space="log_probabilities"'):
        loss_of(recipe("kl"))(lambda x: torch.zeros(len(x), 3), batch, dataset)


def constant(pictures: Tensor) -> Tensor:
    return pictures.flatten(1)[:, :3]


@pytest.mark.parametrize("name", ["ladd", "soft-ce", "kl", "mse", "gift"])
@pytest.mark.parametrize("profile", ["default", "paper"])
def test_losses_run_on_a_dataset_as_its_loader_is_asked(name: str, profile: str, labelled: Path, paper: Path) -> None:
    dataset = ladd.load(labelled if profile == "default" else paper)
    loss = loss_of(recipe(name))
    if profile == "paper" and name in ("mse", "gift"):
        with pytest.raises(ladd.UsageError, match="--profile default"):
            loss.check(dataset.manifest)
        return

    loss.check(dataset.manifest)
    loader = dataset.loader(4, space=loss.loader_space(dataset.manifest), last="wrap")

    assert all(torch.isfinite(loss(constant, batch, dataset)) for batch in loader)


def relabel(source: Path, labeler: Path, target: Path, views: Grid | Full, coding: Coding) -> ladd.Dataset:
    dataset = ladd.load(source)
    label_dataset(dataset, LabelPlan(ladd.load_labeler(labeler), views, coding, torch.device("cpu")), target)
    return ladd.load(target)


def test_stored_as_q8_the_logits_come_back(unlabelled: Path, labelled: Path, labeler: Path, tmp_path: Path) -> None:
    compact = relabel(unlabelled, labeler, tmp_path / "q8", grid(5, "5/8"), Coding(encoding="q8", logz=True))
    loss, found = loss_of(recipe("mse")), []
    for dataset in (ladd.load(labelled), compact):
        loss.check(dataset.manifest)
        found.append(float(loss(constant, next(iter(dataset.loader(6, space="logits"))), dataset)))

    assert found[1] == pytest.approx(found[0], rel=2e-2) and found[0] != found[1]


def test_whole_images_have_the_label_of_the_full_view_or_the_mean_of_views(
    unlabelled: Path, labeler: Path, labelled: Path, tmp_path: Path
) -> None:
    whole = relabel(unlabelled, labeler, tmp_path / "full", Full(), DENSE)
    loss = loss_of(recipe("soft-ce"), full=True, sub=False)
    for dataset, stand_in in ((ladd.load(labelled), True), (whole, False)):
        batch = next(iter(dataset.loader(6)))
        logits = constant(dataset.model_input(batch.image)).double()
        assert batch.dense is not None and has_stand_in(dataset.manifest) == stand_in

        label = batch.dense.mean(1) if stand_in else batch.dense[:, 0]

        expected = -(label * logits.log_softmax(-1)).sum(-1).mean()
        assert float(loss(constant, batch, dataset)) == pytest.approx(float(expected), rel=1e-6)


def test_a_set_without_dense_labels_is_trained_on_its_own_soft_labels() -> None:
    loss = loss_of(recipe("kl", temperature=3.0, target="image"))
    assert loss.loader_space(manifest(None, soft="logits")) == "probabilities"
    assert loss.loader_space(manifest(PAPER, soft="logits")) == "probabilities"
    assert loss.loader_space(manifest(PAPER)) == "log_probabilities"
    assert loss_of(recipe("hard-ce")).space is None


def test_formulas_say_what_is_computed() -> None:
    assert loss_of(recipe("ladd")).formula == "CE(z, y) [x, y] + sum_j -sum_c p_c log s_c(z) [S_j x, p_j]"
    table = loss_of(recipe("mse-ce", hard_weight=0.025)).formula
    assert table == "0.025 * mean_j CE(z, y) [S_j x, y] + mean_j mean_c (z_c - t_c)^2 [S_j x, p_j]"


def test_a_stream_serves_losses_as_its_dataset_does(labelled: Path) -> None:
    dataset, stream = ladd.load(labelled), ladd.stream(labelled, batch_size=6)
    loss = ladd.losses.LADD(views_per_pass=4)

    whole = loss(constant, next(iter(dataset.loader(6))), dataset)
    streamed = loss(constant, next(iter(stream)), stream)

    assert torch.equal(streamed, whole)
