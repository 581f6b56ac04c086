"""Train students on a distilled set and test them on real images: the deployment stage, seed by seed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from ladd_data.dataset import Dataset
from ladd_data.deploy.losses import LADD, HardLabels, Loss
from ladd_data.errors import LaddError, UsageError
from ladd_data.manifest import Affine, Network
from ladd_data.models import build_network
from ladd_data.models.arithmetic import library_versions
from ladd_data.models.evaluation import accuracy
from ladd_data.pixels import natural_affine
from ladd_data.sources import ImageSet


class TrainingPlan(BaseModel):
    """How students are trained. Defaults are GLaD's, which LADD follows: SGD, half warm-up, half cosine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Literal["ladd", "hard-labels"] = "ladd"
    view_reduction: Literal["sum", "mean"] = "sum"
    epochs: Annotated[int, Field(ge=1)] = 1000
    batch_size: Annotated[int, Field(ge=1)] = 256
    lr: Annotated[float, Field(gt=0)] = 0.001
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["warmup-cosine", "cosine", "constant"] = "warmup-cosine"
    views_per_pass: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One student: its seed, its accuracy on the real test images, its last loss, and how long it took."""

    seed: int
    accuracy: float
    loss: float
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Results:
    """All students of one plan; `dataset` is the digest of what they were trained on."""

    dataset: str
    network: Network
    plan: TrainingPlan
    val: str
    val_images: int
    seeds: tuple[SeedResult, ...]
    libraries: dict[str, str]

    @property
    def mean(self) -> float:
        """Mean accuracy over seeds."""
        return statistics.fmean(result.accuracy for result in self.seeds)

    @property
    def std(self) -> float:
        """Standard deviation over seeds (n - 1); 0 for a single seed."""
        values = [result.accuracy for result in self.seeds]
        return statistics.stdev(values) if len(values) > 1 else 0.0


def train_students(
    dataset: Dataset,
    network: Network,
    plan: TrainingPlan,
    val: ImageSet,
    seeds: int,
    *,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int, int], None] = lambda seed, step, steps: None,
    on_seed: Callable[[SeedResult], None] = lambda result: None,
) -> Results:
    """Train `seeds` students, seeds 0, 1, ..., each from scratch, and test each after its last epoch.

    Args:
        dataset: the distilled set.
        network: architecture of the students.
        plan: loss and optimisation.
        val: real images; labels in the dataset's class order.
        seeds: how many students.
        device: where to train.
        on_step: told (seed, steps done, steps in all).
        on_seed: told each result as it comes.

    Raises:
        UsageError: the plan needs dense labels and there are none; the set is ZCA-whitened.
        LaddError: the loss is not finite.
    """
    _refuse_misuse(dataset, plan)
    results = []
    for seed in range(seeds):
        result = _train_one(dataset, network, plan, val, seed, device, on_step)
        on_seed(result)
        results.append(result)
    digest = dataset.manifest.digest
    return Results(digest, network, plan, val.name, len(val.labels), tuple(results), library_versions())


def learning_rate(plan: TrainingPlan, step: int, steps: int) -> float:
    """Return the learning rate of a step, 0 .. steps-1.

    warmup-cosine: linear from 0 to lr over the first half, cosine to 0 over the second (GLaD).
    """
    if plan.schedule == "constant":
        return plan.lr
    if plan.schedule == "cosine":
        return plan.lr * (1 + math.cos(math.pi * step / steps)) / 2
    half = steps / 2
    if step < half:
        return plan.lr * (step + 1) / (math.floor(half) + 1)
    return plan.lr * (1 + math.cos(math.pi * (step - half) / (steps - half))) / 2


def _train_one(
    dataset: Dataset,
    spec: Network,
    plan: TrainingPlan,
    val: ImageSet,
    seed: int,
    device: torch.device | str,
    on_step: Callable[[int, int, int], None],
) -> SeedResult:
    began = time.perf_counter()
    torch.manual_seed(seed)
    network = build_network(spec).to(device)
    optimizer = torch.optim.SGD(network.parameters(), plan.lr, plan.momentum, weight_decay=plan.weight_decay)
    loss_of = _loss(plan)
    space = loss_of.space or "probabilities"
    loader = dataset.loader(plan.batch_size, shuffle=True, seed=seed, device=device, space=space, rank=0, world=1)
    steps, step = plan.epochs * len(loader), 0
    loss = torch.zeros(())
    network.train()
    for _ in range(plan.epochs):
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan, step, steps)
            loss = loss_of(network, batch, dataset)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            step += 1
            on_step(seed, step, steps)
    last = float(loss.detach())
    if not math.isfinite(last):
        raise LaddError(f"seed {seed}: the loss is {last} after {steps} steps. Train again, with a smaller --lr.")
    share = accuracy(network, val.images, val.labels, natural_input(dataset), device)
    return SeedResult(seed, share, last, steps, time.perf_counter() - began)


def _loss(plan: TrainingPlan) -> Loss:
    return LADD(plan.view_reduction, plan.views_per_pass) if plan.loss == "ladd" else HardLabels()


def natural_input(dataset: Dataset) -> Affine:
    """Return the map from a natural picture to what a student of this dataset takes.

    Raises:
        UsageError: the set is ZCA-whitened, so there is no such map.
    """
    normalization = dataset.manifest.images.normalization
    if normalization is None:
        raise UsageError(
            "the images are ZCA-whitened: a student of theirs must be tested on images whitened by the same matrix, "
            "which no file holds. Convert the de-whitened pictures (--whitening dewhitened) to train on ordinary input."
        )
    return natural_affine(normalization)


def _refuse_misuse(dataset: Dataset, plan: TrainingPlan) -> None:
    natural_input(dataset)
    _loss(plan).check(dataset.manifest)
