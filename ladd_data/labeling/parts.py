"""Finished labels on disk before their shards are written: one file a shard, of records of one size.

A shard's footer holds the manifest with the digests over all shards, so a shard can be written only when
the last label is known. Until then its labels wait here, with each record's digests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ladd_data.digests import Line, digest_labels
from ladd_data.encodings.certificate import ErrorSums
from ladd_data.errors import LabelError
from ladd_data.manifest import Digest, GoldenView
from ladd_data.shards.images import digest_image
from ladd_data.shards.layout import ID_PATTERN, Layout, Records
from ladd_data.types import U8, Array, Columns

ROWS_AT_ONCE = 1024
NOTHING = "-"


class Part(BaseModel):
    """What the journal says of a finished part: its file, and what its records add to the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: Annotated[int, Field(ge=0)]
    rows: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Digest
    stored_bytes: Annotated[int, Field(ge=0)] = Field(description="Of images and label columns, for the card.")
    errors: ErrorSums
    golden: tuple[GoldenView, ...]
    first_id: str
    last_id: str
    ascending: bool = Field(description="Whether the ids ascend.")


class PartFormat:
    """The form of a part's records: id, label, three digests, then the label columns."""

    def __init__(self, layout: Layout) -> None:
        """Take the label columns but the whole-image ones, which stay in the source."""
        self._layout = layout
        self.columns = {name: kind for name, kind in layout.dense.items() if not name.startswith("soft_")}
        fields: list[tuple[str, str, tuple[int, ...]]] = [("id", "S64", ()), ("label", "<i8", ())]
        fields += [(name, "u1", (32,)) for name in ("pixels", "dense", "soft")]
        for name, (shape, dtype) in self.columns.items():
            fields.append((name, np.dtype("uint8" if dtype == "bytes" else dtype).newbyteorder("<").str, shape))
        self.dtype = np.dtype(fields)

    def pack(self, records: Records, pixels: U8) -> NDArray[np.void]:
        """Return labelled records and their digests in this form.

        Raises:
            LabelError: an id is none that the format allows.
        """
        for name in records.ids:
            if ID_PATTERN.fullmatch(name) is None:
                raise LabelError(f"record {name!r}: found no id of 1 to 64 letters, digits, _ or - (LADD-022).")
        rows = np.zeros(len(records), self.dtype)
        rows["id"], rows["label"] = [name.encode() for name in records.ids], records.labels
        for name in self.columns:
            rows[name] = records.dense[name]
        for row in range(len(records)):
            dense, soft = digest_labels(records.dense, row)
            rows["pixels"][row] = _bytes(digest_image(records.images, row, pixels[row], self._layout))
            rows["dense"][row], rows["soft"][row] = _bytes(dense), _bytes(soft)
        return rows

    def read(self, path: Path, first: int = 0, stop: int | None = None) -> Iterator[NDArray[np.void]]:
        """Yield the rows first .. stop-1 of a part, some at a time."""
        with path.open("rb") as file:
            file.seek(first * self.dtype.itemsize)
            while stop is None or first < stop:
                count = ROWS_AT_ONCE if stop is None else min(ROWS_AT_ONCE, stop - first)
                rows = np.frombuffer(file.read(count * self.dtype.itemsize), self.dtype)
                if not len(rows):
                    return
                first += len(rows)
                yield rows

    def lines(self, path: Path, *, has_soft: bool) -> Iterator[Line]:
        """Yield every record's line of the digests, in file order."""
        for rows in self.read(path):
            for row in rows:
                soft = row["soft"].tobytes().hex() if has_soft else NOTHING
                dense, pixels = row["dense"].tobytes().hex(), row["pixels"].tobytes().hex()
                yield row["id"].decode(), int(row["label"]), pixels, dense, soft

    def read_labels(self, path: Path) -> Iterator[tuple[list[str], Columns]]:
        """Yield (ids, label columns) of a part's rows, some at a time."""
        for rows in self.read(path):
            yield [name.decode() for name in rows["id"]], {name: _native(rows[name]) for name in self.columns}

    def labels(self, path: Path, first: int, stop: int) -> Columns:
        """Return the label columns of the rows first .. stop-1."""
        parts = list(self.read(path, first, stop))
        return {name: _native(np.concatenate([rows[name] for rows in parts])) for name in self.columns}


class PartWriter:
    """Writes one part; its checksum is of the bytes meant, not of those the disk has."""

    def __init__(self, path: Path, form: PartFormat) -> None:
        """Begin the file anew."""
        self._form, self._file, self._state = form, path.open("wb"), hashlib.sha256()
        self.rows = self.bytes = 0
        self.ids: list[str] = []
        self.ascending = True

    def add(self, records: Records, pixels: U8) -> None:
        """Append labelled records."""
        data = self._form.pack(records, pixels).tobytes()
        self._file.write(data)
        self._state.update(data)
        self.rows, self.bytes = self.rows + len(records), self.bytes + len(data)
        seen = [*self.ids[-1:], *records.ids]
        self.ascending = self.ascending and all(a < b for a, b in pairwise(seen))
        self.ids = [*self.ids[:1], seen[-1]] if self.ids else [seen[0], seen[-1]]

    def close(self) -> str:
        """Wait until the disk has the file, and return its SHA-256."""
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        return self._state.hexdigest()

    def abort(self) -> None:
        """Close the file as it is."""
        self._file.close()


def _bytes(digest: str) -> Array:
    return np.frombuffer(bytes.fromhex(digest) if digest != NOTHING else bytes(32), np.uint8)


def _native(values: Array) -> Array:
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
