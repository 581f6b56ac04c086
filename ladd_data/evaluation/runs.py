"""One student after another: which runs there are, and what is finished of them, kept so that none is run twice.

Each finished run is a file of its own, `runs/NAME.json`, written atomically, with all that decides its numbers. A
file counts only where that is what the present call asks for; where it differs, the call is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ladd_data.deploy.options import Options
from ladd_data.errors import LaddError, UsageError
from ladd_data.evaluation.arms import Arm
from ladd_data.files import canonical_json, parse_json_strictly, read_limited, write_atomically
from ladd_data.manifest import Network
from ladd_data.recipe import Recipe

Facts = dict[str, Any]
"""All that decides the numbers of a run, JSON values by names that a message can use."""


@dataclass(frozen=True, slots=True)
class Run:
    """One student to train and test.

    Recipe and options have nothing left to fill in; formula is of the loss; passes: how a step is cut, in words.
    """

    network: Network
    optimizer: str
    arm: Arm
    seed: int
    recipe: Recipe
    options: Options
    formula: str
    passes: str

    @property
    def name(self) -> str:
        """Its file's name without the ending; different for each run of an evaluation."""
        network = re.sub(r"[^A-Za-z0-9.-]", "-", self.network.name)
        return f"{network}.{self.optimizer}.{self.arm}.seed-{self.seed:03d}"


def describe_training(run: Run) -> Facts:
    """Return how a student is trained, as JSON values."""
    return {
        "network": run.network.model_dump(mode="json", exclude_defaults=True),
        "recipe": run.recipe.model_dump(mode="json", exclude_none=True),
        "options": run.options.model_dump(mode="json", exclude_none=True),
        "loss": run.formula,
        "passes": run.passes,
    }


class Outcome(BaseModel):
    """What came of a run: accuracy, last loss, steps, seconds.

    loss: None for a student that diverged: its loss was no longer finite, and it counts as one that guesses.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    accuracy: Annotated[float, Field(ge=0, le=1)]
    loss: float | None
    steps: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]


class RunFolder:
    """The finished runs of one evaluation."""

    def __init__(self, folder: Path, common: Facts, random: Facts) -> None:
        """Name the folder, what all its runs share, and what those on random images share beside; makes nothing."""
        self._folder, self._common, self._random = folder, common, random

    def facts(self, run: Run) -> Facts:
        """Return all that decides the numbers of a run."""
        parts = {"network": run.network, "recipe": run.recipe, "options": run.options}
        own: Facts = {name: part.model_dump(mode="json", exclude_defaults=True) for name, part in parts.items()}
        own |= {"arm": run.arm, "seed": run.seed}
        return {**self._common, **(self._random if run.arm.startswith("random") else {}), **own}

    def find(self, run: Run) -> Outcome | None:
        """Return what came of a run; None where it is still to be done, or its file is damaged.

        Raises:
            UsageError: it was done with other settings; says which.
        """
        path = self._folder / f"{run.name}.json"
        try:
            document = parse_json_strictly(read_limited(path))
            found, outcome = document["settings"], Outcome.model_validate(document["outcome"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return None
        if found != self.facts(run):
            raise UsageError(
                f"{path}: this run was done with other settings: {say_differences(found, self.facts(run))}. Choose "
                "another -o, or add --overwrite to begin anew."
            )
        return outcome

    def read(self, run: Run) -> Outcome:
        """Return what came of a run that is finished.

        Raises:
            LaddError: its file is gone, or damaged.
        """
        outcome = self.find(run)
        if outcome is None:
            raise LaddError(f"{self._folder / run.name}.json: is gone. Call again to train this student again.")
        return outcome

    def keep(self, run: Run, outcome: Outcome) -> None:
        """Write a finished run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        document = {"settings": self.facts(run), "outcome": outcome.model_dump()}
        write_atomically(self._folder / f"{run.name}.json", canonical_json(document))


def say_differences(before: object, now: Facts, most: int = 4) -> str:
    """Return what differs between two sets of settings, as "recipe.epochs was 100, now 200"."""
    old, new = _flat(before), _flat(now)
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    parts = [f"{name} was {old.get(name, 'not set')}, now {new.get(name, 'not set')}" for name in names[:most]]
    return "; ".join(parts) + (f"; and {len(names) - most} more" if len(names) > most else "")


def _flat(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {path: value}
    return {name: item for key, part in value.items() for name, item in _flat(part, f"{path}.{key}".strip(".")).items()}
