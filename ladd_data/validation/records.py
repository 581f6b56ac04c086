"""Every record of a dataset, read once: each value against its rule, and the digests over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from ladd_data.digests import DigestMeter, Digests
from ladd_data.encodings.coding import decode_probs
from ladd_data.errors import Problem, say_place
from ladd_data.jpeg import JpegSizeError, decode_jpeg
from ladd_data.manifest import MANIFEST_PATH, GoldenView, Mix
from ladd_data.png import PngSizeError
from ladd_data.shards.container import clause_of, place_of
from ladd_data.shards.folder import Folder, Shard
from ladd_data.shards.images import PixelImages, decode_image, digest_image
from ladd_data.shards.layout import ID_PATTERN, Records, pick
from ladd_data.types import F32, U8
from ladd_data.validation.golden import cut_mixed, cut_view, keep_records
from ladd_data.validation.labels import Breach, check_labels
from ladd_data.validation.report import AGAIN, Findings
from ladd_data.validation.views import check_missing_views, check_soft, check_view_columns
from ladd_data.views.geometry import lies_inside
from ladd_data.views.golden import digest_view
from ladd_data.views.reference import RecordBox, box_of, mix_of

GOLDEN_PROB_TOLERANCE = 1e-3
VALUES_AT_ONCE = 2**21
"""Label values checked together; in float64, with a few copies, about 100 MB."""


class Place(NamedTuple):
    """Where something is: the file, or a field in it; the row in the file; the record's id."""

    file: str
    row: int | None = None
    id: str | None = None


