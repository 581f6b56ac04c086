"""Train students on a distilled set and test them on real images: the deployment stage, seed by seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

from ladd_data.dataset import Dataset
from ladd_data.deploy.augmentation.augment import Augmenter
from ladd_data.deploy.checks import check_run, natural_input
from ladd_data.deploy.losses import Loss, loss_of
from ladd_data.deploy.optimizer import make_average, make_optimizer
from ladd_data.deploy.options import Options, settle
from ladd_data.deploy.resolve import resolve
from ladd_data.deploy.results import Results, Run, SeedResult
from ladd_data.deploy.schedule import rate
from ladd_data.deploy.student import AugmentedStudent
from ladd_data.errors import LaddError
from ladd_data.manifest import Network
from ladd_data.models import build_network
from ladd_data.models.arithmetic import device_name, library_versions
from ladd_data.models.evaluation import accuracy
from ladd_data.recipe import Recipe
from ladd_data.sources import ImageSet

OnStep = Callable[[int, int, int], None]
OnSeed = Callable[[SeedResult], None]


def train_students(
    dataset: Dataset,
    network: Network,
    recipe: Recipe,
    val: ImageSet,
    seeds: int | Sequence[int],
    *,
    options: Options = Options(),
    device: torch.device | str = "cpu",
    on_step: OnStep = lambda seed, step, steps: None,
    on_seed: OnSeed = lambda result: None,
) -> Results:
    """Train students, each from scratch with its own seed, and test each after its last epoch.

    Args:
        dataset: the distilled set.
        network: architecture of the students.
        recipe: loss, optimiser, schedule, augmentation; from `find_recipe` and `override`, say.
        val: real images; labels in the dataset's class order.
        seeds: how many students, seeds 0, 1, ...; or their seeds.
        options: see `Options`.
        device: where to train.
        on_step: told (seed, steps done, steps in all).
        on_seed: told each result as it comes.

    Raises:
        UsageError: dataset, labels, recipe, network and test images do not go together; says what to do.
        LaddError: the loss is not finite.
    """
    run = describe_run(dataset, network, recipe, val, options, device)
    trainer = Trainer(dataset, run, val, torch.device(device))
    results = []
    for seed in range(seeds) if isinstance(seeds, int) else sorted(seeds):
        results.append(trainer.train(seed, on_step))
        on_seed(results[-1])
    return Results(run, tuple(results))


def describe_run(
    dataset: Dataset,
    network: Network,
    recipe: Recipe,
    val: ImageSet,
    options: Options = Options(),
    device: torch.device | str = "cpu",
) -> Run:
    """Return the run as it would be, all choices made; arguments and errors as of `train_students`."""
    whole = resolve(recipe, dataset.manifest, network)
    assert whole.batch_size is not None
    settled = settle(options, dataset.manifest, whole.batch_size, torch.device(device))
    loss = make_loss(whole, settled)
    check_run(dataset, network, loss, val)
    return Run(
        dataset.manifest.digest,
        network,
        whole,
        settled,
        loss.formula,
        val.name,
        len(val.labels),
        val.digest(),
        device_name(device),
        library_versions(),
    )


def make_loss(recipe: Recipe, options: Options) -> Loss:
    """Return the loss of a run."""
    return loss_of(
        recipe,
        full=options.full,
        sub=options.sub,
        hard=options.hard,
        soft=options.soft,
        views_per_pass=options.views_per_pass,
    )


class Trainer:
    """Trains the students of one run, one after another."""

    def __init__(self, dataset: Dataset, run: Run, val: ImageSet, device: torch.device) -> None:
        """Prepare what all students share."""
        self.dataset, self.run, self.val, self.device = dataset, run, val, device
        self.loss = make_loss(run.recipe, run.options)
        self.input = natural_input(dataset)
        wanted = run.recipe.augmentation
        self.augmenter = Augmenter(wanted, self.input.offset) if wanted is not None else None

    def train(self, seed: int, on_step: OnStep = lambda seed, step, steps: None) -> SeedResult:
        """Train one student and test it.

        Raises:
            LaddError: the loss is not finite.
        """
        began = time.perf_counter()
        recipe, options = self.run.recipe, self.run.options
        assert recipe.optimizer and recipe.schedule and recipe.epochs and recipe.batch_size
        torch.manual_seed(seed)
        network = build_network(self.run.network).to(self.device)
        if options.channels_last:
            network = network.to(memory_format=torch.channels_last)
        network.train()
        optimizer, average = make_optimizer(network, recipe.optimizer), make_average(network, recipe)
        student = AugmentedStudent(network, self.augmenter, options, seed, self.device)
        loader = self.dataset.loader(
            recipe.batch_size,
            shuffle=True,
            seed=seed,
            device=self.device,
            space=self.loss.space or "probabilities",
            rank=0,
            world=1,
        )
        base, each, step = optimizer.param_groups[0]["lr"], len(loader), 0
        steps = recipe.epochs * each
        loss = torch.zeros(())
        for epoch in range(recipe.epochs):
            for batch in loader:
                done = (epoch, recipe.epochs) if recipe.schedule.every == "epoch" else (step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = base * rate(recipe.schedule, *done)
                student.begin(step)
                loss = self.loss(student, batch, self.dataset)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                step += 1
                if average is not None and (recipe.ema_every == "step" or step % each == 0):
                    average.update()
                on_step(seed, step, steps)
        last = float(loss.detach())
        if not math.isfinite(last):
            raise LaddError(f"seed {seed}: the loss is {last} after {steps} steps. Train again, with a smaller --lr.")
        if average is not None:
            average.swap()
        share = accuracy(network, self.val.images, self.val.labels, self.input, self.device)
        return SeedResult(seed, share, last, steps, time.perf_counter() - began)
