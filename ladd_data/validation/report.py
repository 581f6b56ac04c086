"""The outcome of a validation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ladd_data.errors import Problem
from ladd_data.types import Level

MAX_PER_CLAUSE = 20
"""Problems of one clause that are listed; the rest are counted."""

AGAIN = "Download or write the dataset again."


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome: `problems` is empty for a valid dataset; `omitted` counts those beyond the listed ones."""

    path: Path
    level: Level
    problems: tuple[Problem, ...]
    omitted: int
    records: int

    @property
    def valid(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    @property
    def advice(self) -> str:
        """What to do first, in one line: the remedy that the most problems name; empty for a valid dataset."""
        remedies = Counter(problem.fix for problem in self.problems)
        return remedies.most_common(1)[0][0] if remedies else ""


class Findings:
    """Problems in the order found, at most MAX_PER_CLAUSE of each clause."""

    def __init__(self) -> None:
        """Start with none."""
        self._listed: list[Problem] = []
        self._omitted = 0
        self._per_clause: Counter[str] = Counter()

    def add(self, *problems: Problem) -> None:
        """Keep problems, or count them once there are enough of their clause."""
        for problem in problems:
            self._per_clause[problem.clause] += 1
            if self._per_clause[problem.clause] <= MAX_PER_CLAUSE:
                self._listed.append(problem)
            else:
                self._omitted += 1

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._listed)

    def report(self, path: Path, level: Level, records: int) -> Report:
        """Return what was found; `records` is how many were read."""
        return Report(path, level, tuple(self._listed), self._omitted, records)
