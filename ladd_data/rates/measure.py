"""Down the ladder: labels stored in each way, bytes and error measured, students trained, and what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ladd_data.dataset import Dataset, load
from ladd_data.deploy.keep import Keep
from ladd_data.deploy.options import AS_GIVEN, Options
from ladd_data.deploy.results import Run
from ladd_data.deploy.train import describe_run, train_students
from ladd_data.errors import UsageError
from ladd_data.evaluation.arms import without_soft_labels
from ladd_data.files import canonical_json, write_atomically
from ladd_data.ledger import list_files
from ladd_data.manifest import Network
from ladd_data.rates.plot import write_plots
from ladd_data.rates.results import Point, Rates
from ladd_data.rates.rungs import HARD, Made, Rung
from ladd_data.recipe import Recipe
from ladd_data.reencode import is_lossless
from ladd_data.shards.joined import JoinedFolder, set_of
from ladd_data.sources import ImageSet

RESULTS = "rates.json"
_WORK, _STUDENTS, _LOCK = ".work", "students", ".lock"


@dataclass(frozen=True, slots=True)
class Students:
    """Who shows what labels are worth: see `train_students`. seeds: how many of each rung."""

    network: Network
    recipe: Recipe
    val: ImageSet
    seeds: int
    options: Options = AS_GIVEN
    device: torch.device | str = "cpu"

    def describe(self, dataset: Dataset) -> Run:
        """Return their run on a dataset as it would be; errors are as of `train_students`."""
        return describe_run(dataset, self.network, self.recipe, self.val, self.options, self.device)


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what. on_point: each rung measured; on_step: (rung, seed, steps done, steps in all)."""

    on_point: Callable[[Point], None] = lambda point: None
    on_step: Callable[[str, int, int, int], None] = lambda name, seed, step, steps: None


def measure_rates(
    dataset: Dataset,
    out: Path,
    rungs: Sequence[Rung],
    *,
    students: Students | None = None,
    overwrite: bool = False,
    listener: Listener = Listener(),
) -> Rates:
    """Measure a ladder and write `rates.json`, `rates.md` and plots into a folder.

    Labels are stored in a copy of the dataset inside the folder, which is gone afterwards; the dataset is only read.
    Students that are finished are kept in `students/`, a file for each rung: an equal call does not train them again,
    and one with more rungs or seeds trains what is missing.

    Args:
        dataset: opened with the labels to begin with, which were stored without loss.
        out: folder to write.
        rungs: in the order of the table; the first is what others' accuracy is compared with.
        students: who is trained on each; None for bytes and errors alone.
        overwrite: forget what an earlier call left.
        listener: told of each rung.

    Raises:
        UsageError: there are no labels, or they were stored with loss; the students' loss needs others; `out` holds
            something else, or students of other settings.
    """
    _check(dataset, rungs, students)
    points = []
    with _open_folder(out, overwrite=overwrite) as work:
        base = _copy_base(dataset, work)
        for rung in rungs:
            points.append(_measure(rung.name, rung.make(base), out, students, listener))
            listener.on_point(points[-1])
        rates = Rates(_say_facts(dataset, students), tuple(points))
        write_atomically(out / RESULTS, canonical_json(rates.document()))
        write_atomically(out / "rates.md", f"{rates.table()}\n".encode())
        write_plots(out, rates)
    return rates


def _check(dataset: Dataset, rungs: Sequence[Rung], students: Students | None) -> None:
    labels = dataset.manifest.labels
    if labels is None:
        raise UsageError('this dataset has no dense labels. Run "ladd label" first.')
    if not is_lossless(labels):
        raise UsageError(
            f"the labels are stored as {labels.coding.encoding} {labels.coding.dtype}; expected float32, or others "
            'that were stored without loss: a ladder begins at the top. Label with "--encoding float32".'
        )
    if not rungs:
        raise UsageError("no rungs: name one at least.")
    if students is None and any(rung.name == HARD for rung in rungs):
        raise UsageError(f"rung {HARD}: has nothing to measure without students. Give --val, or leave it out.")
    if students is not None:  # before anything is written
        students.describe(dataset)


@contextmanager
def _open_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder to work in; nobody else writes `out` meanwhile."""
    ours = {RESULTS, "rates.md", "rates.svg", "rates.png", _STUDENTS, _WORK, _LOCK}
    if out.exists() and (not out.is_dir() or any(path.name not in ours for path in out.iterdir())):
        raise UsageError(f"{out}: exists and holds no rates. Choose another -o.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{out}: another run is writing it now. Wait for it, or choose another -o.") from None
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error}). Choose another -o.") from error
    work = out / _WORK
    try:
        shutil.rmtree(work, ignore_errors=True)
        if overwrite:
            shutil.rmtree(out / _STUDENTS, ignore_errors=True)
        work.mkdir()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        (out / _LOCK).unlink(missing_ok=True)
        lock.release()


def _copy_base(dataset: Dataset, work: Path) -> Dataset:
    """Copy the files that hold images and labels, to store further labels beside them."""
    for path in list_files(dataset.folder):
        copy = work / path.relative_to(dataset.folder.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return load(work, labels=set_of(dataset.folder))


def _measure(name: str, made: Made, out: Path, students: Students | None, listener: Listener) -> Point:
    point = Point(name, made.stored, made.raw, made.labels, made.certificate)
    if students is None:
        return point
    recipe = without_soft_labels(students.recipe) if name == HARD else students.recipe
    (out / _STUDENTS).mkdir(exist_ok=True)
    results = train_students(
        made.dataset,
        students.network,
        recipe,
        students.val,
        students.seeds,
        options=students.options,
        device=students.device,
        keep=Keep(out / _STUDENTS / f"{name}.json"),
        on_step=lambda seed, step, steps: listener.on_step(name, seed, step, steps),
    )
    return replace(point, accuracies=tuple(one.accuracy for one in results.seeds))


def _say_facts(dataset: Dataset, students: Students | None) -> dict[str, Any]:
    """Return what was measured, as JSON values."""
    folder, manifest = dataset.folder, dataset.manifest
    plain = folder.plain if isinstance(folder, JoinedFolder) else folder
    columns = plain.column_bytes()
    facts: dict[str, Any] = {
        "dataset": manifest.digest,
        "name": manifest.name,
        "label_set": set_of(folder),
        "labels": manifest.labels.digest if manifest.labels is not None else None,
        "images": manifest.images.count,
        "image_bytes": columns["image"] + columns.get("image_file", 0),
        "classes": len(dataset.classes),
        "views": manifest.labels.views.model_dump(mode="json") if manifest.labels is not None else None,
        "students": None,
    }
    if students is not None:
        run = students.describe(dataset).document()
        facts["students"] = {name: value for name, value in run.items() if name != "dataset"}
        facts["students"]["seeds"] = students.seeds
    return facts
