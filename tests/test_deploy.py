"""Deployment: Eq. 5 to the letter, students that learn, and misuse refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_distilled
from torch import nn

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.deploy.losses import LADD, HardLabels
from ladd_data.deploy.train import TrainingPlan, learning_rate, train_students
from ladd_data.manifest import Network
from ladd_data.models import build_network
from ladd_data.sources import ImageSet

NETWORK = Network(name="convnet-d3", width=8, classes=3, channels=3, size=32)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_network(NETWORK)


def cross_entropy64(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return -(target.double() * torch.log_softmax(logits.double(), -1)).sum(-1)


def equation_5(model: nn.Module, dataset: ladd.Dataset, batch: ladd.Batch, *, reduction: str) -> torch.Tensor:
    """Eq. 5 image by image and view by view, in float64."""
    assert batch.dense is not None
    total = torch.zeros((), dtype=torch.float64)
    for image, label, dense in zip(batch.image, batch.label, batch.dense, strict=True):
        one_hot = torch.nn.functional.one_hot(label, 3)
        total += cross_entropy64(model(dataset.model_input(image[None]))[0], one_hot)
        views = dataset.views(image)[0]
        local = torch.stack([cross_entropy64(model(views[j : j + 1])[0], dense[j]) for j in range(25)])
        total += local.sum() if reduction == "sum" else local.mean()
    return total / len(batch)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("views_per_pass", [None, 1, 7])
def test_the_ladd_loss_and_its_gradients_are_equation_5(
    labelled: Path, model: nn.Module, reduction: str, views_per_pass: int | None
) -> None:
    dataset = ladd.load(labelled)
    batch = next(iter(dataset.loader(4)))
    loss = LADD(reduction, views_per_pass)(model, batch, dataset)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(loss, list(model.parameters()))

    expected = equation_5(model, dataset, batch, reduction=reduction)
    expected_gradients = torch.autograd.grad(expected, list(model.parameters()))

    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in expected_gradients)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        assert float((found - wanted).abs().max()) <= 1e-5 * largest


def test_hard_labels_is_the_first_term_alone(labelled: Path, model: nn.Module) -> None:
    dataset = ladd.load(labelled)
    batch = next(iter(dataset.loader(6)))

    loss = HardLabels()(model, batch, dataset)

    logits = model(dataset.model_input(batch.image))
    expected = cross_entropy64(logits, torch.nn.functional.one_hot(batch.label, 3)).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_front_door_spells_the_loss_as_documented(labelled: Path, model: nn.Module) -> None:
    dataset = ladd.load(labelled)
    for batch in dataset.loader(batch_size=4, shuffle=True, seed=0, device="cpu"):
        assert ladd.losses.LADD()(model, batch, dataset).ndim == 0


def real_images(dataset: ladd.Dataset, count: int = 12) -> ImageSet:
    images = np.random.default_rng(5).integers(0, 256, (count, 3, 32, 32), np.uint8)
    return ImageSet("random", images, np.arange(count) % 3, dataset.classes)


def test_the_same_seed_gives_the_same_student(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    plan = TrainingPlan(loss="ladd", epochs=3, batch_size=4, lr=0.01)

    runs = [train_students(dataset, NETWORK, plan, real_images(dataset), 2) for _ in range(2)]

    losses = [[seed.loss for seed in run.seeds] for run in runs]
    assert losses[0] == losses[1] and losses[0][0] != losses[0][1]
    assert [seed.steps for seed in runs[0].seeds] == [6, 6]
    assert runs[0].dataset == dataset.manifest.digest


def test_a_student_fits_its_distilled_images(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    plan = TrainingPlan(loss="hard-labels", epochs=60, batch_size=6, lr=0.05)

    results = train_students(dataset, NETWORK, plan, real_images(dataset), 1)

    assert results.seeds[0].loss < 0.1 and results.std == 0


def test_mean_and_deviation_are_over_seeds(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    results = train_students(dataset, NETWORK, TrainingPlan(epochs=1), real_images(dataset), 3)

    values = np.array([seed.accuracy for seed in results.seeds])
    assert results.mean == pytest.approx(values.mean())
    assert results.std == pytest.approx(values.std(ddof=1))


def test_schedules_begin_and_end_where_they_say() -> None:
    rates = [learning_rate(TrainingPlan(lr=1.0), step, 100) for step in range(100)]

    assert rates[0] < 0.03 and max(rates) == pytest.approx(1, abs=0.02) and rates[-1] < 0.01
    assert rates.index(max(rates)) in (49, 50)
    assert learning_rate(TrainingPlan(lr=1.0, schedule="constant"), 99, 100) == 1
    assert learning_rate(TrainingPlan(lr=1.0, schedule="cosine"), 50, 100) == pytest.approx(0.5)
    assert 0 < learning_rate(TrainingPlan(lr=1.0), 0, 1) <= 1


def test_misuse_is_refused_with_what_to_do(tmp_path: Path, unlabelled: Path, model: nn.Module) -> None:
    dataset = ladd.load(unlabelled)
    with pytest.raises(ladd.UsageError, match="ladd label"):
        train_students(dataset, NETWORK, TrainingPlan(loss="ladd"), real_images(dataset), 1)
    batch = next(iter(dataset.loader(2)))
    with pytest.raises(ladd.UsageError, match="ladd label"):
        LADD()(model, batch, dataset)
    with pytest.raises(ladd.UsageError, match="sum, mean"):
        LADD("product")  # type: ignore[arg-type]

    convert(prepare(replace(make_distilled(), normalization=None, whitening="zca"), "zca"), tmp_path / "zca")
    with pytest.raises(ladd.UsageError, match="whitened"):
        train_students(ladd.load(tmp_path / "zca"), NETWORK, TrainingPlan(loss="hard-labels"), real_images(dataset), 1)


def test_a_diverged_student_is_an_error_not_a_number(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    plan = TrainingPlan(loss="ladd", epochs=30, lr=1e12, schedule="constant")

    with pytest.raises(ladd.LaddError, match="smaller --lr"):
        train_students(dataset, NETWORK, plan, real_images(dataset), 1)
