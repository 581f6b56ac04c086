"""What training students gave, and what it was: the whole recipe, versions, digests."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from ladd_data.deploy.options import Options
from ladd_data.manifest import Network
from ladd_data.recipe import Recipe


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One student: its seed, its accuracy on the real test images, its last loss, and how long it took."""

    seed: int
    accuracy: float
    loss: float
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """All that decides the students, beside their seeds.

    dataset: digest of what they were trained on; recipe: as it ran, nothing left out; formula: of the loss.
    passes: how a step was cut into forward passes, in words.
    val: the test images by name, their number and digest; device: its type and name.
    """

    dataset: str
    network: Network
    recipe: Recipe
    options: Options
    formula: str
    passes: str
    val: str
    val_images: int
    val_digest: str
    device: str
    libraries: dict[str, str]

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        models = {"network": self.network, "recipe": self.recipe, "options": self.options}
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in models}
        return {**plain, **{name: model.model_dump(mode="json") for name, model in models.items()}}


@dataclass(frozen=True, slots=True)
class Results:
    """All students of one run, ordered by seed."""

    run: Run
    seeds: tuple[SeedResult, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy over seeds."""
        return statistics.fmean(result.accuracy for result in self.seeds)

    @property
    def std(self) -> float:
        """Standard deviation over seeds (n - 1); 0 for a single seed."""
        values = [result.accuracy for result in self.seeds]
        return statistics.stdev(values) if len(values) > 1 else 0.0

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        seeds = [asdict(result) for result in self.seeds]
        return {**self.run.document(), "seeds": seeds, "mean": self.mean, "std": self.std}
