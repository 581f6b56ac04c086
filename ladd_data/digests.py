"""Digests that say whether two datasets are the same, whatever their shards, order or container.

Each is the SHA-256 of text lines in ascending id order (spec clauses LADD-025, LADD-034), so anyone can
recompute one with `sort` and `sha256sum`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ladd_data.manifest import Classes, classes_digest
from ladd_data.types import U8, Array


def digest_pixels(image: U8) -> str:
    """Return the SHA-256 of one image: its shape as three uint32, then its bytes, [channels, height, width]."""
    return hashlib.sha256(struct.pack("<III", *image.shape) + image.tobytes()).hexdigest()


def digest_dense(columns: Mapping[str, Array], row: int) -> str:
    """Return the SHA-256 of one record's stored labels: for each column in name order, name and bytes."""
    state = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name][row]
        state.update(name.encode() + b"\n" + values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class Digests:
    """The three digests of a manifest; `labels` is None for a dataset without dense labels."""

    images: str
    labels: str | None
    dataset: str


class DigestMeter:
    """Collects one line per record, in any order; 200 bytes of memory a record."""

    def __init__(self, classes: Classes) -> None:
        """Start at no records, with the class list that the dataset digest is bound to."""
        self._classes = classes_digest(classes)
        self._lines: list[tuple[str, int, str, str]] = []

    def add(self, record_id: str, label: int, pixels: str, dense: str | None) -> None:
        """Count a record by its `digest_pixels` and `digest_dense`."""
        self._lines.append((record_id, label, pixels, dense or "-"))

    def result(self) -> Digests:
        """Return the digests over everything added."""
        lines = sorted(self._lines)
        images = _digest_lines(f"{name} {pixels}\n" for name, _, pixels, _ in lines)
        dense = _digest_lines(f"{name} {values}\n" for name, _, _, values in lines)
        head = [f"ladd {self._classes}\n"]
        body = (f"{name} {label} {pixels} {values}\n" for name, label, pixels, values in lines)
        labelled = any(values != "-" for *_, values in lines)
        return Digests(images, dense if labelled else None, _digest_lines([*head, *body]))


def _digest_lines(lines: Iterable[str]) -> str:
    state = hashlib.sha256()
    for line in lines:
        state.update(line.encode())
    return state.hexdigest()
