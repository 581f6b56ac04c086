"""The file of a run's results, and what keeps finished students of a run that was interrupted.

Each finished student goes to OUT.seeds/seed-N.json at once; when all are there, OUT is written and that folder is
removed. A later call with more seeds takes those of OUT, too. Both hold the whole run, and are only taken up by a
run that is the same: recipe, dataset, network, test images, device type, torch.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ladd_data.deploy.results import Results, Run, SeedResult
from ladd_data.errors import LaddError, UsageError
from ladd_data.files import canonical_json, write_atomically

_SEEDS = TypeAdapter(tuple[SeedResult, ...], config=ConfigDict(extra="forbid"))


@dataclass(frozen=True, slots=True)
class Keep:
    """Where results go. path: the JSON file; overwrite: forget what is there."""

    path: Path
    overwrite: bool = False

    @property
    def folder(self) -> Path:
        """Where single students wait for the others."""
        return self.path.with_name(f"{self.path.name}.seeds")

    def begin(self, run: Run) -> dict[int, SeedResult]:
        """Return the students that are finished already, by seed, and make a place for more.

        Raises:
            UsageError: what is there is of another run; says what differs. Or the folder does not exist.
            LaddError: what is there cannot be read.
        """
        if not self.path.parent.is_dir():
            raise UsageError(f"{self.path.parent}: no such folder. Make it, or choose another -o.")
        if self.overwrite:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)
        files = [self.path] if self.path.is_file() else []
        files += sorted(self.folder.glob("seed-*.json"))
        found = {result.seed: result for file in files for result in _read(file, run)}
        self.folder.mkdir(exist_ok=True)
        return found

    def add(self, run: Run, result: SeedResult) -> None:
        """Keep one student."""
        document = {**run.document(), "seeds": [asdict(result)]}
        write_atomically(self.folder / f"seed-{result.seed}.json", canonical_json(document))

    def finish(self, results: Results) -> None:
        """Write all results and remove what waited for them."""
        write_atomically(self.path, canonical_json(results.document()))
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(file: Path, run: Run) -> tuple[SeedResult, ...]:
    """Return the students that a file holds, if they are of this run."""
    try:
        document = json.loads(file.read_bytes())
        seeds = _SEEDS.validate_python(document["seeds"])
        settings = settings_of(document)
    except (ValueError, ValidationError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise LaddError(
            f"{file}: not a readable file of results ({reason}). Choose another -o, or --overwrite."
        ) from error
    wanted = settings_of(run.document())
    changed = [name for name in sorted(wanted.keys() | settings.keys()) if settings.get(name) != wanted.get(name)]
    if changed:
        pairs = [f"{name} was {_say(settings.get(name))}, is {_say(wanted.get(name))}" for name in changed]
        raise UsageError(
            f"{file}: is of another run: {'; '.join(pairs)}. Choose another -o, set them back, or --overwrite."
        )
    return seeds


def settings_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return what decides a student, by name, from a run's document: `optimizer.lr` and so on."""
    flat: dict[str, Any] = {}
    for part in ("recipe", "options", "network"):
        flat |= _flatten(document[part], "" if part == "recipe" else f"{part}.")
    flat.pop("source", None)
    return flat | {
        "dataset": document["dataset"],
        "test images": document["val_digest"],
        "device": document["device"].split()[0],
        "torch": document["libraries"]["torch"],
    }


def _flatten(part: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in part.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


def _say(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
