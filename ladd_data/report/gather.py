"""What a report shows of a dataset's records: counts and label statistics by class, and a sample of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ladd_data.encodings.coding import decode_probs
from ladd_data.manifest import ByRecord, Grid, Labels, Manifest, Opaque, Soft
from ladd_data.shards.folder import Folder
from ladd_data.shards.layout import Records
from ladd_data.types import F32, F64, I64
from ladd_data.views.geometry import boxes

MAX_PAGE_BYTES = 6_000_000
"""What images and labels may take of a page, about; the rest of a page is small."""
MAX_SHOWN = 120
"""Images on a page."""
MAX_VALUES = 2**26
"""Label values that the statistics are taken from; of larger sets, a sample of each class."""
VALUES_AT_ONCE = 2**22
TOP = 5
"""Classes of a label that are shown by name."""

BoxList = list[list[int]]
"""Boxes as [y, x, height, width]."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An image on the page.

    file: its PNG or JPEG bytes. labels: for each view [entropy in bits, probability of the hard class, class,
    probability, class, probability, ...], the most probable first; None for a view that is missing; the
    distiller's own soft label comes last, where there is one. boxes, flips: where views differ by record.
    """

    id: str
    label: int
    file: bytes
    labels: list[list[float] | None]
    boxes: BoxList | None
    flips: list[int] | None


@dataclass(slots=True)
class LabelStatistics:
    """Sums over views, by class [classes]: views, those whose most probable class is the hard one, entropy in bits."""

    views: I64
    agree: I64
    entropy: F64
    records: int = 0


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything: `counts` is int64 [classes], `statistics` None without dense labels."""

    counts: I64
    statistics: LabelStatistics | None
    shown: list[Shown]
    per_class: int

    @property
    def agreement(self) -> float | None:
        """Share of views whose most probable class is the hard one; None without dense labels."""
        found = self.statistics
        return None if found is None else int(found.agree.sum()) / max(1, int(found.views.sum()))


