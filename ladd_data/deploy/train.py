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
from ladd_data.deploy.losses import TermsLoss, loss_of
from ladd_data.deploy.optimizer import Average, make_average, make_optimizer
from ladd_data.deploy.options import AS_GIVEN, Options
from ladd_data.deploy.passes import describe_passes, has_batch_statistics, settle
from ladd_data.deploy.resolve import resolve, whole
from ladd_data.deploy.results import Results, Run, SeedResult
from ladd_data.deploy.schedule import rate
from ladd_data.deploy.student import AugmentedStudent, Forward, compile_network, compiling
from ladd_data.errors import LaddError
from ladd_data.loaders.loader import Loader
from ladd_data.manifest import Network
from ladd_data.models import build_network
from ladd_data.models.arithmetic import device_name, library_versions
from ladd_data.models.evaluation import accuracy
from ladd_data.recipe import Recipe
from ladd_data.sources import ImageSet
from ladd_data.team import Team, device_of_rank, join_ranks, make_teams
from ladd_data.types import Batch


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
    those of one process. With `options.ranks_per_student` so many share the passes of each student: its results are
    those of one process but for rounding.

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
        number, team = make_teams(ranks, run.options.ranks_per_student, device)

        def train_share() -> list[SeedResult]:
            trainer, share = Trainer(dataset, run, val, device, team), []
            for seed in left[number :: ranks.count // team.count]:
                result = trainer.train(seed, on_step)
                if team.rank == 0:
                    share.append(result)
                    if keep is not None:
                        keep.add(run, result)
                    on_seed(result)
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
    settled = settle(options, dataset.manifest, resolved, network, torch.device(device))
    loss = make_loss(resolved, settled)
    check_run(dataset, network, loss, val)
    return Run(
        dataset.manifest.digest,
        network,
        resolved,
        settled,
        loss.formula,
        describe_passes(loss, settled, dataset.manifest, network),
        val.name,
        len(val.labels),
        val.digest(),
        device_name(device),
        library_versions(),
    )


def make_loss(recipe: Recipe, options: Options) -> TermsLoss:
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

    def __init__(
        self,
        dataset: Dataset,
        run: Run,
        val: ImageSet,
        device: torch.device | str,
        team: Team = Team(),  # noqa: B008 (frozen)
    ) -> None:
        """Prepare what all students share; `team`: the processes that train each of them together."""
        self.dataset, self.run, self.val, self.device, self.team = dataset, run, val, torch.device(device), team
        self.loss = make_loss(run.recipe, run.options)
        self.input = natural_input(dataset)
        wanted = run.recipe.augmentation
        self.augmenter = Augmenter(wanted, self.input.offset) if wanted is not None else None
        self._compiled: tuple[nn.Module, Forward] | None = None

    def train(self, seed: int, on_step: OnStep = lambda seed, step, steps: None) -> SeedResult:
        """Train one student and test it.

        Raises:
            DivergedError: the loss is not finite.
            UsageError: the network cannot be compiled here.
        """
        began = time.perf_counter()
        network, forward = self._build(seed)
        average = make_average(network, self.run.recipe)
        loss, steps = self._learn(network, forward, average, seed, on_step)
        if not math.isfinite(loss):
            raise DivergedError(
                f"seed {seed}: the loss is {loss} after {steps} steps. Train again, with a smaller --lr."
            )
        if average is not None:
            average.swap()
        share = accuracy(network, self.val.images, self.val.labels, self.input, self.device)
        return SeedResult(seed, share, loss, steps, time.perf_counter() - began)

    def _build(self, seed: int) -> tuple[nn.Module, Forward]:
        """Return a network as its seed begins it, and what runs it; one that is compiled takes the next one's weights.

        Torch's generator then draws dropout, of each process its own.
        """
        torch.manual_seed(seed)
        network = build_network(self.run.network).to(self.device)
        if self.team.rank:
            torch.manual_seed(seed + (self.team.rank << 32))
        if self.run.options.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if not self.run.options.compiled:
            return network, network
        if self._compiled is None:
            self._compiled = network, compile_network(network, self.run.options)
        else:
            self._compiled[0].load_state_dict(network.state_dict())
        return self._compiled

    def _learn(
        self, network: nn.Module, forward: Forward, average: Average | None, seed: int, on_step: OnStep
    ) -> tuple[float, int]:
        """Take all steps and return (the last loss, their number); nothing waits for the device before the end."""
        recipe = self.run.recipe
        optimizer = make_optimizer(network, whole(recipe.optimizer))
        schedule, epochs = whole(recipe.schedule), whole(recipe.epochs)
        student = AugmentedStudent(forward, self.augmenter, self.run.options, seed, self.device, self.team)
        loader = self._loader(seed)
        base, each, step = optimizer.param_groups[0]["lr"], len(loader), 0
        total = torch.zeros((), dtype=torch.float64)
        network.train()
        for epoch in range(epochs):
            for batch in loader:
                done = (epoch, epochs) if schedule.every == "epoch" else (step, epochs * each)
                for group in optimizer.param_groups:
                    group["lr"] = base * rate(schedule, *done)
                student.begin(step)
                total = self._descend(network, student, batch)
                optimizer.step()
                step += 1
                if average is not None and (recipe.ema_every == "step" or step % each == 0):
                    average.update()
                on_step(seed, step, epochs * each)
        self._agree(network, total)
        return float(total), step

    def _descend(self, network: nn.Module, student: AugmentedStudent, batch: Batch) -> Tensor:
        """Leave the gradient of a batch's loss in the network, and return what this process's passes add to it."""
        network.zero_grad(set_to_none=True)
        parts: list[Tensor] = []
        with compiling(self.run.options):
            for part in self.loss.parts(student, batch, self.dataset, student.takes):
                torch.autograd.backward(part)
                parts.append(part.detach())
        if self.team.count > 1:
            for parameter in network.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self.team.add_up([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
        return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64, device=self.device)

    def _agree(self, network: nn.Module, total: Tensor) -> None:
        """Add up the last loss over the team, and average running batch statistics: all else is equal already."""
        self.team.add_up([total])
        moving = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self.team.add_up(moving)
        for buffer in moving if self.team.count > 1 else ():
            buffer.div_(self.team.count)

    def _loader(self, seed: int) -> Loader:
        """Return the loader; batches of a compiled network are all of one size where that changes no number."""
        recipe, options, network = self.run.recipe, self.run.options, self.run.network
        size, space = whole(recipe.batch_size), self.loss.loader_space(self.dataset.manifest)
        fill = options.compiled and len(self.dataset) > size and not has_batch_statistics(network)
        return self.dataset.loader(
            size,
            shuffle=True,
            seed=seed,
            device=self.device,
            last="wrap" if fill else "short",
            space=space,
            rank=0,
            world=1,
        )
