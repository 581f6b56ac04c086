"""A dataset folder with the labels of one of its label sets in the place of those in its records.

To every reader it is a folder like any other: the same images in the same order, other label columns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ladd_data.errors import DatasetError, Problem, UsageError, nearest, say_place
from ladd_data.manifest import Manifest, classes_digest
from ladd_data.manifest_json import dump_manifest, join_label_set
from ladd_data.shards.container import Container, Footer, ShardWriter
from ladd_data.shards.folder import Folder, read_metadata
from ladd_data.shards.label_sets import (
    LABELS_FOLDER,
    LISTING,
    STATEMENT,
    LabelFiles,
    check_kinds,
    list_sets,
    list_whole_sets,
    read_listing,
    read_statement,
)
from ladd_data.shards.layout import Layout, Records, label_columns, layout_of, pick
from ladd_data.shards.plan import ShardPlan
from ladd_data.shards.projectors import list_projectors, list_whole_projectors, open_projector

_AGAIN = "Label these images: ladd label DIR --as NAME; or get the images that the set was made for."


@dataclass(frozen=True, slots=True)
class RelabelledFolder(Folder):
    """A dataset folder with other dense labels than those in its records, or none; `plain` is the folder itself."""

    plain: Folder

    @property
    def container(self) -> Container:
        """What reads the shards, with the other labels."""
        return _RelabelledContainer(self)

    @abstractmethod
    def with_labels(self, first: int, records: Records) -> Records:
        """Return records, the first of which is number `first`, with the other labels."""


@dataclass(frozen=True, slots=True)
class JoinedFolder(RelabelledFolder):
    """A dataset folder joined with a label set; `plain` is the folder without it."""

    labels: LabelFiles

    def metadata(self) -> bytes:
        """Return the bytes that tell these files from others."""
        return self.plain.metadata() + self.labels.content + self.labels.listing

    def files(self) -> list[Path]:
        """Return the paths of the files that hold records."""
        own = [STATEMENT, LISTING, *(shard.path for shard in self.labels.shards)]
        return self.plain.files() + [self.labels.path / name for name in own]

    def check(self, *, verify: bool) -> list[Problem]:
        """Compare the shards of images and of labels with what is stated of them."""
        return self.plain.check(verify=verify) + self.labels.check(verify=verify)

    def other_bytes(self) -> int:
        """Return the stored bytes of the label columns in the records, which are not used."""
        inline = self.plain.column_bytes().items()
        return sum(size for name, size in inline if name.startswith(("dense_", "view_")))

    def column_bytes(self) -> dict[str, int]:
        """Return the stored bytes of each column, over all shards."""
        sizes = self.plain.column_bytes()
        kept = {name: size for name, size in sizes.items() if not name.startswith(("dense_", "view_"))}
        labels = {name: size for name, size in self.labels.column_bytes().items() if name != "id"}
        return kept | labels

    def with_labels(self, first: int, records: Records) -> Records:
        """Return records with the labels of the set, found by their place and compared by id.

        Args:
            first: number of the first record.
            records: of the dataset.

        Raises:
            DatasetError: the set has another record in the place of one, or cannot be read.
        """
        files, at = self.labels, 0
        parts = []
        for ids, columns in files.rows(first, first + len(records)):
            for row, name in enumerate(ids):
                if name != records.ids[at + row]:
                    place, number = files.shard_of(first + at + row)
                    found, expected = f'labels of record "{name}"', f'those of "{records.ids[at + row]}", in its place'
                    where = say_place(place, number, name)
                    raise DatasetError([Problem("LADD-095", where, found, expected, _AGAIN, number, name)])
            parts.append(columns)
            at += len(ids)
        joined = parts[0] if len(parts) == 1 else {n: np.concatenate([p[n] for p in parts]) for n in files.columns}
        dense = pick(records.dense, ("soft_",)) | joined
        return replace(records, dense={name: dense[name] for name in self.layout.dense})


def read_joined(path: Path, labels: str | None) -> Folder:
    """Read the metadata of a dataset folder, joined with a label set where one is named.

    Raises:
        UsageError: there is no such folder or no such set.
        DatasetError: metadata is missing or malformed, or the set is of other images or classes.
    """
    folder = read_metadata(path)
    return folder if labels in (None, "default") else open_label_set(folder, str(labels))


def check_label_sets(folder: Folder, *, complete: bool = False) -> None:
    """Compare label sets and projectors with their checksums and with the images.

    Args:
        folder: the dataset, joined with one of them or not.
        complete: whether all have to be there; else those that were not downloaded are passed over.

    Raises:
        DatasetError: one is not whole, or of other images.
    """
    plain = plain_of(folder)
    for name in (list_sets if complete else list_whole_sets)(plain.path):
        if problems := open_label_set(plain, name).labels.check(verify=True):
            raise DatasetError(problems)
    for name in (list_projectors if complete else list_whole_projectors)(plain.path):
        if problems := open_projector(plain, name).check():
            raise DatasetError(problems)


def set_of(folder: Folder) -> str | None:
    """Return the name of the label set that a folder is joined with; None for the labels in its records."""
    return folder.labels.name if isinstance(folder, JoinedFolder) else None


def plain_of(folder: Folder) -> Folder:
    """Return a folder as it lies there, with the labels in its records."""
    return folder.plain if isinstance(folder, RelabelledFolder) else folder


def open_label_set(folder: Folder, name: str) -> JoinedFolder:
    """Join a folder with one of its label sets, whose shards are not looked at yet.

    Args:
        folder: its metadata has been read.
        name: of the set.

    Raises:
        UsageError: there is no such set; names those there are.
        DatasetError: its metadata is missing or malformed, or it is of other images or classes.
    """
    known = list_sets(folder.path)
    if name in list_projectors(folder.path):
        raise UsageError(
            f'{folder.path}: label set "{name}" is a projector, a network that makes labels when they are read. '
            f'To build and run it: ladd_data.load_online("{folder.path}", "{name}"), or "ladd train --labels {name}".'
        )
    if name not in known:
        sets = nearest(name, known) if known else 'It has none: "ladd label DIR --as NAME" adds one.'
        raise UsageError(f'{folder.path}: no label set "{name}". {sets}')
    if links := check_kinds(folder.path):
        raise DatasetError(links)
    content, statement = read_statement(folder.path, name)
    where = f"{LABELS_FOLDER}/{name}/{STATEMENT}"
    manifest = folder.manifest
    stated = (
        ("images", "images of digest", statement.images, manifest.images.digest),
        ("classes", "classes of digest", statement.classes, classes_digest(manifest.classes)),
        ("count", "records, in number", str(statement.count), str(manifest.images.count)),
    )
    problems = [
        Problem("LADD-092", f"{where}, {key}", f"labels of {what} {theirs}", f"{ours}, as meta/ladd.json says", _AGAIN)
        for key, what, theirs, ours in stated
        if theirs != ours
    ]
    if problems:
        raise DatasetError(problems)
    joined = join_label_set(manifest, statement, where)
    listing, shards = read_listing(folder.path, statement)
    files = LabelFiles(
        folder.path / LABELS_FOLDER / name, statement, label_columns(joined), shards.shards, content, listing
    )
    return join(folder, files, joined)


def join(folder: Folder, files: LabelFiles, manifest: Manifest) -> JoinedFolder:
    """Return a folder with the labels of a set that has been found to be of its images."""
    layout = layout_of(manifest)
    parts = (folder.path, manifest, layout, folder.edition, folder.shards, dump_manifest(manifest))
    return JoinedFolder(*parts, plain=folder, labels=files)


class _RelabelledContainer:
    """The container of a relabelled folder: images from the dataset's own, labels from elsewhere."""

    def __init__(self, folder: RelabelledFolder) -> None:
        self._folder, self._base = folder, folder.plain.container
        self.SUFFIX, self.HOLDS_PIXELS = self._base.SUFFIX, self._base.HOLDS_PIXELS

    def open_writer(self, folder: Path, layout: Layout, plan: ShardPlan) -> ShardWriter:
        return self._base.open_writer(folder, layout, plan)

    def read_records(self, path: Path, layout: Layout, row_groups: list[int] | None = None) -> Iterator[Records]:
        """Yield records, row groups as the images have them."""
        plain = self._folder.plain
        sizes = self.read_group_sizes(path, layout)
        starts = (self._first(path) + np.concatenate([[0], np.cumsum(sizes)])).tolist()
        groups = list(range(len(sizes))) if row_groups is None else row_groups
        for group, records in zip(groups, self._base.read_records(path, plain.layout, row_groups), strict=True):
            yield self._folder.with_labels(starts[group], records)

    def read_footer(self, path: Path) -> Footer:
        return self._base.read_footer(path)

    def check_columns(self, path: Path, layout: Layout) -> None:
        self._base.check_columns(path, self._folder.plain.layout)

    def read_group_sizes(self, path: Path, layout: Layout) -> list[int]:
        return self._base.read_group_sizes(path, self._folder.plain.layout)

    def column_bytes(self, path: Path) -> dict[str, int]:
        return self._base.column_bytes(path)

    def footer_features(self, layout: Layout) -> dict[str, Any] | None:
        return self._base.footer_features(layout)

    def card_features(self, layout: Layout) -> list[dict[str, Any]]:
        return self._base.card_features(layout)

    def _first(self, path: Path) -> int:
        """Return the number of a shard's first record."""
        first = 0
        for shard in self._folder.shards:
            if self._folder.path / shard.path == path:
                return first
            first += shard.rows
        raise ValueError(f"{path}: no shard of the dataset")
