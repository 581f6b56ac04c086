"""Digests that say whether two datasets are the same, whatever their shards, order or container.

Each is the SHA-256 of text lines in ascending id order (spec clauses LADD-025, LADD-034), so anyone can
recompute one with `sort` and `sha256sum`.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from ladd_data.manifest import Classes, classes_digest
from ladd_data.types import U8, Array

_ABSENT = bytes(32)
"""In the place of a SHA-256 where a record has no such labels."""


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


Line = tuple[str, int, str, str, str]
"""A record: id, hard label, and the digests of its pixels, dense labels and whole-image label ("-" for none)."""


def digest_records(classes: Classes, lines: Iterable[Line]) -> Digests:
    """Return the digests over all records, in one pass without keeping them.

    Args:
        classes: bound into the dataset's digest.
        lines: in ascending id order.
    """
    images, dense, soft = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    whole = hashlib.sha256(f"ladd {classes_digest(classes)}\n".encode())
    has_dense = has_soft = False
    for line in lines:
        name, _, pixels, dense_digest, soft_digest = line
        images.update(f"{name} {pixels}\n".encode())
        dense.update(f"{name} {dense_digest}\n".encode())
        soft.update(f"{name} {soft_digest}\n".encode())
        whole.update((" ".join(map(str, line)) + "\n").encode())
        has_dense, has_soft = has_dense or dense_digest != "-", has_soft or soft_digest != "-"
    labels = dense.hexdigest() if has_dense else None
    return Digests(images.hexdigest(), labels, soft.hexdigest() if has_soft else None, whole.hexdigest())


def digest_labels(columns: Mapping[str, Array], row: int) -> tuple[str, str]:
    """Return the digests of one record's dense labels and of its whole-image label, "-" for what it has not."""
    soft = {name: values for name, values in columns.items() if name.startswith("soft_")}
    dense = {name: values for name, values in columns.items() if name not in soft}
    return digest_columns(dense, row) if dense else "-", digest_columns(soft, row) if soft else "-"


class DigestMeter:
    """Collects what the lines of each record need, in any order; about 150 bytes of memory a record."""

    def __init__(self, classes: Classes) -> None:
        """Start at no records, with the class list that the dataset digest is bound to."""
        self._classes = classes
        self._ids: list[str] = []
        self._labels = array("q")
        self._pixels, self._dense, self._soft = bytearray(), bytearray(), bytearray()

    def add(self, record_id: str, label: int, pixels: str, columns: Mapping[str, Array], row: int) -> None:
        """Count a record.

        Args:
            record_id: its name.
            label: its hard class.
            pixels: its `digest_pixels`.
            columns: label columns [records, ...]; `soft_*` count as soft labels, all others as dense ones.
            row: its row in them.
        """
        dense, soft = digest_labels(columns, row)
        self._ids.append(record_id)
        self._labels.append(label)
        self._pixels += bytes.fromhex(pixels)
        self._dense += _pack(dense)
        if soft != "-" and not self._soft:
            self._soft = bytearray(_ABSENT) * (len(self._ids) - 1)  # of the records before, which had none
        if self._soft or soft != "-":
            self._soft += _pack(soft)

    def result(self) -> Digests:
        """Return the digests over everything added."""
        return digest_records(self._classes, ((self._ids[number], *self._rest(number)) for number in self._order()))

    def _order(self) -> list[int]:
        """Return the records' numbers in ascending order of id; records of one id, which is a fault, of all else."""
        by_id = sorted(range(len(self._ids)), key=self._ids.__getitem__)
        same = groupby(by_id, key=self._ids.__getitem__)
        return [number for _, numbers in same for number in sorted(numbers, key=self._rest)]

    def _rest(self, number: int) -> tuple[int, str, str, str]:
        """Return what a record's line says behind its id."""
        pixels, dense, soft = (_say(digests, number) for digests in (self._pixels, self._dense, self._soft))
        return self._labels[number], pixels, dense, soft


def _pack(digest: str) -> bytes:
    return _ABSENT if digest == "-" else bytes.fromhex(digest)


def _say(digests: bytearray, number: int) -> str:
    """Return one of the digests that lie one after the other as a line says it."""
    digest = digests[number * len(_ABSENT) : (number + 1) * len(_ABSENT)]
    return digest.hex() if any(digest) else "-"
