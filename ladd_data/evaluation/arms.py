"""What is compared: distilled and random images, with soft labels and without, all under one recipe.

Four arms, so that what the labels add and what the images add can be told apart: the difference between two arms
that share their images is the labels', between two that share their kind of label the images'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ladd_data.convert import convert, prepare
from ladd_data.converter import Distilled
from ladd_data.dataset import Dataset, load
from ladd_data.deploy.options import Options
from ladd_data.errors import LaddError, UsageError
from ladd_data.labeling.label import BoxDraw, LabelPlan, label_dataset
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest import Manifest
from ladd_data.pixels import apply_affine, natural_affine
from ladd_data.recipe import Recipe
from ladd_data.sources import ImageSet
from ladd_data.types import I64

Arm = Literal["distilled-soft", "distilled-hard", "random-soft", "random-hard"]

ARMS: dict[Arm, str] = {
    "distilled-soft": "the dataset as the recipe uses it",
    "distilled-hard": "the distilled images, without their soft labels",
    "random-soft": "random real images, labelled by the same labeler",
    "random-hard": "random real images, without soft labels",
}
"""What is trained on, in words."""

DIFFERENCES: tuple[tuple[str, Arm, Arm], ...] = (
    ("labels, on distilled images", "distilled-soft", "distilled-hard"),
    ("labels, on random images", "random-soft", "random-hard"),
    ("images, with soft labels", "distilled-soft", "random-soft"),
    ("images, without soft labels", "distilled-hard", "random-hard"),
)
"""What adds how much: the accuracy of the one arm less that of the other."""


def without_soft_labels(recipe: Recipe) -> Recipe:
    """Return the recipe with the cross-entropy of whole images and their classes in place of its loss.

    Optimiser, schedule, epochs, batch, augmentation and averaging stay: the same number of steps.
    """
    of_the_loss = {
        *("loss", "target", "view_reduction", "views_per_step", "temperature", "teacher_temperature"),
        *("temperature_squared", "hard_weight", "smoothing", "top_k", "gift", "gift_weight", "online_labels"),
    }
    return Recipe.model_validate({"loss": "hard-ce", **recipe.model_dump(exclude=of_the_loss)})


def is_soft(recipe: Recipe, options: Options) -> bool:
    """Tell whether a student trained so sees soft labels."""
    return recipe.loss != "hard-ce" if options.soft is None else options.soft


def choose_arms(*, soft: bool, controls: bool, train: bool, labelers: bool) -> tuple[Arm, ...]:
    """Return the arms that there are means for.

    Args:
        soft: whether students see soft labels.
        controls: whether any but the dataset itself are wanted.
        train: whether there are real training images to draw from.
        labelers: whether the labelers of the dataset are there.
    """
    own: Arm = "distilled-soft" if soft else "distilled-hard"
    if not controls:
        return (own,)
    wanted: list[Arm] = [own]
    if soft:
        wanted.append("distilled-hard")
    if soft and train and labelers:
        wanted.append("random-soft")
    if train:
        wanted.append("random-hard")
    return tuple(wanted)


def check_labelers(manifest: Manifest, labelers: Sequence[LoadedLabeler]) -> None:
    """Refuse labelers other than the dataset's own: the images would no longer be all that differs.

    Raises:
        UsageError: the dataset has no dense labels, does not say what made them, or says other weights did.
    """
    labels = manifest.labels
    if labels is None:
        raise UsageError("--labeler: this dataset has no dense labels, so random images need none. Leave it out.")
    wanted, given = [one.weights_digest for one in labels.labelers], [one.digest for one in labelers]
    if not wanted:
        raise UsageError("--labeler: this dataset does not say what labelled it, so nothing can be called the same.")
    if wanted != given:
        found, expected = ", ".join(digest[:12] for digest in given), ", ".join(digest[:12] for digest in wanted)
        raise UsageError(f"--labeler: found weights {found}; the dataset was labelled by {expected}, in that order.")


@dataclass(frozen=True, slots=True)
class RandomSets:
    """Random real images in the distilled set's place, drawn anew for each seed, kept as datasets below `folder`."""

    dataset: Dataset
    train: ImageSet
    labelers: tuple[LoadedLabeler, ...]
    folder: Path
    device: str

    def make(self, seed: int, *, soft: bool) -> Path:
        """Return the folder of a seed's images, written unless it is there; `soft`: with dense labels."""
        plain, labelled = self.folder / f"seed-{seed:03d}", self.folder / f"seed-{seed:03d}-labelled"
        if not plain.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            convert(prepare(self._draw(seed), f"random-{seed}", pixels="clip"), plain)
        if soft and not labelled.is_dir():
            label_dataset(load(plain), self._label_plan(), labelled)
        return labelled if soft else plain

    def _draw(self, seed: int) -> Distilled:
        manifest = self.dataset.manifest
        labels = self.dataset.arrays.labels
        rows = draw_per_class(self.train.labels, labels, seed, self.train.name)
        normalization = manifest.images.normalization
        if normalization is None:
            raise UsageError("the images are ZCA-whitened: random pictures would not be.")
        return Distilled(
            method="random",
            repository=None,
            images=apply_affine(natural_affine(normalization), self.train.images[rows]),
            labels=labels,
            classes=manifest.classes,
            normalization=normalization,
            whitening="none",
            files=(),
            read={},
            asserted={"source": self.train.name, "seed": seed},
        )

    def _label_plan(self) -> LabelPlan:
        import torch

        labels = self.dataset.manifest.labels
        if labels is None:
            raise UsageError("this dataset has no dense labels, so random images need none.")
        maker = labels.labelers[0]
        return LabelPlan(
            self.labelers[0],
            labels.views,
            labels.coding,
            torch.device(self.device),
            labels.profile,
            BoxDraw(),
            self.labelers[1:],
            average=labels.ensemble.average if labels.ensemble else "probs",
            precision=maker.precision,
        )


def draw_per_class(real: I64, wanted: I64, seed: int, source: str) -> I64:
    """Draw real images of the same classes, without repeats, in the same order of classes.

    Args:
        real: int64 [n], classes of the pictures there are.
        wanted: int64 [m], classes of the pictures wanted.
        seed: of the draw; each class is shuffled by `epoch_order(its count, seed, its number)`.
        source: where the pictures are from, for the message.

    Returns:
        int64 [m], row numbers.

    Raises:
        LaddError: a class has fewer pictures than wanted.
    """
    rows = np.empty(len(wanted), np.int64)
    for label in np.unique(wanted).tolist():
        there, places = np.flatnonzero(real == label), np.flatnonzero(wanted == label)
        if len(there) < len(places):
            raise LaddError(
                f"--train, {source}: found {len(there)} pictures of class {label}; expected at least the "
                f"{len(places)} that the dataset has of it."
            )
        rows[places] = there[epoch_order(len(there), seed, label)[: len(places)]]
    return rows
