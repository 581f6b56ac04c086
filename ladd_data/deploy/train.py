"""Train students on a distilled set and test them on real images: the deployment stage, seed by seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ladd_data.dataset import Dataset
from ladd_data.deploy.augmentation.augment import Augmenter
from ladd_data.deploy.checks import check_run, natural_input
from ladd_data.deploy.keep import Keep
from ladd_data.deploy.losses import Loss, loss_of
from ladd_data.deploy.optimizer import Average, make_average, make_optimizer
from ladd_data.deploy.options import AS_GIVEN, Options, settle
from ladd_data.deploy.resolve import resolve, whole
from ladd_data.deploy.results import Results, Run, SeedResult
from ladd_data.deploy.schedule import rate
from ladd_data.deploy.student import AugmentedStudent
from ladd_data.errors import LaddError
from ladd_data.loaders.loader import Loader
from ladd_data.manifest import Network
from ladd_data.models import build_network
from ladd_data.models.arithmetic import device_name, library_versions
from ladd_data.models.evaluation import accuracy
from ladd_data.recipe import Recipe
from ladd_data.sources import ImageSet
from ladd_data.team import device_of_rank, join_ranks


class DivergedError(LaddError):
    """A student's loss is no longer finite."""


OnStep = Callable[[int, int, int], None]
OnSeed = Callable[[SeedResult], None]


def train_students(
    dataset: Dataset,
    network: Network,
    recipe: Recipe,
    val: ImageSet,
    seeds: int | Sequence[int],
    *,
    options: Options = AS_GIVEN,
    device: torch.device | str = "cpu",
    keep: Keep | None = None,
    on_step: OnStep = lambda seed, step, steps: None,
    on_seed: OnSeed = lambda result: None,
) -> Results:
    """Train students, each from scratch with its own seed, and test each after its last epoch.

    Under torchrun every process calls this and trains its share of the seeds; each returns all results, which are
    those of one process.

    Args:
        dataset: the distilled set.
        network: architecture of the students.
        recipe: loss, optimiser, schedule, augmentation; from `find_recipe` and `override`, say.
        val: real images; labels in the dataset's class order.
        seeds: how many students, seeds 0, 1, ...; or their seeds.
        options: see `Options`.
        device: where to train; under torchrun "cuda" is each process's own.
        keep: the file that gets the results; seeds that it holds already are not trained again.
        on_step: told (seed, steps done, steps in all), of this process's students.
        on_seed: told each result: those kept, then this process's as they come, then those of others.

    Raises:
        UsageError: dataset, labels, recipe, network and test images do not go together; says what to do.
        DivergedError: the loss is not finite.
    """
    wanted = range(seeds) if isinstance(seeds, int) else sorted(set(seeds))
    with join_ranks() as ranks:
        device = device_of_rank(torch.device(device))
        run = describe_run(dataset, network, recipe, val, options, device)
        finished = ranks.lead(lambda: keep.begin(run) if keep is not None else {})
        results = {seed: finished[seed] for seed in wanted if seed in finished}
        for result in results.values():
            on_seed(result)
        left = [seed for seed in wanted if seed not in results]

        def train_share() -> list[SeedResult]:
            trainer, share = Trainer(dataset, run, val, device), []
            for seed in left[ranks.rank :: ranks.count]:
                share.append(trainer.train(seed, on_step))
                if keep is not None:
                    keep.add(run, share[-1])
                on_seed(share[-1])
            return share

        for rank, share in enumerate(ranks.each(train_share)):
            results |= {result.seed: result for result in share}
            for result in share if rank != ranks.rank else ():
                on_seed(result)
        whole_run = Results(run, tuple(results[seed] for seed in wanted))
        ranks.lead(lambda: keep.finish(whole_run) if keep is not None else None)
        return whole_run


def describe_run(
    dataset: Dataset,
    network: Network,
    recipe: Recipe,
    val: ImageSet,
    options: Options = AS_GIVEN,
    device: torch.device | str = "cpu",
) -> Run:
    """Return the run as it would be, all choices made; arguments and errors as of `train_students`."""
    resolved = resolve(recipe, dataset.manifest, network)
    settled = settle(options, dataset.manifest, whole(resolved.batch_size), torch.device(device))
    loss = make_loss(resolved, settled)
    check_run(dataset, network, loss, val)
    return Run(
        dataset.manifest.digest,
        network,
        resolved,
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

    def __init__(self, dataset: Dataset, run: Run, val: ImageSet, device: torch.device | str) -> None:
        """Prepare what all students share."""
        self.dataset, self.run, self.val, self.device = dataset, run, val, torch.device(device)
        self.loss = make_loss(run.recipe, run.options)
        self.input = natural_input(dataset)
        wanted = run.recipe.augmentation
        self.augmenter = Augmenter(wanted, self.input.offset) if wanted is not None else None

    def train(self, seed: int, on_step: OnStep = lambda seed, step, steps: None) -> SeedResult:
        """Train one student and test it.

        Raises:
            DivergedError: the loss is not finite.
        """
        began = time.perf_counter()
        torch.manual_seed(seed)
        network = build_network(self.run.network).to(self.device)
        if self.run.options.channels_last:
            network = network.to(memory_format=torch.channels_last)
        average = make_average(network, self.run.recipe)
        loss, steps = self._learn(network, average, seed, on_step)
        if not math.isfinite(loss):
            raise DivergedError(
                f"seed {seed}: the loss is {loss} after {steps} steps. Train again, with a smaller --lr."
            )
        if average is not None:
            average.swap()
        share = accuracy(network, self.val.images, self.val.labels, self.input, self.device)
        return SeedResult(seed, share, loss, steps, time.perf_counter() - began)

    def _learn(self, network: nn.Module, average: Average | None, seed: int, on_step: OnStep) -> tuple[float, int]:
        """Take all steps and return (the last loss, their number); nothing waits for the device before the end."""
        recipe = self.run.recipe
        optimizer = make_optimizer(network, whole(recipe.optimizer))
        schedule, epochs = whole(recipe.schedule), whole(recipe.epochs)
        student = AugmentedStudent(network, self.augmenter, self.run.options, seed, self.device)
        loader = self._loader(seed)
        base, each, step = optimizer.param_groups[0]["lr"], len(loader), 0
        parts: list[Tensor] = []
        network.train()
        for epoch in range(epochs):
            for batch in loader:
                done = (epoch, epochs) if schedule.every == "epoch" else (step, epochs * each)
                for group in optimizer.param_groups:
                    group["lr"] = base * rate(schedule, *done)
                student.begin(step)
                optimizer.zero_grad(set_to_none=True)
                parts.clear()
                for part in self.loss.parts(student, batch, self.dataset):
                    torch.autograd.backward(part)
                    parts.append(part.detach())
                optimizer.step()
                step += 1
                if average is not None and (recipe.ema_every == "step" or step % each == 0):
                    average.update()
                on_step(seed, step, epochs * each)
        return float(sum(parts)), step

    def _loader(self, seed: int) -> Loader:
        size, space = whole(self.run.recipe.batch_size), self.loss.loader_space(self.dataset.manifest)
        return self.dataset.loader(size, shuffle=True, seed=seed, device=self.device, space=space, rank=0, world=1)