def gather(folder: Folder) -> Gathered:
    """Read a dataset twice: for counts and statistics, then for the sample, as far as its last image.

    Raises:
        DatasetError: a record cannot be read.
    """
    counts, statistics = _count(folder)
    present = np.flatnonzero(counts)
    room = max(1, min(MAX_SHOWN, MAX_PAGE_BYTES // _bytes_on_page(folder)))
    per_class = int(min(max(1, room // len(present)), counts.max()))
    chosen = present[np.linspace(0, len(present) - 1, min(room, len(present))).round().astype(int)]
    shown = _pick(folder, dict.fromkeys(chosen.tolist(), per_class), counts)
    return Gathered(counts, statistics, shown, per_class)


def grid_boxes(manifest: Manifest) -> BoxList | None:
    """Return the boxes that all images share; None where there are none."""
    images, labels = manifest.images, manifest.labels
    whole = [0, 0, images.height, images.width]
    if labels is not None and isinstance(labels.views, ByRecord):
        return None
    shared = [whole] if labels is not None else []
    if labels is not None and isinstance(labels.views, Opaque):
        shared = [whole] * labels.count  # where they lay is not known
    if labels is not None and isinstance(labels.views, Grid):
        shared = [[box.y, box.x, box.height, box.width] for box in boxes(labels.views, images.height, images.width)]
    return shared + ([whole] if draws_soft(manifest.soft) else []) or None


def draws_soft(soft: Soft | None) -> bool:
    """Tell whether there are soft labels of whole images that are a distribution; regression targets are not."""
    return soft is not None and soft.space != "targets"


def _bytes_on_page(folder: Folder) -> int:
    """Return about what one image takes: its file in base64, and the top of each view's label."""
    manifest, sizes = folder.manifest, folder.column_bytes()
    views = manifest.labels.count if manifest.labels is not None else 1
    file = (sizes.get("image_file") or sizes["image"]) / manifest.images.count
    return int(file * 4 / 3) + 80 * views + 300


def _count(folder: Folder) -> tuple[I64, LabelStatistics | None]:
    labels, classes = folder.manifest.labels, len(folder.manifest.classes.names)
    counts = np.zeros(classes, np.int64)
    if labels is None:
        for _, _, records in folder.records():
            counts += np.bincount(records.labels, minlength=classes)
        return counts, None
    found = LabelStatistics(np.zeros(classes, np.int64), np.zeros(classes, np.int64), np.zeros(classes))
    step = -(-folder.manifest.images.count * labels.count * classes // MAX_VALUES)
    for _, _, records in folder.records():
        rows = []
        for row, label in enumerate(records.labels.tolist()):
            if counts[label] % step == 0:  # the first of each class is always among them
                rows.append(row)
            counts[label] += 1
        for part in _parts(rows, max(1, VALUES_AT_ONCE // (labels.count * classes))):
            _add(found, records, part, labels, classes)
    return counts, found


def _parts(rows: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _add(found: LabelStatistics, records: Records, rows: list[int], labels: Labels, classes: int) -> None:
    """Count the views of some records."""
    columns = {name: values[rows] for name, values in records.dense.items()}
    probs = decode_probs(columns, labels.coding, classes)
    there = columns.get("view_present", np.ones(probs.shape[:2], bool))
    hard = records.labels[rows]
    agree = (probs.argmax(-1) == hard[:, None]) & there
    np.add.at(found.views, hard, there.sum(1))
    np.add.at(found.agree, hard, agree.sum(1))
    np.add.at(found.entropy, hard, (_entropy(probs) * there).sum(1))
    found.records += len(rows)


def _entropy(probs: F32) -> F64:
    """Return the entropy of distributions, [..., classes], in bits, [...]."""
    wide = probs.astype(np.float64)
    return np.asarray(-(wide * np.log2(np.maximum(wide, np.finfo(np.float64).tiny))).sum(-1), np.float64)


def _pick(folder: Folder, wanted: dict[int, int], counts: I64) -> list[Shown]:
    """Return the first images of each class wanted, by class, in file order within a class."""
    missing = {label: min(number, int(counts[label])) for label, number in wanted.items()}
    left, size = sum(missing.values()), 0
    picked: list[Shown] = []
    for _, _, records in folder.records():
        for row, label in enumerate(records.labels.tolist()):
            if missing.get(label, 0) and (size < MAX_PAGE_BYTES or not picked):
                missing[label] -= 1
                left -= 1
                picked.append(_show(folder.manifest, records, row))
                size += len(picked[-1].file) * 4 // 3
        if not left:
            break
    return sorted(picked, key=lambda shown: shown.label)


def _show(manifest: Manifest, records: Records, row: int) -> Shown:
    labels, hard = manifest.labels, int(records.labels[row])
    columns = {name: values[row : row + 1] for name, values in records.dense.items()}
    tops: list[list[float] | None] = []
    given: BoxList | None = None
    flips: list[int] | None = None
    if labels is not None:
        probs = decode_probs(columns, labels.coding, len(manifest.classes.names))[0]
        present = columns.get("view_present", np.ones((1, len(probs)), bool))[0]
        tops += [_top(one, hard) if there else None for one, there in zip(probs, present, strict=True)]
        if isinstance(labels.views, ByRecord):
            given = columns["view_box"][0].astype(int).tolist()
            flips = columns["view_flip"][0].astype(int).tolist() if "view_flip" in columns else None
    if manifest.soft is not None and draws_soft(manifest.soft):
        values = columns[f"soft_{manifest.soft.space}"][0].astype(np.float64)
        if manifest.soft.space == "logits":
            values = np.exp(values - values.max())
        tops.append(_top((values / values.sum()).astype(np.float32), hard))
        if given is not None:
            given.append([0, 0, manifest.images.height, manifest.images.width])
    return Shown(records.ids[row], hard, bytes(records.images[row]), tops, given, flips)


def _top(probs: F32, hard: int) -> list[float]:
    """Return what the page shows of a label, with three significant digits."""
    order = np.argsort(-probs, kind="stable")[:TOP].tolist()
    said: list[float] = [_short(float(_entropy(probs))), _short(float(probs[hard]))]
    for label in order:
        said += [label, _short(float(probs[label]))]
    return said


def _short(value: float) -> float:
    rounded = float(f"{max(value, 0.0):.3g}")
    return int(rounded) if rounded.is_integer() else rounded
