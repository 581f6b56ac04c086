"""Validation: everything that is wrong with a dataset folder, in one report. No torch here.

Three levels, each including the one before: `metadata` reads meta/ and the card, `structure` compares
files, checksums, footers and columns, `full` decodes every record and checks what it holds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladd_data.digests import DigestMeter, Digests, digest_pixels
from ladd_data.encodings.coding import decode_probs
from ladd_data.encodings.dense import decode_dense
from ladd_data.errors import DatasetError, Problem
from ladd_data.label_checks import check_missing_views, check_soft, check_view_columns
from ladd_data.manifest import MANIFEST_PATH, GoldenView, Labels
from ladd_data.shards.card import CARD_PATH, read_card_header
from ladd_data.shards.container import clause_of
from ladd_data.shards.folder import Folder, Shard, check_files, read_metadata
from ladd_data.shards.images import decode_image
from ladd_data.shards.layout import ID_PATTERN, Records
from ladd_data.types import F32, U8, Level
from ladd_data.views.golden import digest_view
from ladd_data.views.reference import RecordBox, box_of, reference_view

MAX_PER_CLAUSE = 20
"""Problems of one clause that are listed; the rest are counted."""

SUM_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1}
"""How far a row's probabilities may sum from 1: float32 rounding, and float16 log-probabilities at C = 1000."""

