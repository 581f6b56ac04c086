"""The contract of converters: what a person answers, what a method left on disk, and how the two meet.

A converter reads one method's layout and says which facts its files hold and which a person must
assert. It joins through the entry-point group `ladd_data.converters`; ours come in by the same door.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Boxes, Classes, Coding, Full, Grid, Mix, Normalization, Opaque
from ladd_data.pictures import Pictures
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS
from ladd_data.recipe import Recipe
from ladd_data.types import F32, F64, I64, Columns

ENTRY_POINTS = "ladd_data.converters"

SoftSpace = Literal["probs", "logits", "targets"]
"""probs: sum to 1; logits: unnormalised; targets: regression targets, any real numbers."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a person says of files that do not say it themselves; None where nothing was said.

    normalization: of the stored tensors.
    classes: names in label order.
    whitening: "whitened" or "dewhitened", for runs with ZCA.
    images, labels: a named pair of files, in place of the method's own choice.
    iteration: which of a run's saved steps, as its file names say it.
    experiment: which of a file's entries, counted from 0.
    label_space: what the numbers in a labels file are; "classes" for class numbers.
    mosaic_factor: pictures per side of each stored image.
    learned_lr: the learning rate that was learned together with the images.
    split, image_column, label_column: where the data lie in a `datasets` dataset.
    dataset: the set that was distilled, by a converter's own name for it; stands for normalization and classes.
    temperature: what the logits were divided by before they became the stored probabilities.
    seed, permutations: of the sampler that decided which picture a row of labels is of.
    view_size: pixels on a side of what the teacher was fed.
    pillow: the version of Pillow that cut the crops, as from 13 on it resizes tall ones in another order.
    some_classes: True where there are images of some of the classes only, as of a subset labelled by a teacher of more.
    """

    normalization: Normalization | None = None
    classes: Classes | None = None
    whitening: Literal["whitened", "dewhitened"] | None = None
    images: Path | None = None
    labels: Path | None = None
    iteration: str | None = None
    experiment: int | None = None
    label_space: Literal["classes", "probs", "logits", "targets"] | None = None
    mosaic_factor: int | None = None
    learned_lr: float | None = None
    split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    dataset: str | None = None
    temperature: float | None = None
    seed: int | None = None
    permutations: int | None = None
    view_size: int | None = None
    pillow: int | None = None
    some_classes: bool | None = None

    def said(self) -> dict[str, JsonValue]:
        """Return all that was answered, as `Distilled.asserted` and the manifest keep it."""
        said: dict[str, JsonValue] = {
            "dataset": self.dataset,
            "classes": list(self.classes.names) if self.classes else None,
            "normalization": self.normalization.model_dump(mode="json") if self.normalization else None,
            "whitening": self.whitening,
            "images": self.images.name if self.images else None,
            "labels": self.labels.name if self.labels else None,
            "iteration": self.iteration,
            "experiment": self.experiment,
            "label_space": self.label_space,
            "mosaic_factor": self.mosaic_factor,
            "learned_lr": self.learned_lr,
            "split": self.split,
            "image_column": self.image_column,
            "label_column": self.label_column,
            "temperature": self.temperature,
            "seed": self.seed,
            "permutations": self.permutations,
            "view_size": self.view_size,
            "pillow": self.pillow,
            "some_classes": self.some_classes,
        }
        return {key: value for key, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Preset:
    """What a method's code does for one set: names of `presets.CLASS_LISTS` and `presets.NORMALIZATIONS`."""

    classes: str
    normalization: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that the files do not say.

    option: on the command line, such as "--whitening".
    why: one sentence: why the files cannot tell, and what depends on it.
    example: a value to start from, such as "dewhitened".
    """

    option: str
    why: str
    example: str


@dataclass(frozen=True, slots=True)
class Description:
    """What a look at a run's file names tells, before anything is read.

    reason: why this looks like the method's output.
    files: what would be read.
    asks: what a person must answer; an empty tuple where the files say it all.
    notes: what will be lost, or should be known.
    """

    reason: str
    files: tuple[Path, ...]
    asks: tuple[Ask, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SoftValues:
    """Whole-image soft labels: float32 [n, classes], and what their numbers are."""

    values: F32
    space: SoftSpace
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class ViewLabels:
    """Soft labels of views that a method stored beside its images; they become a label set.

    name: what the set is called, such as "fkd".
    views: what the views are. columns: where they lie and what they are mixed with, `view_*`, [n, views, ...] in
        record order, in the format's types; `view_partner` counts records.
    values: [n, views, classes], float16 or float32, as stored; of missing views, anything.
    space: what the values are. temperature: what probabilities were softened by; 1 for logits.
    present: bool [n, views], which views there are; None where none is missing.
    recipe: what the labels are meant for.
    coding: how they are stored; None for all values, in the type they come in.
    as_stored: for labels that keep a part of what a teacher says: turns its answers into what of them would have been
        stored, (answers, stored labels), each float64 [views, classes], to the like of the latter.
    kept: classes of each view whose logits the method kept, where it kept the largest only; values of others are -inf.
    """

    name: str
    views: Grid | Full | Boxes | Mix | Opaque
    columns: Columns
    values: NDArray[np.floating[Any]]
    space: Literal["logits", "probs"]
    recipe: Recipe
    temperature: float = 1.0
    present: NDArray[np.bool_] | None = None
    coding: Coding | None = None
    as_stored: Callable[[F64, F64], F64] | None = None
    kept: int | None = None


@dataclass(frozen=True, slots=True)
class Distilled:
    """A distilled set as a method left it.

    images: float32 [n, channels, height, width], finite, in model-input space; or picture files.
    labels: int64 [n], hard classes 0 .. classes-1.
    normalization: how model input relates to natural pixels; None after ZCA whitening.
    whitening: "zca" where model input is whitened.
    soft: the method's own soft labels of the whole images, if it writes any.
    files: what was read, files and folders; read: facts found in them; asserted: facts a person gave.
    mosaic_factor: pictures per side of each stored image; 1 where it is one picture.
    learned_lr: the learning rate that was learned together with the images.
    recipe: how the method's own code trains on the set; None where that is not known.
    view_labels: soft labels of views that the method stored, if it did.
    notes: what is lost in the conversion, or should be known; one sentence each.
    """

    method: str
    repository: str | None
    images: F32 | Pictures
    labels: I64
    classes: Classes
    normalization: Normalization | None
    whitening: Literal["none", "zca"]
    files: tuple[Path, ...]
    soft: SoftValues | None = None
    read: dict[str, JsonValue] = field(default_factory=dict)
    asserted: dict[str, JsonValue] = field(default_factory=dict)
    mosaic_factor: int = 1
    learned_lr: float | None = None
    recipe: Recipe | None = None
    view_labels: ViewLabels | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class Converter(Protocol):
    """What a converter is: three class attributes and three methods."""

    name: ClassVar[str]
    """What the user types after `ladd convert`."""
    summary: ClassVar[str]
    """One line: the methods it serves and the files it reads."""
    datasets: ClassVar[Mapping[str, Preset]]
    """What the method's code does for each set it knows, by the name that `--dataset` takes."""

    def detect(self, path: Path) -> str | None:
        """Return why this looks like the method's output, or None; looks at names, and at little else."""

    def describe(self, path: Path) -> Description:
        """Say what would be read and what would be asked.

        Raises:
            UsageError: there is nothing of this method at `path`.
        """

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run.

        Raises:
            UsageError: an answer is missing; says which option to give and why the files cannot tell.
            ConvertError: the files cannot become a dataset; names the file, what was found and expected.
        """


def list_converters() -> dict[str, EntryPoint]:
    """Return the installed converters by name; none is imported yet."""
    return {point.name: point for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)}


def find_converter(name: str) -> Converter:
    """Import and return a converter.

    Raises:
        UsageError: none of this name is installed; lists those that are.
    """
    points = list_converters()
    if name not in points:
        raise UsageError(f'converter "{name}" is not known. {nearest(name, list(points))}')
    converter: Converter = points[name].load()()
    return converter


def fill_in(converter: Converter, answers: Answers) -> Answers:
    """Return the answers with what `dataset` stands for; what was answered by itself stays.

    Whitened and de-whitened pixels have no dataset normalisation, so none is filled in for them.

    Raises:
        UsageError: the converter has no such dataset; lists those it has.
    """
    if answers.dataset is None:
        return answers
    if answers.dataset not in converter.datasets:
        known = nearest(answers.dataset, list(converter.datasets))
        raise UsageError(f'--dataset "{answers.dataset}" is not one that {converter.name} knows. {known}')
    preset = converter.datasets[answers.dataset]
    normalization = answers.normalization
    if normalization is None and answers.whitening is None:
        normalization = NORMALIZATIONS[preset.normalization]
    return replace(answers, classes=answers.classes or CLASS_LISTS[preset.classes], normalization=normalization)
