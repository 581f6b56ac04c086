"""What a ladder found, as JSON and as a table."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from ladd_data.manifest import Certificate

FORMAT = "1.0"
HOW_TO_READ = (
    "stored: bytes of the label columns in the files, compressed, with what says where views lie and which are there. "
    "raw: the values as they are. Errors are against the labels the ladder began with, over the views that are kept: "
    "total variation, KL divergence in nats, and how often the most probable class is the same. Accuracy is of "
    "students, mean ± standard deviation over seeds (n - 1); less: the accuracy of the first row less this one's, "
    "seed by seed, in points, mean ± standard error. Students of one seed begin with the same weights and see the "
    "images in the same order."
)


@dataclass(frozen=True, slots=True)
class Point:
    """One rung, measured; see `rungs.Made`. accuracies: by seed, shares of 1; empty without students."""

    name: str
    stored: int
    raw: int
    labels: int
    certificate: Certificate | None
    accuracies: tuple[float, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Mean over seeds."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    def less_than(self, other: Point) -> tuple[float, float] | None:
        """Return how far accuracies are below another rung's, seed by seed: (mean, standard error); shares of 1.

        The error of a single seed is not known: NaN. None without students.
        """
        if not self.accuracies:
            return None
        off = [theirs - ours for ours, theirs in zip(self.accuracies, other.accuracies, strict=True)]
        error = statistics.stdev(off) / math.sqrt(len(off)) if len(off) > 1 else math.nan
        return statistics.fmean(off), error


@dataclass(frozen=True, slots=True)
class Rates:
    """The ladder of one dataset: facts (JSON values that say what was measured), and its rungs in order."""

    facts: dict[str, Any]
    points: tuple[Point, ...]

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON values; without times, so that equal runs give equal bytes."""
        return {"ladd_rates": FORMAT, **self.facts, "how_to_read": HOW_TO_READ, "rungs": [*map(self._row, self.points)]}

    def table(self) -> str:
        """Return it as a Markdown table."""
        head = ["labels", "views", "stored bytes", "raw bytes", "of images", "TV mean", "TV max", "KL mean", "top-1"]
        students = ["accuracy, %", "less"] if any(point.accuracies for point in self.points) else []
        lines = [f"| {' | '.join(head + students)} |", f"|{'---|' * len(head + students)}"]
        lines += [f"| {' | '.join(self._cells(point, bool(students)))} |" for point in self.points]
        return "\n".join(lines)

    def _row(self, point: Point) -> dict[str, Any]:
        certificate = point.certificate.model_dump(mode="json") if point.certificate is not None else None
        parts = {"name": point.name, "stored_bytes": point.stored, "raw_bytes": point.raw, "labels": point.labels}
        return {**parts, "certificate": certificate, "accuracies": list(point.accuracies)}

    def _cells(self, point: Point, students: bool) -> list[str]:
        share = point.stored / self.facts["image_bytes"]
        cells = [point.name, str(point.labels), f"{point.stored:,}", f"{point.raw:,}", f"{share:.2%}"]
        error = point.certificate
        if error is None:
            cells += ["-"] * 4
        else:
            cells += [f"{number:.2g}" for number in (error.mean_tv, error.max_tv, error.mean_kl)]
            cells.append(f"{error.top1_agreement:.2%}")
        if students and point.accuracy is not None:
            cells.append(_plus_minus(100 * point.accuracy, 100 * _deviation(point.accuracies)))
            off = point.less_than(self.points[0])
            cells.append("" if off is None or point is self.points[0] else _plus_minus(100 * off[0], 100 * off[1]))
        return cells


def _deviation(values: tuple[float, ...]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _plus_minus(mean: float, deviation: float) -> str:
    return f"{mean:.1f}" if math.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"
