"""What benchmarks/study.py trains: each cell a dataset, a recipe and its switches; five students each.

Cells that are in two sections, such as LADD itself, are trained once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from study_sets import LABELER_EPOCHS, WIDTH, Labelling, Sets

from ladd_data.deploy.options import Options
from ladd_data.evaluation.evaluate import evaluate
from ladd_data.evaluation.plan import EvaluationPlan
from ladd_data.recipe import Optimizer, Recipe, Schedule

STEPS, BATCH, SEEDS = 150, 10, 5
"""The same for every student: steps, images a step, and students a cell."""

DISTILLER_NAMES, IPCS = ("random", "k-means", "dm"), (1, 10, 50)
BASE = ("dm", 1)
"""Distiller and images per class of all sections but the first."""

NUMBERS, RATIOS = (3, 5, 7), ("1/2", "5/8", "7/8")
OPTIMIZERS = {
    "SGD": Optimizer(name="sgd", lr=0.01, momentum=0.9, weight_decay=5e-4),
    "Adam": Optimizer(name="adam", lr=1e-3),
    "AdamW": Optimizer(name="adamw", lr=1e-3, weight_decay=0.01),
}
SCHEDULE = Schedule(kind="cosine", every="step")
LOSSES = {
    "hard CE": Recipe(loss="hard-ce"),
    "soft CE": Recipe(loss="soft-ce", target="image"),
    "KL, T = 20": Recipe(loss="kl", target="image", temperature=20.0),
    "MSE": Recipe(loss="mse", target="image"),
    "GIFT": Recipe(loss="gift", target="image", gift="paper", gift_weight=0.1, smoothing=0.1),
}
HARD, LADD = LOSSES["hard CE"], Recipe(loss="ladd", view_reduction="sum")
TABLE_6 = {
    "full, hard": Options(full=True, sub=False, hard=True, soft=False),
    "full, soft": Options(full=True, sub=False, hard=False, soft=True),
    "full, hard and soft": Options(full=True, sub=False, hard=True, soft=True),
    "views, hard": Options(full=False, sub=True, hard=True, soft=False),
    "views, soft": Options(full=False, sub=True, hard=False, soft=True),
    "views, hard and soft": Options(full=False, sub=True, hard=True, soft=True),
    "full, hard; views, soft (LADD)": Options(),
}
"""The seven rows of LADD's Table 6."""

CODINGS = ("float32", "float16", "q8", "q4", "topk-3", "topk-1")


@dataclass(frozen=True, slots=True)
class Cell:
    """One row and column of a section's table: what is trained on, and how."""

    section: str
    row: str
    column: str
    distiller: str
    ipc: int
    recipe: Recipe
    labels: Labelling = field(default_factory=Labelling)
    options: Options = field(default_factory=Options)
    optimizer: str = "SGD"

    @property
    def whole(self) -> Recipe:
        """The recipe with everything that training needs."""
        epochs = STEPS * BATCH // (10 * self.ipc)
        training = {"optimizer": OPTIMIZERS[self.optimizer], "schedule": SCHEDULE}
        return self.recipe.model_copy(update={**training, "epochs": epochs, "batch_size": BATCH})

    @property
    def key(self) -> str:
        """The same for cells that train the same students."""
        training = [part.model_dump_json(exclude_defaults=True) for part in (self.whole, self._options())]
        said = f"{self.distiller} {self.ipc} {self.labels.name} {' '.join(training)}"
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def run(self, sets: Sets, students: int = SEEDS) -> list[float]:
        """Train and test the students that are not there yet, and return accuracies, shares of 1, by seed."""
        folder = sets.labelled(self.distiller, self.ipc, self.labels)
        plan = EvaluationPlan(self.whole, "convnet-d3", seeds=students, width=WIDTH, threads=1, options=self._options())
        out = sets.folder / "cells" / self.key
        out.parent.mkdir(exist_ok=True)
        return list(evaluate(folder, sets.test, out, plan, plots=False).findings.cells[0].accuracies)

    def _options(self) -> Options:
        number = 1 if self.labels.views == "full" else int(self.labels.views.split()[0])
        return self.options.model_copy(update={"views_per_pass": number**2})


def list_cells() -> Iterator[Cell]:
    """Yield all cells, section by section."""
    for ipc in IPCS:
        for distiller in DISTILLER_NAMES:
            yield Cell("ladd", f"{distiller}, IPC {ipc}", "hard labels", distiller, ipc, HARD)
            yield Cell("ladd", f"{distiller}, IPC {ipc}", "LADD", distiller, ipc, LADD)
    for row, options in TABLE_6.items():
        yield Cell("table6", row, "accuracy", *BASE, LADD, options=options)
    for name, loss in LOSSES.items():
        for optimizer in OPTIMIZERS:
            yield Cell("losses", name, optimizer, *BASE, loss, Labelling("full"), optimizer=optimizer)
    for ratio in RATIOS:
        for number in NUMBERS:
            yield Cell("views", f"R = {ratio}", f"N = {number}", *BASE, LADD, Labelling(f"{number} {ratio}"))
    for epoch in LABELER_EPOCHS:
        yield Cell("labeler", str(epoch), "accuracy", *BASE, LADD, Labelling(epoch=epoch))
    for coding in CODINGS:
        yield Cell("encodings", coding, "accuracy", *BASE, LADD, Labelling(coding=coding))