GOLDEN_PROB_TOLERANCE = 1e-3
_AGAIN = "Download or write the dataset again."


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome: `problems` is empty for a valid dataset; `omitted` counts those beyond the listed ones."""

    path: Path
    level: Level
    problems: tuple[Problem, ...]
    omitted: int
    records: int

    @property
    def valid(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def validate(path: str | Path, level: Level = "full") -> Report:
    """Check a dataset folder.

    Args:
        path: the folder.
        level: how deep to look.

    Raises:
        UsageError: there is no such folder, or it is no ladd dataset.
    """
    path = Path(path)
    findings = _Findings()
    try:
        folder = read_metadata(path)
    except DatasetError as error:
        return Report(path, level, error.problems, 0, 0)
    findings.add(*_check_card(folder))
    if level != "metadata":
        findings.add(*check_files(folder, verify=True))
    records = _RecordCheck(folder, findings).run() if level == "full" else 0
    return Report(path, level, tuple(findings.listed), findings.omitted, records)


class _Findings:
    """Problems in the order found, at most MAX_PER_CLAUSE of each clause."""

    def __init__(self) -> None:
        self.listed: list[Problem] = []
        self.omitted = 0
        self._per_clause: Counter[str] = Counter()

    def add(self, *problems: Problem) -> None:
        for problem in problems:
            self._per_clause[problem.clause] += 1
            if self._per_clause[problem.clause] <= MAX_PER_CLAUSE:
                self.listed.append(problem)
            else:
                self.omitted += 1


def _check_card(folder: Folder) -> list[Problem]:
    """Compare the card's dataset_info, which `datasets` believes before anything else, with the manifest."""
    try:
        header = read_card_header((folder.path / CARD_PATH).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [Problem("LADD-050", CARD_PATH, str(error), "a dataset card", _AGAIN)]
    info = header.get("dataset_info")
    if not isinstance(info, dict) or "splits" not in info:
        return [Problem("LADD-050", CARD_PATH, "no whole dataset_info", "features and splits", _AGAIN)]
    problems = []
    if info.get("features") != folder.container.card_features(folder.layout):
        found = "dataset_info.features that are not the manifest's"
        problems.append(Problem("LADD-051", CARD_PATH, found, "the same columns and class names", _AGAIN))
    counts = [split.get("num_examples") for split in info["splits"] if isinstance(split, dict)]
    if counts != [folder.manifest.images.count]:
        found, expected = f"num_examples {counts}", f"[{folder.manifest.images.count}]"
        problems.append(Problem("LADD-051", CARD_PATH, found, expected, _AGAIN))
    return problems


class _RecordCheck:
    """One pass over every record: each value against its rule, and the digests over all of them."""

    def __init__(self, folder: Folder, findings: _Findings) -> None:
        self.folder, self.findings = folder, findings
        self.manifest = folder.manifest
        self.digests = DigestMeter(self.manifest.classes)
        self.ids: set[str] = set()
        self.complete = True
        labels = self.manifest.labels
        self.golden = {golden.id: golden for golden in labels.golden} if labels else {}

    def run(self) -> int:
        """Check everything and return how many records were read."""
        count = 0
        for shard in self.folder.shards:
            row = 0
            try:
                for records in self.folder.container.read_records(self.folder.path / shard.path, self.folder.layout):
                    self._check_group(shard, row, records)
                    row += len(records)
            except ValueError as error:
                self._note(clause_of(error), shard.path, str(error), "readable records")
                self.complete = False
            count += row
        self._check_totals()
        return count

    def _check_group(self, shard: Shard, first: int, records: Records) -> None:
        probs = self._check_dense(shard, first, records)
        self._check_other_columns(shard, first, records, probs)
        classes = len(self.manifest.classes.names)
        for row, name in enumerate(records.ids):
            where = f'{shard.path}, row {first + row} (id "{name}")'
            label = int(records.labels[row])
            if not ID_PATTERN.fullmatch(name):
                self._note("LADD-022", where, f"id {name!r}", "1 to 64 letters, digits, _ or -")
            if name in self.ids:
                self._note("LADD-022", where, "an id that another record has", "an id of its own")
            self.ids.add(name)
            if not 0 <= label < classes:
                self._note("LADD-023", where, f"label {label}", f"0 .. {classes - 1}")
            pixels = self._decode(where, records, row)
            if pixels is None:
                self.complete = False
                continue
            self.digests.add(name, label, digest_pixels(pixels), records.dense, row)
            if name in self.golden:
                golden = self.golden.pop(name)
                box = box_of(records.dense, row, golden.view)
                self._check_golden(where, golden, pixels, box, None if probs is None else probs[row])

    def _decode(self, where: str, records: Records, row: int) -> U8 | None:
        images = self.manifest.images
        try:
            return decode_image(records.images, row, images.channels, images.height, images.width)
        except ValueError as error:
            expected = f"a PNG of {images.width}x{images.height} with {images.channels} channels"
            self._note("LADD-024", where, str(error), expected)
            return None

    def _check_dense(self, shard: Shard, first: int, records: Records) -> F32 | None:
        """Check a group's dense labels and return them as probabilities."""
        labels = self.manifest.labels
        if labels is None:
            return None
        for column, values in records.dense.items():
            if values.dtype.kind != "f":
                continue
            for row in np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1)):
                where = f'{shard.path}, row {first + row} (id "{records.ids[row]}"), {column}'
                self._note("LADD-031", where, "NaN or infinity", "finite numbers")
        self._check_sums(shard, first, records, labels)
        with np.errstate(invalid="ignore", over="ignore"):
            return decode_probs(records.dense, labels.coding, len(self.manifest.classes.names))

    def _check_other_columns(self, shard: Shard, first: int, records: Records, probs: F32 | None) -> None:
        """Check where views lie, which there are, and whole-image labels."""
        breaches = [*check_view_columns(self.manifest, records.dense), *check_soft(self.manifest, records.dense)]
        if probs is not None:
            breaches += check_missing_views(records.dense, probs)
        for breach in breaches:
            where = f'{shard.path}, row {first + breach.row} (id "{records.ids[breach.row]}"), {breach.column}'
            self._note(breach.clause, where, breach.found, breach.expected)

    def _check_sums(self, shard: Shard, first: int, records: Records, labels: Labels) -> None:
        coding = labels.coding
        if coding.encoding != "dense" or coding.space == "logits":
            return
        column = f"dense_{coding.space}"
        with np.errstate(invalid="ignore", over="ignore"):
            wide = decode_dense(records.dense[column], coding.dtype).astype(np.float64)
            probs = np.exp(wide) if coding.space == "log_probs" else wide
            off = np.abs(probs.sum(-1) - 1)  # [rows, views]
            wrong = (off > SUM_TOLERANCE[coding.dtype]) | (probs.min(-1) < 0)
        for row in np.flatnonzero(wrong.any(-1)):
            view = int(wrong[row].argmax())
            where = f'{shard.path}, row {first + row} (id "{records.ids[row]}"), {column}, view {view}'
            low, total = probs[row, view].min(), probs[row, view].sum()
            found = f"probabilities that sum to {total:.6g}" if low >= 0 else f"a probability of {low:.4g}"
            self._note("LADD-032", where, found, "at least 0, summing to 1")

    def _check_golden(
        self, where: str, golden: GoldenView, pixels: U8, box: RecordBox | None, probs: F32 | None
    ) -> None:
        labels = self.manifest.labels
        if labels is None or probs is None:
            return
        if digest_view(reference_view(labels.views, pixels, golden.view, box)) != golden.pixels:
            found = f"other pixels in view {golden.view} than the labeler saw"
            self._note("LADD-042", where, found, f"sha256 {golden.pixels}")
        label = probs[golden.view]
        top, prob = int(label.argmax()), float(label[golden.top_class])
        if not abs(prob - golden.top_prob) <= GOLDEN_PROB_TOLERANCE:
            found = f"class {top} on top and {prob:.4f} for class {golden.top_class} in view {golden.view}"
            self._note("LADD-043", where, found, f"class {golden.top_class} at {golden.top_prob:.4f}")

    def _check_totals(self) -> None:
        if not self.complete:
            return
        for name in self.golden:
            self._note("LADD-042", MANIFEST_PATH, f'a golden view of id "{name}"', "an id that a record has")
        found, stated = self.digests.result(), self._stated()
        for clause, what, ours, theirs in (
            ("LADD-025", "images.digest", found.images, stated.images),
            ("LADD-034", "labels.digest", found.labels, stated.labels),
            ("LADD-039", "soft.digest", found.soft, stated.soft),
            ("LADD-026", "digest", found.dataset, stated.dataset),
        ):
            if ours != theirs:
                self._note(clause, f"{MANIFEST_PATH}, {what}", f"records of digest {ours}", str(theirs))

    def _stated(self) -> Digests:
        labels, soft = self.manifest.labels, self.manifest.soft
        dense_digest, soft_digest = labels.digest if labels else None, soft.digest if soft else None
        return Digests(self.manifest.images.digest, dense_digest, soft_digest, self.manifest.digest)

    def _note(self, clause: str, where: str, found: str, expected: str) -> None:
        self.findings.add(Problem(clause, where, found, expected, _AGAIN))
