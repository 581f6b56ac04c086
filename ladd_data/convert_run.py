"""A run written whole: its images as a dataset, and beside them the labels of views that the method stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ladd_data.convert import Conversion, convert
from ladd_data.converter import ViewLabels
from ladd_data.dataset import Dataset, load
from ladd_data.encodings.topk import LEAST
from ladd_data.errors import ConvertError, UsageError
from ladd_data.files import new_folder
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.labeling.store import GivenLabels, store_labels
from ladd_data.manifest import Coding, Manifest, Opaque
from ladd_data.models.arithmetic import full_float32
from ladd_data.pixels import natural_affine
from ladd_data.types import F32, F64, Columns
from ladd_data.views.device import apply_affine
from ladd_data.views.mixing import order_of

REPLAYED = 64
"""Records whose labels are replayed, spread over the set."""
TOLERANCE = 1e-3
"""Largest difference of a replayed answer, beside rounding; another picture's answer differs by 100 times that."""
LEAST_PROBABILITY = 2.0**-24
"""The smallest that float16 holds; a stored 0 is taken for it, as its logarithm has to be finite."""


def convert_run(
    conversion: Conversion,
    target: Path,
    *,
    overwrite: bool = False,
    teachers: Sequence[LoadedLabeler] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Write a prepared conversion, and its label set where the method stored one; whole or not at all.

    Args:
        conversion: as `prepare` returns it.
        target: the folder; must not exist, or hold a dataset when `overwrite` is set.
        overwrite: replace what is there.
        teachers: those whose logits, on average, the labels are: some are replayed, and other labels are refused.
        on_progress: told (records whose labels are stored, records in all).

    Raises:
        UsageError: the target exists.
        ConvertError: the teachers say other labels: rows belong to other pictures, or to other teachers.
    """
    labels = conversion.distilled.view_labels
    if labels is None:
        return convert(conversion, target, overwrite=overwrite)
    if teachers and isinstance(labels.views, Opaque):
        raise UsageError(
            f"--teacher: these views cannot be cut again, so no label can be replayed: {labels.views.reason}."
        )
    with new_folder(target, overwrite=overwrite) as folder:
        inside = folder / "set"
        manifest = convert(conversion, inside)
        store_labels(load(inside), labels.name, _given(labels, load(inside)), _coding(labels), on_progress=on_progress)
        if teachers:
            _confirm(load(inside, labels=labels.name), labels, teachers)
        for entry in list(inside.iterdir()):
            entry.rename(folder / entry.name)
        inside.rmdir()
    return manifest


def _coding(labels: ViewLabels) -> Coding:
    """Return how labels are stored: no number of them changes, but for the logarithm of probabilities.

    Of the largest logits, their logarithms of probabilities among each other are kept, which is all that they tell.
    """
    if labels.kept is not None:
        return Coding(encoding="topk", k=labels.kept)
    if labels.coding is not None:
        return labels.coding
    half = labels.values.dtype == np.float16
    return Coding(space="logits" if labels.space == "logits" else "log_probs", dtype="float16" if half else "float32")


def _given(labels: ViewLabels, dataset: Dataset) -> GivenLabels:
    columns: Columns = dict(labels.columns)
    if "view_partner" in columns:  # stored as places in ascending id order
        place = np.empty(len(dataset), np.uint32)
        place[order_of(dataset.arrays.ids)] = np.arange(len(dataset), dtype=np.uint32)
        columns["view_partner"] = place[columns["view_partner"]]

    def values(first: int, stop: int) -> F32:
        part = labels.values[first:stop].astype(np.float32)
        if labels.kept is not None:
            return np.maximum(part, np.float32(LEAST))
        return part if labels.space == "logits" else np.log(np.maximum(part, np.float32(LEAST_PROBABILITY)))

    return GivenLabels(
        views=labels.views,
        values=values,
        recipe=labels.recipe,
        columns=columns,
        present=labels.present,
        are="logits" if labels.space == "logits" and labels.kept is None else "log_probs",
        temperature=labels.temperature,
    )


def _confirm(dataset: Dataset, labels: ViewLabels, teachers: Sequence[LoadedLabeler]) -> None:
    """Replay labels of records spread over the set, and refuse those that the teachers do not give.

    Raises:
        ConvertError: they give others.
    """
    count, views = len(dataset), labels.values.shape[1]
    images, there = torch.from_numpy(dataset.arrays.images), labels.present
    rounding = float(np.finfo(labels.values.dtype).eps)
    for record in range(0, count, max(1, count // REPLAYED)):
        shown = [view for view in range(views) if there is None or there[record, view]]
        if not shown:
            continue
        cut = dataset.views(images[record : record + 1], shown, normalize=False, index=[record])[0]
        said = _answers(teachers, cut, labels)
        stored = labels.values[record, shown].astype(np.float64)
        if labels.as_stored is not None:
            said = labels.as_stored(said, stored)
        said = np.where(np.isfinite(stored), said, stored)  # of classes that were not kept, nothing is known
        with np.errstate(invalid="ignore"):
            off = np.nan_to_num(np.abs(said - stored) - rounding * np.abs(stored), nan=0.0)
        if off.max() > TOLERANCE:
            raise ConvertError(
                f"record {dataset.arrays.ids[record]}: the teacher's answers differ from the stored ones by "
                f"{off.max():.3g}; expected at most {TOLERANCE:g} beside {labels.values.dtype}'s rounding. Either this "
                "is not the teacher, or rows belong to other pictures: another --seed, an older torch (--permutations "
                "1), another --pillow or --view-size, or a folder that was changed since. Nothing was written."
            )


def _answers(teachers: Sequence[LoadedLabeler], cut: Tensor, labels: ViewLabels) -> F64:
    """Return what the teachers say on average of views, float32 [k, channels, height, width] on the 0..255 scale."""
    with torch.no_grad(), full_float32():
        outputs = [
            teacher.network(apply_affine(natural_affine(teacher.description.normalization), cut)).double()
            for teacher in teachers
        ]
    mean = torch.stack(outputs).mean(0)
    answers: F64 = (mean if labels.space == "logits" else torch.softmax(mean / labels.temperature, 1)).numpy()
    return answers
