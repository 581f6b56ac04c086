"""What an evaluation found: means and deviations by model, over all models, and what labels and images add."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ladd_data.evaluation.arms import DIFFERENCES, Arm
from ladd_data.evaluation.runs import Outcome, Run

OVERALL = (
    "overall mean: the mean over models of each model's mean over seeds; overall std: the mean over models of each "
    "model's standard deviation over seeds (n - 1), as LADD's tables give them (Table 1); std_of_seed_means: the "
    "deviation over seeds of the mean over models"
)
"""How one number is made of many, in words that go with every result."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model in one arm under one optimiser: accuracies by seed, shares of 1."""

    arm: Arm
    optimizer: str
    model: str
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Standard deviation over seeds (n - 1); 0 for a single seed."""
        return deviation(self.accuracies)


@dataclass(frozen=True, slots=True)
class Overall:
    """All models of one arm under one optimiser; see `OVERALL`."""

    arm: Arm
    optimizer: str
    mean: float
    std: float
    std_of_seed_means: float


@dataclass(frozen=True, slots=True)
class Difference:
    """What something adds: accuracy of the arm `more` less that of `less`, seed by seed, meaned over models.

    std: over seeds (n - 1) of these paired differences.
    """

    what: str
    more: Arm
    less: Arm
    optimizer: str
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Findings:
    """All cells, their summaries, and the differences between arms."""

    cells: tuple[Cell, ...]
    overall: tuple[Overall, ...]
    differences: tuple[Difference, ...]

    def find_overall(self, arm: Arm, optimizer: str) -> Overall:
        """Return the summary of an arm."""
        return next(one for one in self.overall if (one.arm, one.optimizer) == (arm, optimizer))

    def find_cell(self, arm: Arm, optimizer: str, model: str) -> Cell:
        """Return a cell."""
        return next(one for one in self.cells if (one.arm, one.optimizer, one.model) == (arm, optimizer, model))


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1); 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def summarise(outcomes: Sequence[tuple[Run, Outcome]]) -> Findings:
    """Return the findings of runs that are all there, in the order of the runs."""
    by_cell: dict[tuple[Arm, str, str], list[tuple[int, float]]] = {}
    for run, outcome in outcomes:
        by_cell.setdefault((run.arm, run.optimizer, run.network.name), []).append((run.seed, outcome.accuracy))
    cells = tuple(
        Cell(arm, optimizer, model, tuple(accuracy for _, accuracy in sorted(found)))
        for (arm, optimizer, model), found in by_cell.items()
    )
    pairs = list(dict.fromkeys((cell.arm, cell.optimizer) for cell in cells))
    overall = tuple(_overall(arm, optimizer, _of(cells, arm, optimizer)) for arm, optimizer in pairs)
    optimizers = list(dict.fromkeys(cell.optimizer for cell in cells))
    differences = tuple(
        _difference(what, more, less, optimizer, cells)
        for optimizer in optimizers
        for what, more, less in DIFFERENCES
        if (more, optimizer) in pairs and (less, optimizer) in pairs
    )
    return Findings(cells, overall, differences)


def _of(cells: Iterable[Cell], arm: Arm, optimizer: str) -> list[Cell]:
    return [cell for cell in cells if (cell.arm, cell.optimizer) == (arm, optimizer)]


def _seed_means(cells: Sequence[Cell]) -> list[float]:
    return [statistics.fmean(values) for values in zip(*(cell.accuracies for cell in cells), strict=True)]


def _overall(arm: Arm, optimizer: str, cells: Sequence[Cell]) -> Overall:
    mean = statistics.fmean(cell.mean for cell in cells)
    std = statistics.fmean(cell.std for cell in cells)
    return Overall(arm, optimizer, mean, std, deviation(_seed_means(cells)))


def _difference(what: str, more: Arm, less: Arm, optimizer: str, cells: Sequence[Cell]) -> Difference:
    pairs = zip(_seed_means(_of(cells, more, optimizer)), _seed_means(_of(cells, less, optimizer)), strict=True)
    by_seed = [one - other for one, other in pairs]
    return Difference(what, more, less, optimizer, statistics.fmean(by_seed), deviation(by_seed))
