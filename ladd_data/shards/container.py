"""What a container is: the contract that Parquet, tar and Arrow shards fulfil, each in its own module."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ladd_data.files import sha256_file
from ladd_data.shards.images import join_images
from ladd_data.shards.layout import Layout, Records
from ladd_data.shards.plan import ShardPlan

FOOTER_KEY = b"ladd"
FEATURES_KEY = b"huggingface"

MAX_FOOTER_BYTES = 64 * 2**20
MAX_FOOTER_VALUES = 500_000
"""A Parquet shard of 13 row groups and 8 columns has about 5,000 (LADD-082)."""
MAX_GROUP_BYTES = 128 * 2**20
"""Decoded bytes of one row group or record batch; writers aim at a quarter of it."""


class ShardError(ValueError):
    """A shard that cannot be read as its container.

    `clause` is the rule of the spec that it breaks; `row` (in its row group, from 0) and `record`, an id, say
    where, if one record is at fault.
    """

    def __init__(self, clause: str, message: str, row: int | None = None, record: str | None = None) -> None:
        """Keep the clause and the place; the message says what was found."""
        super().__init__(message)
        self.clause, self.row, self.record = clause, row, record


def clause_of(error: ValueError) -> str:
    """Return the clause that a reader's complaint is about."""
    return error.clause if isinstance(error, ShardError) else "LADD-020"


def place_of(error: ValueError, first: int) -> tuple[int | None, str | None]:
    """Return (row in the shard, id) of the record that a complaint is about; `first` is its group's first row."""
    if isinstance(error, ShardError) and error.row is not None:
        return first + error.row, error.record
    return None, None


@dataclass(frozen=True, slots=True)
class Footer:
    """What a shard says of itself: its keys (`ladd`, `huggingface`), as they stand in the file, and its rows."""

    keys: dict[bytes, bytes]
    rows: int


class ShardWriter(ABC):
    """Writes records into shards; equal records give equal bytes, however they are cut into calls.

    What a shard says of itself comes last (`close`), because it holds the manifest with its digests.
    """

    def __init__(self, folder: Path, plan: ShardPlan, suffix: str) -> None:
        """Open nothing yet; the folder and its data/ must exist."""
        self._folder, self._plan, self._suffix = folder, plan, suffix
        self._pending: list[Records] = []
        self._written = self._waiting = 0
        self._digests: dict[int, str] = {}
        """The SHA-256 of finished shards, where it was worked out on the way."""

    def digest(self, index: int) -> str:
        """Return the SHA-256 of a finished shard."""
        return self._digests.get(index) or sha256_file(self._path(index))

    def add(self, records: Records) -> None:
        """Append records; they reach the disk one full row group at a time."""
        self._pending.append(records)
        self._waiting += len(records)
        while self._waiting >= self._next_group() > 0:
            if self._written % self._plan.rows_per_shard == 0:
                self._begin(self._path(self._written // self._plan.rows_per_shard))
            group = self._take(self._next_group())
            self._write(group)
            self._written += len(group)
            if self._written == self._plan.count or self._written % self._plan.rows_per_shard == 0:
                self._end()

    def close(self, manifest: bytes) -> list[str]:
        """Finish every shard with its copy of the manifest, and return the shards' paths in the dataset.

        manifest: the bytes of meta/ladd.json.
        """
        if self._written != self._plan.count or self._waiting:
            raise ValueError(f"planned {self._plan.count} records, got {self._written + self._waiting}")
        content, digest = json.loads(manifest), hashlib.sha256(manifest).hexdigest()
        for index in range(self._plan.shards):
            meta = {
                "spec_version": content["spec_version"],
                "shard": self._plan.place(index),
                "manifest_sha256": digest,
                "manifest": content,
            }
            self._finish(index, self._path(index), compact_json(meta))
        return [self._plan.path(index, self._suffix) for index in range(self._plan.shards)]

    @abstractmethod
    def abort(self) -> None:
        """Close the files as they are; they are about to be thrown away."""

    @abstractmethod
    def _begin(self, path: Path) -> None:
        """Start the next shard."""

    @abstractmethod
    def _write(self, group: Records) -> None:
        """Append a row group to the shard begun last."""

    @abstractmethod
    def _end(self) -> None:
        """Close the file of the shard begun last, which has all its records; thousands may come before `close`."""

    @abstractmethod
    def _finish(self, index: int, path: Path, meta: bytes) -> None:
        """Complete a shard with what it says of itself."""

    def _path(self, index: int) -> Path:
        return self._folder / self._plan.path(index, self._suffix)

    def _next_group(self) -> int:
        """Rows the next row group takes: a full one, or what is left of its shard."""
        in_shard = self._written % self._plan.rows_per_shard
        left = min(self._plan.rows_per_shard - in_shard, self._plan.count - self._written)
        return min(self._plan.rows_per_group, left)

    def _take(self, rows: int) -> Records:
        """Remove the first `rows` pending records, joined."""
        parts, missing = [], rows
        while missing:
            head = self._pending.pop(0)
            if len(head) > missing:
                self._pending.insert(0, head.slice(missing, len(head)))
                head = head.slice(0, missing)
            parts.append(head)
            missing -= len(head)
        self._waiting -= rows
        return join_records(parts)


class Container(Protocol):
    """The functions of a container's module. Readers raise ValueError (`clause_of`) for what is not as it should be."""

    SUFFIX: str
    """Of a shard's file name."""
    HOLDS_PIXELS: bool
    """Whether images are raw pixels, not files alone."""

    def open_writer(self, folder: Path, layout: Layout, plan: ShardPlan) -> ShardWriter:
        """Return a writer of shards into `folder`."""

    def read_records(self, path: Path, layout: Layout, row_groups: list[int] | None = None) -> Iterator[Records]:
        """Yield a shard's records in file order, one row group at a time; all of them, or those numbered."""

    def read_footer(self, path: Path) -> Footer:
        """Return what a shard says of itself, without reading its records."""

    def check_columns(self, path: Path, layout: Layout) -> None:
        """Compare a shard's columns with the layout; raises ValueError that names the first difference."""

    def read_group_sizes(self, path: Path, layout: Layout) -> list[int]:
        """Return the number of rows of each row group."""

    def column_bytes(self, path: Path) -> dict[str, int]:
        """Return the stored bytes of each column, by the column's name in the manifest."""

    def footer_features(self, layout: Layout) -> dict[str, Any] | None:
        """Return the value of the key `huggingface`; None where the container has no such key."""

    def card_features(self, layout: Layout) -> list[dict[str, Any]]:
        """Return `dataset_info.features` of the card."""


def compact_json(value: object) -> bytes:
    """Serialise to JSON without spaces, UTF-8: for keys inside of shards."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def join_records(parts: list[Records]) -> Records:
    """Return several groups of records as one, in order."""
    if len(parts) == 1:
        return parts[0]
    dense = {name: np.concatenate([part.dense[name] for part in parts]) for name in parts[0].dense}
    ids = [name for part in parts for name in part.ids]
    labels = np.concatenate([part.labels for part in parts])
    return Records(ids, labels, join_images([part.images for part in parts]), dense)
