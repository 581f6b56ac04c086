"""Labels that somebody else made, such as a relabeling run of another method, stored as a label set of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ladd_data.dataset import Dataset
from ladd_data.encodings.certificate import CertificateMeter
from ladd_data.encodings.coding import column_types, decode_probs, encode_log_probs, log_softmax
from ladd_data.errors import LabelError
from ladd_data.label_writer import new_label_set
from ladd_data.manifest import Coding, GoldenView, Labeler, Labels, LabelSet, Opaque, ViewSpec, count_views
from ladd_data.recipe import Recipe
from ladd_data.shards.layout import view_columns
from ladd_data.types import F32, F64, Columns
from ladd_data.views.checks import check_places
from ladd_data.views.device import ViewMaker
from ladd_data.views.golden import digest_view, top_of
from ladd_data.views.mixing import MixTable, order_of, place_views

VALUES_AT_ONCE = 2**22
"""Label values that are encoded together; in float64, with a few copies, about 150 MB."""


@dataclass(frozen=True, slots=True)
class GivenLabels:
    """Labels for every record of a dataset, in its order, and the views that they are of.

    views: what the views are; recipe: what the labels are meant for.
    values: returns those of records first .. stop-1, float32 [n, views, classes]; of missing views, anything finite.
    columns: where views lie and with what they are mixed, for views that differ by record: `view_*`, each [records,
        views, ...], in the format's types (uint16 boxes, bool flips, uint32 partners, ...).
    present: bool [records, views], which views there are; None where none is missing.
    are: "logits", or "log_probs" where the logits are not known.
    temperature: what the logits were divided by before the softmax, where values are log_probs; else 1.
    labeler: who made them, where that is known.
    """

    views: ViewSpec
    values: Callable[[int, int], F32]
    recipe: Recipe
    columns: Columns = field(default_factory=dict)
    present: NDArray[np.bool_] | None = None
    are: Literal["logits", "log_probs"] = "logits"
    temperature: float = 1.0
    labeler: Labeler | None = None


def store_labels(
    dataset: Dataset,
    name: str,
    given: GivenLabels,
    coding: Coding,
    *,
    profile: str | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> LabelSet:
    """Write labels into a dataset's folder as a label set; nothing else there but the card changes.

    Args:
        dataset: opened from its folder; it may have labels in its records, or none.
        name: of the set.
        given: the labels.
        coding: how they are stored.
        profile: the coding's name, if it has one.
        overwrite: replace the set if it is there.
        on_progress: told (records done, records in all).

    Returns:
        What the set says of itself, with the certificate of what storing cost and golden views.

    Raises:
        LabelError: a value is not finite, a box or a partner does not exist, or the coding wants logits that are
            not known.
        UsageError: the name is none, or the set is there already.
    """
    store = _Store(dataset, given, coding)
    store.check_places()
    count = len(dataset)
    step = max(1, VALUES_AT_ONCE // (store.views * store.classes))
    with new_label_set(dataset.folder, name, store.columns, overwrite=overwrite) as writer:
        for first in range(0, count, step):
            stop = min(first + step, count)
            writer.add(store.encode(first, stop))
            on_progress(stop, count)
        return writer.finish(store.describe(profile), given.recipe)


class _Store:
    """Encodes labels, and keeps what is said of them."""

    def __init__(self, dataset: Dataset, given: GivenLabels, coding: Coding) -> None:
        self._dataset, self._given, self._coding = dataset, given, coding
        self.views, self.classes = count_views(given.views), len(dataset.classes)
        self.columns = view_columns(given.views, present=given.present is not None)
        self.columns |= column_types(coding, self.views, self.classes)
        self._meter, self._golden = CertificateMeter(), list[GoldenView]()
        count = len(dataset)
        self._wanted = {0: min(1, self.views - 1), count // 2: self.views // 2, count - 1: self.views - 1}

    def check_places(self) -> None:
        """Refuse views that cannot be cut."""
        images, given = self._dataset.manifest.images, self._given
        wanted = view_columns(given.views, present=False)
        if wanted.keys() != given.columns.keys():
            raise LabelError(f"columns {', '.join(given.columns) or 'none'}; expected {', '.join(wanted) or 'none'}.")
        for column, (of_one, _) in wanted.items():
            shape = (images.count, *of_one)
            if given.columns[column].shape != shape:
                raise LabelError(f"{column}: {list(given.columns[column].shape)}; expected {list(shape)}.")
        for wrong in check_places(given.columns, images.count, images.height, images.width):
            where = f"record {wrong.row}, {wrong.column}, view {wrong.view}"
            raise LabelError(f"{where}: found {wrong.found}; expected {wrong.expected} ({wrong.clause}).")

    def encode(self, first: int, stop: int) -> Columns:
        """Return the label columns of some records."""
        log_probs, logz = self._read(first, stop)
        columns = {name: values[first:stop] for name, values in self._given.columns.items()}
        present = np.ones(log_probs.shape[:2], np.bool_)
        if self._given.present is not None:
            present = self._given.present[first:stop]
            columns["view_present"] = present
            log_probs = np.where(present[..., None], log_probs, -np.log(self.classes))  # LADD-045
        encoded = encode_log_probs(log_probs, logz, self._coding)
        probs = decode_probs(encoded, self._coding, self.classes)
        self._meter.add(log_probs[present], probs[present])
        self._golden += self._note_golden(first, probs, present)
        return columns | encoded

    def describe(self, profile: str | None) -> Labels:
        """Return what is said of the labels, without their digest."""
        given = self._given
        return Labels(
            views=given.views,
            present=given.present is not None,
            coding=self._coding,
            temperature=given.temperature,
            profile=profile,
            certificate=self._meter.result(),
            labeler=given.labeler,
            golden=tuple(self._golden),
            digest="0" * 64,
        )

    def _read(self, first: int, stop: int) -> tuple[F64, F64 | None]:
        """Return log-probabilities, and the log-sum-exp of the logits where these are known."""
        values, given = self._given.values(first, stop), self._given
        if values.shape != (stop - first, self.views, self.classes):
            expected = [stop - first, self.views, self.classes]
            raise LabelError(f"records {first} .. {stop - 1}: labels {list(values.shape)}; expected {expected}.")
        bad = ~np.isfinite(values).all(-1)
        if given.present is not None:
            bad &= given.present[first:stop]
            values = np.where(given.present[first:stop, :, None], values, np.float32(0))
        if bad.any():
            row, view = np.argwhere(bad)[0].tolist()
            raise LabelError(f"record {first + row}, view {view}: found NaN or infinity; expected finite {given.are}.")
        log_probs, logz = log_softmax(values)
        return log_probs, logz if given.are == "logits" else None

    def _note_golden(self, first: int, probs: F32, present: NDArray[np.bool_]) -> Iterator[GoldenView]:
        """Write down a view of the first, of the middle and of the last record, of those that are there."""
        if isinstance(self._given.views, Opaque):
            return
        for number, view in self._wanted.items():
            row = number - first
            if 0 <= row < len(probs) and present[row].any():
                there = view if present[row, view] else int(present[row].argmax())
                top, prob = top_of(probs[row, there])
                name, pixels = self._cut(number, there)
                yield GoldenView(id=name, view=there, pixels=pixels, top_class=top, top_prob=prob)

    def _cut(self, number: int, view: int) -> tuple[str, str]:
        """Return a record's id and the digest of one of its views."""
        arrays, images = self._dataset.arrays, self._dataset.manifest.images
        table = MixTable(self._given.columns, order_of(arrays.ids), lambda rows: arrays.images[rows])
        own = {name: values[number : number + 1] for name, values in self._given.columns.items()}
        maker = ViewMaker(self._given.views, images.height, images.width)
        pixels = torch.from_numpy(arrays.images[number : number + 1])
        cut = maker(pixels, [view], **place_views(own, [view], "cpu", table))
        return arrays.ids[number], digest_view(cut[0, 0].numpy())
