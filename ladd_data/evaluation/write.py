"""What an evaluation leaves beside its runs: results.json, results.csv and results.md, a table for the card."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ladd_data.evaluation.arms import ARMS
from ladd_data.evaluation.results import OVERALL, Findings
from ladd_data.evaluation.runs import Facts, Outcome, Run, describe_training
from ladd_data.files import canonical_json, write_atomically

FORMAT = "1.0"
COLUMNS = (
    *("dataset", "arm", "optimizer", "model", "width", "seed", "loss", "epochs", "batch_size", "lr"),
    *("steps", "final_loss", "accuracy"),
)
"""Of results.csv."""


def make_document(facts: Facts, runs: Sequence[tuple[Run, Outcome]], findings: Findings) -> Facts:
    """Return results.json: settings, findings and runs. Without times, so that equal runs give equal bytes."""
    return {
        "ladd_evaluation": FORMAT,
        **facts,
        "trainings": {
            f"{run.network.name}, {run.optimizer}, {run.arm.partition('-')[2]}": describe_training(run)
            for run, _ in runs
        },
        "arms": {arm: ARMS[arm] for arm in dict.fromkeys(run.arm for run, _ in runs)},
        "cells": [
            {**asdict(cell), "accuracies": list(cell.accuracies), "mean": cell.mean, "std": cell.std}
            for cell in findings.cells
        ],
        "overall": [asdict(one) for one in findings.overall],
        "overall_rule": OVERALL,
        "differences": [{"adds": one.what, **_without(asdict(one), "what")} for one in findings.differences],
        "runs": [
            {
                "arm": run.arm,
                "optimizer": run.optimizer,
                "model": run.network.name,
                "seed": run.seed,
                "accuracy": outcome.accuracy,
                "loss": outcome.loss,
                "steps": outcome.steps,
            }
            for run, outcome in runs
        ],
    }


def _without(facts: Facts, name: str) -> Facts:
    return {key: value for key, value in facts.items() if key != name}


def make_csv(dataset: str, runs: Sequence[tuple[Run, Outcome]]) -> str:
    """Return results.csv: one row a run."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for run, outcome in runs:
        recipe = run.recipe
        lr = recipe.optimizer.lr if recipe.optimizer else None
        rows.writerow(
            [
                *(dataset, run.arm, run.optimizer, run.network.name, run.network.width, run.seed, recipe.loss),
                *(recipe.epochs, recipe.batch_size, lr, outcome.steps, outcome.loss, outcome.accuracy),
            ]
        )
    return text.getvalue()


def make_tables(findings: Findings) -> str:
    """Return the findings as Markdown tables: arms by models, one table an optimiser, and the differences."""
    optimizers = list(dict.fromkeys(one.optimizer for one in findings.overall))
    parts = []
    for optimizer in optimizers:
        models = list(dict.fromkeys(cell.model for cell in findings.cells if cell.optimizer == optimizer))
        head = ["trained on" if len(optimizers) == 1 else f"trained on, {optimizer}", *models]
        head += ["overall"] if len(models) > 1 else []
        rows = [_row(head), _row(["---"] * len(head))]
        for one in findings.overall:
            if one.optimizer == optimizer:
                cells = [findings.find_cell(one.arm, optimizer, model) for model in models]
                numbers = [say_percent(cell.mean, cell.std) for cell in cells]
                numbers += [say_percent(one.mean, one.std)] if len(models) > 1 else []
                rows.append(_row([ARMS[one.arm], *numbers]))
        parts.append("\n".join(rows))
    if findings.differences:
        rows = [_row(["what adds", "optimiser", "points of accuracy"]), _row(["---"] * 3)]
        for difference in findings.differences:
            points = f"{100 * difference.mean:+.1f} ± {100 * difference.std:.1f}"
            rows.append(_row([difference.what, difference.optimizer, points]))
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def say_diverged(runs: Sequence[tuple[Run, Outcome]]) -> tuple[str, ...]:
    """Return a sentence about the students that diverged, if any did."""
    names = [run.name for run, outcome in runs if outcome.loss is None]
    if not names:
        return ()
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return (f"{len(names)} of {len(runs)} students diverged and count as guesses: {some}. Try a smaller rate.",)


def make_markdown(facts: Facts, runs: Sequence[tuple[Run, Outcome]], findings: Findings) -> str:
    """Return results.md: the tables, and beneath what they are of, for a dataset's card."""
    seeds = len(findings.cells[0].accuracies)
    dataset, val = facts["dataset"], facts["val"]
    foot = (
        f"Accuracy in percent on {val['images']} images of {val['source']}, mean ± standard deviation over {seeds} "
        f"students a model (overall: means over models of both). Recipe: {facts['recipe_name']}. "
        f"Dataset digest {dataset['digest'][:12]}; `ladd evaluate`, ladd-data {facts['libraries']['ladd-data']}."
    )
    return f"{make_tables(findings)}\n\n{' '.join([foot, *say_diverged(runs)])}\n"


def write_results(folder: Path, facts: Facts, runs: Sequence[tuple[Run, Outcome]], findings: Findings) -> None:
    """Write results.json, results.csv and results.md into a folder, each whole or not at all."""
    write_atomically(folder / "results.json", canonical_json(make_document(facts, runs, findings)))
    write_atomically(folder / "results.csv", make_csv(facts["dataset"]["name"], runs).encode())
    write_atomically(folder / "results.md", make_markdown(facts, runs, findings).encode())


def say_percent(mean: float, std: float) -> str:
    """Return "93.1 ± 0.4" for shares of 1."""
    return f"{100 * mean:.1f} ± {100 * std:.1f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
