"""The results of benchmarks/study.py as numbers to compare: means, deviations, and whether a difference is clear."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Two-sided 95 % quantiles of Student's t, by the number of pairs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Points of accuracy between two cells, student by student of the same seed; error: standard error of the mean."""

    points: float
    error: float
    clear: bool

    @property
    def text(self) -> str:
        """As "+3.1 ± 0.4 (clear)"."""
        return f"{self.points:+.1f} ± {self.error:.1f}" + ("" if self.clear else " (not clear)")


class Table:
    """One section's accuracies by row and column."""

    def __init__(self, results: dict[str, Any], section: str) -> None:
        """Pick a section out of results.json."""
        mine = [cell for cell in results["cells"] if cell["section"] == section]
        self._cells: dict[tuple[str, str], list[float]] = {(c["row"], c["column"]): c["accuracies"] for c in mine}
        self.rows = list(dict.fromkeys(row for row, _ in self._cells))
        self.columns = list(dict.fromkeys(column for _, column in self._cells))

    def values(self, row: str, column: str = "accuracy") -> list[float]:
        """Return accuracies by seed, in percent."""
        return [100 * value for value in self._cells[row, column]]

    def mean(self, row: str, column: str = "accuracy") -> float:
        """Return the mean in percent."""
        return statistics.fmean(self.values(row, column))

    def std(self, row: str, column: str = "accuracy") -> float:
        """Return the standard deviation (n - 1) in points."""
        return statistics.stdev(self.values(row, column))

    def say(self, row: str, column: str = "accuracy") -> str:
        """Return "93.1 ± 0.4"."""
        return f"{self.mean(row, column):.1f} ± {self.std(row, column):.1f}"

    def markdown(self, corner: str) -> str:
        """Return the table."""
        head = f"| {' | '.join([corner, *self.columns])} |\n|{'---|' * (len(self.columns) + 1)}"
        lines = [f"| {' | '.join([row, *(self.say(row, column) for column in self.columns)])} |" for row in self.rows]
        return "\n".join([head, *lines])


def subtract(more: Sequence[float], less: Sequence[float]) -> Difference:
    """Return the mean of paired differences in points, its standard error, and whether it is clear at 95 %."""
    pairs = [a - b for a, b in zip(more, less, strict=True)]
    points, error = statistics.fmean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5
    return Difference(points, error, abs(points) > T95[len(pairs)] * error)


def join_names(names: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
