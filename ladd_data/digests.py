"""Digests that say whether two datasets are the same, whatever their shards, order or container.

Each is the SHA-256 of text lines in ascending id order (spec clauses LADD-025, LADD-034), so anyone can
recompute one with `sort` and `sha256sum`.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import lt

from ladd_data.manifest import Classes, classes_digest
from ladd_data.types import U8, Array

LINES_AT_ONCE = 256
_BYTES = 32
_ABSENT = bytes(_BYTES)
"""In the place of a SHA-256 where a record has no such labels."""
_ABSENT_HEX = _ABSENT.hex()


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
    state, rest = _Digesting(classes), iter(lines)
    while part := list(islice(rest, LINES_AT_ONCE)):
        state.update(*map(list, zip(*part, strict=True)))
    return state.result()


class _Digesting:
    """The digests over the records so far, which come in ascending order of id, many at a time."""

    def __init__(self, classes: Classes) -> None:
        self._images, self._dense, self._soft = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._whole = hashlib.sha256(f"ladd {classes_digest(classes)}\n".encode())
        self._has_dense = self._has_soft = False

    def update(self, ids: list[str], labels: list[int], pixels: list[str], dense: list[str], soft: list[str]) -> None:
        """Count records: each list has an entry for each of them."""
        self._images.update(_join(ids, pixels))
        self._dense.update(_join(ids, dense))
        self._soft.update(_join(ids, soft))
        self._whole.update(_join(ids, map(str, labels), pixels, dense, soft))
        self._has_dense = self._has_dense or any(digest != "-" for digest in dense)
        self._has_soft = self._has_soft or any(digest != "-" for digest in soft)

    def result(self) -> Digests:
        """Return the digests."""
        return Digests(
            images=self._images.hexdigest(),
            labels=self._dense.hexdigest() if self._has_dense else None,
            soft=self._soft.hexdigest() if self._has_soft else None,
            dataset=self._whole.hexdigest(),
        )


def _join(*columns: Iterable[str]) -> bytes:
    """Return text lines of several columns, a space between them."""
    return ("\n".join(map(" ".join, zip(*columns, strict=True))) + "\n").encode()


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
        self.add_all([record_id], [label], [pixels], {name: values[row : row + 1] for name, values in columns.items()})

    def add_all(
        self, ids: Sequence[str], labels: Iterable[int], pixels: Sequence[str], columns: Mapping[str, Array]
    ) -> None:
        """Count records: as `add`, for all rows of `columns`; quick where there are none."""
        before = len(self._ids)
        self._ids += ids
        self._labels.extend(labels)
        self._pixels += bytes.fromhex("".join(pixels))
        if not columns and not self._dense and not self._soft:
            return
        digests = [digest_labels(columns, row) for row in range(len(ids))]
        for held, those in zip((self._dense, self._soft), zip(*digests, strict=True), strict=True):
            if not held and any(digest != "-" for digest in those):
                held += _ABSENT * before  # of the records before, which had none
            if held or any(digest != "-" for digest in those):
                held += b"".join(map(_pack, those))

    def result(self) -> Digests:
        """Return the digests over everything added."""
        state, order = _Digesting(self._classes), self._order()
        for start in range(0, len(order), LINES_AT_ONCE):
            numbers = order[start : start + LINES_AT_ONCE]
            digests = (_say(held, numbers) for held in (self._pixels, self._dense, self._soft))
            state.update(
                [self._ids[number] for number in numbers], [self._labels[number] for number in numbers], *digests
            )
        return state.result()

    def _order(self) -> Sequence[int]:
        """Return the records' numbers in ascending order of id; records of one id, which is a fault, of all else."""
        if all(map(lt, self._ids, islice(self._ids, 1, None))):
            return range(len(self._ids))
        by_id = sorted(range(len(self._ids)), key=self._ids.__getitem__)
        same = groupby(by_id, key=self._ids.__getitem__)
        return [number for _, numbers in same for number in sorted(numbers, key=self._rest)]

    def _rest(self, number: int) -> tuple[int, str, str, str]:
        """Return what a record's line says behind its id."""
        pixels, dense, soft = (_say(held, [number])[0] for held in (self._pixels, self._dense, self._soft))
        return self._labels[number], pixels, dense, soft


def _pack(digest: str) -> bytes:
    return _ABSENT if digest == "-" else bytes.fromhex(digest)


def _say(digests: bytearray, numbers: Sequence[int]) -> list[str]:
    """Return some of the digests that lie one after the other as a line says them."""
    if not digests:
        return ["-"] * len(numbers)
    if isinstance(numbers, range):  # they are neighbours
        said = digests[numbers.start * _BYTES : numbers.stop * _BYTES].hex(" ", _BYTES).split(" ")
    else:
        said = [digests[number * _BYTES : (number + 1) * _BYTES].hex() for number in numbers]
    return ["-" if digest == _ABSENT_HEX else digest for digest in said]
