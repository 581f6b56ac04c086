"""Down the ladder: the labels of a float32 parent, stored in fewer bytes, with the error measured and written down."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
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
from ladd_data.files import new_folder
from ladd_data.label_writer import copy_label_sets, new_label_set
from ladd_data.ledger import list_files
from ladd_data.manifest import Coding, GoldenView, Labels, Manifest
from ladd_data.manifest_json import join_label_set
from ladd_data.recipe import Recipe
from ladd_data.shards.folder import Folder, read_metadata
from ladd_data.shards.joined import JoinedFolder, check_label_sets
from ladd_data.shards.layout import Layout, Records, pick, view_columns
from ladd_data.types import F32, F64, U8, Columns
from ladd_data.views.geometry import mix64
from ladd_data.views.golden import digest_view, top_of
from ladd_data.views.mixing import VIEW_COLUMNS
from ladd_data.writer import new_dataset

OnProgress = Callable[[int, int], None]
LOSSLESS = 1e-6
"""Total variation that the arithmetic of a certificate leaves of labels which storing did not change."""


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
    on_progress: OnProgress = lambda done, total: None,
) -> Manifest:
    """Write a copy of a dataset in which the labels it was opened with are stored in another coding.

    These are the labels in its records; or, of a dataset opened with a label set, that set. All else, images and other
    label sets, is copied byte for byte.

    Args:
        dataset: labels stored without loss, so that errors are not stacked on errors.
        coding: how to store them.
        target: the folder to write; appears whole or not at all.
        profile: the coding's name, if it has one.
        keep: prune: keep only some views of each image; the others are marked as missing.
        overwrite: replace the target.
        on_progress: told (records done, records in all).

    Returns:
        The new manifest, joined with the set if there is one; its `labels.parent` is the digest of the labels read,
        and its certificate is against them.

    Raises:
        DatasetError: a label set that would come along is damaged.
        UsageError: there are no labels, they were stored with loss, or logits are asked for and cannot be had.
    """
    reencoder, folder = _Reencoder(dataset, coding, keep), dataset.folder
    check_label_sets(folder)
    if isinstance(folder, JoinedFolder):
        with new_folder(target, overwrite=overwrite) as new:
            for path in list_files(folder.plain):
                copy = new / path.relative_to(folder.path)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)
            copy_label_sets(folder.plain, new, but=folder.labels.name)
            return _write_set(reencoder, read_metadata(new), folder.labels.name, profile, False, on_progress)
    sizes = folder.manifest.classes, reencoder.layout, len(dataset)
    with new_dataset(target, *sizes, edition=folder.edition, overwrite=overwrite) as writer:
        for records, pixels in reencoder.run(on_progress):
            writer.add(records, pixels)
        manifest = writer.finish(lambda digests: reencoder.describe(profile, digests))
        copy_label_sets(folder, writer.folder)
    return manifest


def reencode_set(
    dataset: Dataset,
    name: str,
    coding: Coding,
    *,
    profile: str | None = None,
    keep: Keep | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> Manifest:
    """Add the labels that a dataset was opened with, in another coding, to its folder as a label set.

    Args:
        dataset: opened from its folder; see `reencode_dataset`.
        name: of the new set; with `overwrite`, that of the set it was opened with is allowed.
        coding: how to store them.
        profile: the coding's name, if it has one.
        keep: see `reencode_dataset`.
        overwrite: replace the set of this name.
        on_progress: told (records done, records in all).

    Returns:
        The manifest that the dataset would have with these labels in its records.

    Raises:
        UsageError: the name is none, or the set is there already; and see `reencode_dataset`.
    """
    reencoder, folder = _Reencoder(dataset, coding, keep), dataset.folder
    plain = folder.plain if isinstance(folder, JoinedFolder) else folder
    return _write_set(reencoder, plain, name, profile, overwrite, on_progress)


def _write_set(
    reencoder: _Reencoder, into: Folder, name: str, profile: str | None, overwrite: bool, on_progress: OnProgress
) -> Manifest:
    columns = {name: kind for name, kind in reencoder.layout.dense.items() if not name.startswith("soft_")}
    with new_label_set(into, name, columns, overwrite=overwrite) as writer:
        for records, _ in reencoder.run(on_progress):
            writer.add(pick(records.dense, ("view_", "dense_")))
        statement = writer.finish(reencoder.describe_labels(profile, None), reencoder.recipe)
    return join_label_set(into.manifest, statement, name)


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

    @property
    def recipe(self) -> Recipe:
        """What the labels are meant for."""
        return self._manifest.recipe

    def run(self, on_progress: OnProgress) -> Iterator[tuple[Records, U8]]:
        """Yield every record with its labels in the new coding, and its pixels."""
        count = len(self._dataset)
        for _, first, records, pixels in self._dataset.decoded():
            yield self.convert(records, pixels, first), pixels
            on_progress(first + len(records), count)

    def convert(self, records: Records, pixels: U8, first: int) -> Records:
        """Return records, of which the first has number `first`, with their labels in the new coding."""
        log_probs, logz = read_parent(records.dense, self._parent.coding)
        present = _present(records, self._parent.count, first, self._keep)
        log_probs = np.where(present[..., None], log_probs, -np.log(self._classes))  # LADD-045
        columns = encode_log_probs(log_probs, logz, self._coding)
        if self._coding == self._parent.coding:  # pruning alone: what is left keeps every bit
            for name, values in columns.items():
                there = present.reshape(*present.shape, *(1,) * (values.ndim - 2))
                columns[name] = np.where(there, records.dense[name], values)
        probs = decode_probs(columns, self._coding, self._classes)
        self._meter.add(log_probs[present], probs[present])
        _update_golden(self._golden, self._dataset, (first, records), pixels, probs, present)
        kept = pick(records.dense, ("soft_", *VIEW_COLUMNS))
        if self._marks_missing:
            kept["view_present"] = present
        return Records(records.ids, records.labels, records.images, kept | columns)

    def describe(self, profile: str | None, digests: Digests) -> Manifest:
        """Return the manifest of all records converted."""
        labels = self.describe_labels(profile, digests.labels)
        return self._manifest.model_copy(update={"labels": labels, "digest": digests.dataset})

    def describe_labels(self, profile: str | None, digest: str | None) -> Labels:
        """Return what is said of the labels of all records converted; without a digest, with that of the parent."""
        changes = {
            "coding": self._coding,
            "profile": profile,
            "parent": self._parent.digest,
            "present": self._marks_missing,
            "certificate": self._meter.result(),
            "golden": tuple(self._golden.values()),
            "digest": digest or self._parent.digest,
        }
        return self._parent.model_copy(update=changes)


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
    if not is_lossless(parent):
        found = parent.coding.encoding if parent.coding.encoding != "dense" else parent.coding.dtype
        raise UsageError(
            f"the labels are stored as {found}; expected float32, or others that were stored without loss, so that "
            'the error stated is all of it. Label with "--encoding float32" or "--profile paper", and re-encode that.'
        )
    has_logits = parent.coding.logz or parent.coding.space == "logits"
    if (coding.logz or coding.space == "logits") and not has_logits:
        raise UsageError("the parent holds no logz, so logits cannot be had: add --no-logz, or label again.")
    return parent


def is_lossless(labels: Labels) -> bool:
    """Tell whether labels may be re-encoded: float32, or 16 bits that say all that the labels were made with."""
    dense = labels.coding.encoding == "dense"
    return dense and (labels.coding.dtype == "float32" or labels.certificate.max_tv <= LOSSLESS)


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
