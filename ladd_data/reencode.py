"""Down the ladder: the labels of a float32 parent, stored in fewer bytes, with the error measured and written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ladd_data.dataset import Dataset
from ladd_data.digests import Digests
from ladd_data.encodings.certificate import CertificateMeter
from ladd_data.encodings.coding import column_types, decode_probs, encode_log_probs
from ladd_data.errors import UsageError
from ladd_data.manifest import Coding, GoldenView, Labels, Manifest
from ladd_data.shards.layout import Layout, Records, pick, view_columns
from ladd_data.types import F32, F64, U8, Columns
from ladd_data.views.geometry import mix64
from ladd_data.views.golden import digest_view, top_of
from ladd_data.views.mixing import VIEW_COLUMNS
from ladd_data.writer import new_dataset


@dataclass(frozen=True, slots=True)
class Keep:
    """Pruning: how many views of each image stay, drawn by `seed` and the record's number."""

    views: int
    seed: int = 0


def reencode_dataset(
    dataset: Dataset,
    coding: Coding,
    target: Path,
    *,
    profile: str | None = None,
    keep: Keep | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Write a copy of a dataset whose labels are stored in another coding; images are copied byte for byte.

    Args:
        dataset: labels in float32, so that errors are not stacked on errors.
        coding: how to store them.
        target: the folder to write; appears whole or not at all.
        profile: the coding's name, if it has one.
        keep: prune: keep only some views of each image; the others are marked as missing.
        overwrite: replace the target.
        on_progress: told (records done, records in all).

    Returns:
        The new manifest; its `labels.parent` is the digest of the labels read, and its certificate is
        against them.

    Raises:
        UsageError: there are no labels, they are not float32, or logits are asked for and cannot be had.
    """
    reencoder = _Reencoder(dataset, coding, keep)
    count, old = len(dataset), dataset.folder
    with new_dataset(
        target, old.manifest.classes, reencoder.layout, count, edition=old.edition, overwrite=overwrite
    ) as writer:
        for _, first, records, pixels in dataset.decoded():
            writer.add(reencoder.convert(records, pixels, first), pixels)
            on_progress(first + len(records), count)
        return writer.finish(lambda digests: reencoder.describe(profile, digests))


class _Reencoder:
    """Turns the parent's records into re-encoded ones, and keeps what the new manifest says of them."""

    def __init__(self, dataset: Dataset, coding: Coding, keep: Keep | None) -> None:
        self._dataset, self._manifest, self._coding, self._keep = dataset, dataset.manifest, coding, keep
        self._parent = parent = _check_parent(dataset, coding)
        self._classes = len(dataset.classes)
        self._meter = CertificateMeter()
        self._golden = {view.id: view for view in parent.golden}
        self._marks_missing = parent.present or keep is not None
        soft = {name: kind for name, kind in dataset.folder.layout.dense.items() if name.startswith("soft_")}
        views = view_columns(parent.views, present=self._marks_missing)
        columns = soft | views | column_types(coding, parent.count, self._classes)
        self.layout: Layout = replace(dataset.folder.layout, dense=columns)

    def convert(self, records: Records, pixels: U8, first: int) -> Records:
        """Return records, of which the first has number `first`, with their labels in the new coding."""
        log_probs, logz = read_parent(records.dense, self._parent.coding)
        present = _present(records, self._parent.count, first, self._keep)
        log_probs = np.where(present[..., None], log_probs, -np.log(self._classes))  # LADD-045
        columns = encode_log_probs(log_probs, logz, self._coding)
        probs = decode_probs(columns, self._coding, self._classes)
        self._meter.add(log_probs[present], probs[present])
        _update_golden(self._golden, self._dataset, (first, records), pixels, probs, present)
        kept = pick(records.dense, ("soft_", *VIEW_COLUMNS))
        if self._marks_missing:
            kept["view_present"] = present
        return Records(records.ids, records.labels, records.images, kept | columns)

    def describe(self, profile: str | None, digests: Digests) -> Manifest:
        """Return the manifest of all records converted."""
        changes = {
            "coding": self._coding,
            "profile": profile,
            "parent": self._parent.digest,
            "present": self._marks_missing,
            "certificate": self._meter.result(),
            "golden": tuple(self._golden.values()),
            "digest": digests.labels,
        }
        labels = self._parent.model_copy(update=changes)
        return self._manifest.model_copy(update={"labels": labels, "digest": digests.dataset})


def _present(records: Records, views: int, first: int, keep: Keep | None) -> NDArray[np.bool_]:
    """Return which views there will be, bool [records, views]: those there were, less the pruned ones."""
    present = records.dense.get("view_present", np.ones((len(records), views), np.bool_))
    if keep is None:
        return present
    kept = np.zeros_like(present)
    for row in range(len(records)):
        there = [view for view in range(views) if present[row, view]]
        there.sort(key=lambda view: mix64(mix64(mix64(keep.seed) ^ (first + row)) ^ view))
        kept[row, there[: keep.views]] = True
    return kept


def _check_parent(dataset: Dataset, coding: Coding) -> Labels:
    parent = dataset.manifest.labels
    if parent is None:
        raise UsageError('this dataset has no dense labels. Run "ladd label" first.')
    if parent.coding.encoding != "dense" or parent.coding.dtype != "float32":
        found = parent.coding.encoding if parent.coding.encoding != "dense" else parent.coding.dtype
        raise UsageError(
            f"the labels are stored as {found}; expected a float32 parent, so that the error stated is all of it. "
            'Label with "--encoding float32" or "--profile paper", and re-encode that.'
        )
    has_logits = parent.coding.logz or parent.coding.space == "logits"
    if (coding.logz or coding.space == "logits") and not has_logits:
        raise UsageError("the parent holds no logz, so logits cannot be had: add --no-logz, or label again.")
    return parent


def read_parent(stored: Columns, coding: Coding) -> tuple[F64, F64 | None]:
    """Return a float32 parent's log-probabilities, normalised, and their log-sum-exp where logits can be had."""
    logz: F64 | None = None
    if coding.space == "probs":
        # float32 keeps no smaller probability than this, so nothing is known below it
        log_probs = np.log(np.maximum(stored["dense_probs"].astype(np.float64), np.finfo(np.float32).tiny))
    elif coding.logz:
        log_probs, logz = stored["dense_log_probs"].astype(np.float64), stored["dense_logz"].astype(np.float64)
    else:
        log_probs = stored[f"dense_{coding.space}"].astype(np.float64)
    peak = log_probs.max(-1, keepdims=True)
    total = peak + np.log(np.exp(log_probs - peak).sum(-1, keepdims=True))
    if coding.space == "logits":
        logz = total[..., 0]
    return log_probs - total, logz


def _update_golden(
    golden: dict[str, GoldenView],
    dataset: Dataset,
    numbered: tuple[int, Records],
    pixels: U8,
    probs: F32,
    present: NDArray[np.bool_],
) -> None:
    """Rewrite the golden views among these records; one whose view is pruned moves to a view that is there."""
    first, records = numbered
    for row, name in enumerate(records.ids):
        if name not in golden:
            continue
        old = golden[name]
        view = old.view if present[row, old.view] else int(present[row].argmax())
        image = torch.from_numpy(np.ascontiguousarray(pixels[row]))
        cut = dataset.views(image, [view], normalize=False, index=[first + row])
        digest = digest_view(cut[0, 0].numpy())
        top, prob = top_of(probs[row, view])
        golden[name] = GoldenView(id=name, view=view, pixels=digest, top_class=top, top_prob=prob)
