"""Train and test students, one run at a time: the one place where an evaluation meets the training loop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ladd_data.dataset import Dataset, load
from ladd_data.deploy.train import DivergedError, Trainer, describe_run
from ladd_data.evaluation.arms import RandomSets
from ladd_data.evaluation.plan import Prepared
from ladd_data.evaluation.runs import Outcome, Run
from ladd_data.files import canonical_json


class StudentTrainer:
    """Trains any of the runs that were prepared."""

    def __init__(self, prepared: Prepared, random: Path, threads: int | None) -> None:
        """Take what was prepared, the folder for random images, and the threads of a student on a CPU."""
        self._prepared, self._threads = prepared, threads
        self._opened: dict[Path, Dataset] = {}
        self._random: RandomSets | None = None
        if prepared.train is not None:
            made_from = canonical_json([prepared.facts["dataset"], prepared.random_facts])
            folder = random / hashlib.sha256(made_from).hexdigest()[:12]
            self._random = RandomSets(prepared.dataset, prepared.train, prepared.labelers, folder, str(prepared.device))

    def make_random(self, runs: Sequence[Run], rank: int, count: int) -> None:
        """Draw, and label, the random images that these runs need; of `count` ranks, `rank` makes its share."""
        wanted = sorted({run.seed for run in runs if run.arm.startswith("random")})
        soft = any(run.arm == "random-soft" for run in runs)
        if self._random is not None:
            for seed in wanted[rank::count]:
                self._random.make(seed, soft=soft)

    def train(self, run: Run) -> Outcome:
        """Train the student of a run, and test it; one whose loss is no longer finite counts as one that guesses."""
        dataset, val, device = self._dataset_of(run), self._prepared.val, self._prepared.device
        told = describe_run(dataset, run.network, run.recipe, val, run.options, device)
        try:
            with _threads(self._threads):
                one = Trainer(dataset, told, val, device).train(run.seed)
        except DivergedError:
            return Outcome(accuracy=1 / len(dataset.classes), loss=None, steps=0, seconds=0.0)
        return Outcome(accuracy=one.accuracy, loss=one.loss, steps=one.steps, seconds=one.seconds)

    def _dataset_of(self, run: Run) -> Dataset:
        if self._random is None or not run.arm.startswith("random"):
            return self._prepared.dataset
        folder = self._random.make(run.seed, soft=run.arm == "random-soft")
        if folder not in self._opened:
            self._opened[folder] = load(folder)
        return self._opened[folder]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
