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


def digest_columns(columns: Mapping[str, Array], row: int) -> str:
    """Return the SHA-256 of one record's stored labels: for each column in name order, name and bytes."""
    state = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name][row]
        state.update(name.encode() + b"\n" + values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class Digests:
    """The digests of a manifest; `labels` and `soft` are None for a dataset without such columns."""

    images: str
    labels: str | None
    soft: str | None
    dataset: str


class DigestMeter:
    """Collects one line per record, in any order; 400 bytes of memory a record."""

    def __init__(self, classes: Classes) -> None:
        """Start at no records, with the class list that the dataset digest is bound to."""
        self._classes = classes_digest(classes)
        self._lines: list[tuple[str, int, str, str, str]] = []

    def add(self, record_id: str, label: int, pixels: str, columns: Mapping[str, Array], row: int) -> None:
        """Count a record.

        Args:
            record_id: its name.
            label: its hard class.
            pixels: its `digest_pixels`.
            columns: label columns [records, ...]; `soft_*` count as soft labels, all others as dense ones.
            row: its row in them.
        """
        soft = {name: values for name, values in columns.items() if name.startswith("soft_")}
        dense = {name: values for name, values in columns.items() if name not in soft}
        dense_digest = digest_columns(dense, row) if dense else "-"
        soft_digest = digest_columns(soft, row) if soft else "-"
        self._lines.append((record_id, label, pixels, dense_digest, soft_digest))

    def result(self) -> Digests:
        """Return the digests over everything added."""
        lines = sorted(self._lines)
        head = [f"ladd {self._classes}\n"]
        body = (" ".join(map(str, line)) + "\n" for line in lines)
        return Digests(
            _digest_lines(f"{line[0]} {line[2]}\n" for line in lines),
            _digest_column([(line[0], line[3]) for line in lines]),
            _digest_column([(line[0], line[4]) for line in lines]),
            _digest_lines([*head, *body]),
        )


def _digest_column(lines: list[tuple[str, str]]) -> str | None:
    if all(digest == "-" for _, digest in lines):
        return None
    return _digest_lines(f"{name} {digest}\n" for name, digest in lines)


def _digest_lines(lines: Iterable[str]) -> str:
    state = hashlib.sha256()
    for line in lines:
        state.update(line.encode())
    return state.hexdigest()