class RecordCheck:
    """One pass over every record of the shards that are sound."""

    def __init__(self, folder: Folder, findings: Findings) -> None:
        """Start with nothing read."""
        self.folder, self.findings = folder, findings
        self.manifest = folder.manifest
        self.classes = len(self.manifest.classes.names)
        self.digests = DigestMeter(self.manifest.classes)
        self.ids: set[str] = set()
        self.complete = True
        self._mixes = self.manifest.labels is not None and isinstance(self.manifest.labels.views, Mix)
        self.mixed: list[tuple[Place, GoldenView]] = []
        self.misplaced = False
        self.golden: dict[str, list[GoldenView]] = {}
        for golden in self.manifest.labels.golden if self.manifest.labels else ():
            self.golden.setdefault(golden.id, []).append(golden)

    def run(self, shards: Sequence[Shard], *, whole: bool) -> int:
        """Check shards and return how many records were read; `whole` says that these are all there are."""
        self.complete = whole
        count = 0
        for shard in shards:
            row = 0
            try:
                for records in self._parts(shard):
                    self._check_part(shard, row, records)
                    row += len(records)
                if self.folder.edition == "parquet":
                    self._check_paths(shard)
            except ValueError as error:
                place = Place(shard.path, *place_of(error, row))
                self._note(clause_of(error), place, str(error), "readable records")
                self.complete = False
            count += row
        self._check_totals()
        if self.mixed:
            self._check_mixed(shards)
        return count

    def _parts(self, shard: Shard) -> Iterator[Records]:
        """Yield a shard's records, few enough at a time for a bounded amount of memory."""
        labels = self.manifest.labels
        step = max(1, VALUES_AT_ONCE // (labels.count * self.classes)) if labels else VALUES_AT_ONCE
        for records in self.folder.container.read_records(self.folder.path / shard.path, self.folder.layout):
            for start in range(0, len(records), step):
                yield records.slice(start, start + step)

    def _check_part(self, shard: Shard, first: int, records: Records) -> None:
        probs = self._check_dense(shard, first, records)
        for row, name in enumerate(records.ids):
            place = Place(shard.path, first + row, name)
            label = int(records.labels[row])
            if not ID_PATTERN.fullmatch(name):
                self._note("LADD-022", place, f"id {name!r}", "1 to 64 letters, digits, _ or -")
            if name in self.ids:
                self._note("LADD-022", place, "an id that another record has", "an id of its own")
            self.ids.add(name)
            if not 0 <= label < self.classes:
                self._note("LADD-023", place, f"label {label}", f"0 .. {self.classes - 1}")
            pixels = self._decode(place, records.images, row)
            if pixels is None:
                self.complete = False
                continue
            digest = digest_image(records.images, row, pixels, self.folder.layout)
            self.digests.add(name, label, digest, records.dense, row)
            for golden in self.golden.pop(name, []):
                box = box_of(records.dense, row, golden.view)
                if box is None or lies_inside(records.dense["view_box"][row, golden.view], *pixels.shape[1:]):
                    self._check_golden(place, golden, pixels, box, None if probs is None else probs[row])

    def _decode(self, place: Place, stored: Sequence[bytes], row: int) -> U8 | None:
        images, layout = self.manifest.images, self.folder.layout
        try:
            pixels = decode_image(stored, row, layout)
            beside = isinstance(stored, PixelImages) and layout.png is None
            if beside and not np.array_equal(decode_jpeg(stored[row], *layout.shape), pixels):
                self._note("LADD-074", place, "other pixels than its JPEG file decodes to", "the same", "image")
            return pixels
        except ValueError as error:
            kind, clause = ("PNG", "LADD-024") if layout.png else ("JPEG", "LADD-029")
            expected = f"a {kind} of {images.width}x{images.height} with {images.channels} channels"
            clause = "LADD-084" if isinstance(error, PngSizeError | JpegSizeError) else clause
            self._note(clause, place, str(error), expected)
            return None

    def _check_dense(self, shard: Shard, first: int, records: Records) -> F32 | None:
        """Check some records' dense labels and return them as probabilities, unless they cannot be decoded."""
        labels = self.manifest.labels
        misplaced = list(check_view_columns(self.manifest, records.dense))
        self.misplaced |= bool(misplaced)
        others = [*misplaced, *check_soft(self.manifest, records.dense)]
        if labels is None:
            self._note_breaches(shard, first, records, others)
            return None
        breaches = check_labels(pick(records.dense, ("dense_",)), labels.coding, self.classes)
        wanted = not breaches and (labels.present or any(name in self.golden for name in records.ids))
        probs = decode_probs(records.dense, labels.coding, self.classes) if wanted else None
        if probs is not None:
            others += check_missing_views(records.dense, probs)
        self._note_breaches(shard, first, records, [*breaches, *others])
        return probs

    def _note_breaches(self, shard: Shard, first: int, records: Records, breaches: Sequence[Breach]) -> None:
        for breach in breaches:
            place = Place(shard.path, first + breach.row, records.ids[breach.row])
            self._note(breach.clause, place, breach.found, breach.expected, breach.column)

    def _check_golden(
        self, place: Place, golden: GoldenView, pixels: U8, box: RecordBox | None, probs: F32 | None
    ) -> None:
        labels = self.manifest.labels
        if labels is None:
            return
        if not self._mixes and digest_view(cut_view(labels, pixels, golden.view, box)) != golden.pixels:
            self._blame_pixels(place, golden)
        if self._mixes:
            self.mixed.append((place, golden))
        if probs is None:
            return
        label = probs[golden.view]
        top, prob = int(label.argmax()), float(label[golden.top_class])
        sure = abs(prob - golden.top_prob) <= GOLDEN_PROB_TOLERANCE and label[top] - prob <= GOLDEN_PROB_TOLERANCE
        if not sure:
            found = f"class {top} on top and {prob:.4f} for class {golden.top_class} in view {golden.view}"
            others = np.flatnonzero(np.abs(probs[:, golden.top_class] - golden.top_prob) <= GOLDEN_PROB_TOLERANCE)
            if len(others) == 1:
                found += f"; view {others[0]} has the label expected here, so the order of views may be another"
            self._note("LADD-043", place, found, f"class {golden.top_class} at {golden.top_prob:.4f}")

    def _check_mixed(self, shards: Sequence[Shard]) -> None:
        """Cut golden views that are mixed, all records being there and their partners known."""
        labels = self.manifest.labels
        if labels is None or not self.complete or self.misplaced:
            return
        names = sorted(self.ids)
        own = keep_records(self.folder, shards, {golden.id for _, golden in self.mixed})
        places = [mix_of(own[golden.id].columns, 0, golden.view) for _, golden in self.mixed]
        others = keep_records(self.folder, shards, {names[place.partner] for place in places if place})
        for place, golden in self.mixed:
            if digest_view(cut_mixed(labels, own[golden.id], golden.view, others, names)) != golden.pixels:
                self._blame_pixels(place, golden)

    def _blame_pixels(self, place: Place, golden: GoldenView) -> None:
        found = f"other pixels in view {golden.view} than the labeler saw"
        self._note("LADD-042", place, found, f"sha256 {golden.pixels}")

    def _check_paths(self, shard: Shard) -> None:
        """Check that each image carries its record's name; the labels are not read again."""
        with pq.ParquetFile(self.folder.path / shard.path) as file:
            row, suffix = 0, self.folder.layout.suffix
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=["id", "image.path"])
                paths = table.column("image").combine_chunks().field("path").to_pylist()
                for name, path in zip(table.column("id").to_pylist(), paths, strict=True):
                    if path != f"{name}.{suffix}":
                        place = Place(shard.path, row, name)
                        self._note("LADD-020", place, f"path {path!r}", f'"{name}.{suffix}"', "image.path")
                    row += 1

    def _check_totals(self) -> None:
        if not self.complete:
            return
        for name in self.golden:
            place = Place(f"{MANIFEST_PATH}, labels.golden")
            self._note("LADD-042", place, f'a golden view of id "{name}"', "an id that a record has")
        found, stated = self.digests.result(), self._stated()
        for clause, what, ours, theirs in (
            ("LADD-025", "images.digest", found.images, stated.images),
            ("LADD-034", "labels.digest", found.labels, stated.labels),
            ("LADD-039", "soft.digest", found.soft, stated.soft),
            ("LADD-026", "digest", found.dataset, stated.dataset),
        ):
            if ours != theirs:
                self._note(clause, Place(f"{MANIFEST_PATH}, {what}"), f"records of digest {ours}", str(theirs))

    def _stated(self) -> Digests:
        labels, soft = self.manifest.labels, self.manifest.soft
        dense_digest, soft_digest = labels.digest if labels else None, soft.digest if soft else None
        return Digests(self.manifest.images.digest, dense_digest, soft_digest, self.manifest.digest)

    def _note(self, clause: str, place: Place, found: str, expected: str, column: str = "") -> None:
        where = say_place(*place) + (f", {column}" if column else "")
        self.findings.add(Problem(clause, where, found, expected, AGAIN, place.row, place.id))
