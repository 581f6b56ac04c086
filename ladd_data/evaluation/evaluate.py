"""Test a distilled set by a protocol: students of several networks and seeds, beside controls that tell why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ladd_data.dataset import Dataset
from ladd_data.evaluation.folder import open_folder
from ladd_data.evaluation.inputs import RealImages
from ladd_data.evaluation.plan import EvaluationPlan, Given, Prepared, prepare
from ladd_data.evaluation.plot import write_plots
from ladd_data.evaluation.results import Findings, summarise
from ladd_data.evaluation.runs import Facts, Outcome, Run, RunFolder
from ladd_data.evaluation.student import StudentTrainer
from ladd_data.evaluation.write import make_tables, say_diverged, write_results
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.sources import Reading
from ladd_data.team import Ranks, device_of_rank


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what.

    on_start: (runs that are missing, runs in all).
    on_run: (runs done, runs to do, what was run, what came of it), by each rank of its own.
    """

    on_start: Callable[[int, int], None] = lambda missing, total: None
    on_run: Callable[[int, int, Run, Outcome], None] = lambda done, total, run, outcome: None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of it.

    facts: all settings, as results.json begins; runs: in order; notes: what was left out, and why.
    """

    facts: Facts
    runs: tuple[tuple[Run, Outcome], ...]
    findings: Findings
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """Return the findings as Markdown tables."""
        return make_tables(self.findings)


def evaluate(
    dataset: Dataset | str | Path,
    val: RealImages,
    out: str | Path,
    plan: EvaluationPlan,
    *,
    train: RealImages | None = None,
    labelers: Sequence[LoadedLabeler | str | Path] = (),
    device: torch.device | str = "cpu",
    reading: Reading | None = None,
    overwrite: bool = False,
    plots: bool = True,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    listener: Listener = Listener(),
) -> Evaluation:
    """Train and test every student of a plan, and write what came of it.

    `out` gets `runs/`, a file for each finished student, results.json, results.csv, results.md, and plots. An equal
    call does not train again what is finished; one that asks for more (seeds, networks, optimisers, controls) trains
    what is missing; one with other settings is refused. Which rank trained a student changes none of its numbers.

    Args:
        dataset: the distilled set, or its folder.
        val: real test images.
        out: folder to write.
        plan: networks, recipe, seeds, optimisers, controls.
        train: real training images, for the controls to draw from.
        labelers: those that made the dataset's dense labels, for random images with labels.
        device: where to train.
        reading: how sources are read.
        overwrite: forget what an earlier evaluation left in `out`.
        plots: also draw results.svg and results.png, where matplotlib is there.
        ranks: the processes that share the runs, on one file system; all call this with equal arguments.
        listener: told of each run.

    Raises:
        UsageError: the recipe needs labels that are not there, the images are ZCA-whitened or of another shape
            than the validation images, `out` holds an evaluation with other settings, or a control lacks means.
        LaddError: the validation classes are not the dataset's.

    Source: LADD, Sec. 4.1 and Table 1 (5-CAE, 4-CAE); GIFT, Table 5 (optimisers).
    """
    folder, place = Path(out), device_of_rank(torch.device(device))
    given = Given(dataset, val, train, tuple(labelers), reading)
    prepared = list[Prepared]()
    ranks.each(lambda: prepared.append(prepare(given, plan, place)))
    threads = ranks.lead(lambda: open_folder(folder, plan.threads, place, overwrite=overwrite))
    return _carry_out(prepared[0], folder, threads, plots, ranks, listener)


def _carry_out(
    prepared: Prepared, folder: Path, threads: int | None, plots: bool, ranks: Ranks, listener: Listener
) -> Evaluation:
    facts = {**prepared.facts, "threads": threads}
    kept = RunFolder(folder / "runs", facts, prepared.random_facts)
    runs = prepared.runs
    missing = ranks.lead(lambda: [number for number, run in enumerate(runs) if kept.find(run) is None])
    listener.on_start(len(missing), len(runs))
    mine = [runs[number] for number in missing[ranks.rank :: ranks.count]]
    trainer = StudentTrainer(prepared, folder / "random", threads)
    ranks.each(lambda: trainer.make_random([runs[number] for number in missing], ranks.rank, ranks.count))

    def train_mine() -> None:
        for done, run in enumerate(mine, 1):
            outcome = trainer.train(run)
            kept.keep(run, outcome)
            listener.on_run(done, len(mine), run, outcome)

    ranks.each(train_mine)
    outcomes = tuple((run, kept.read(run)) for run in runs)
    findings = summarise(outcomes)
    document = {**facts, **prepared.random_facts, **prepared.asked}

    def write() -> tuple[str, ...]:
        write_results(folder, document, outcomes, findings)
        missing_plots = write_plots(folder, findings) if plots else None
        return (*prepared.notes, *say_diverged(outcomes), *([missing_plots] if missing_plots else []))

    return Evaluation(document, outcomes, findings, ranks.lead(write))
