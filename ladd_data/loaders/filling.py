"""Batches that are being filled: each record is put into its place as soon as its page has been read.

The order of a pass is known before it begins, so no block of records is kept until its last record is due: what is
kept are the batches that still miss some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ladd_data.loaders.blocks import Block, Lend, Pictures
from ladd_data.loaders.picture_files import FileBytes, StoredPngs
from ladd_data.loaders.schedule import Slots
from ladd_data.shards.layout import Layout
from ladd_data.types import I64, U8, Array

_ROW_BYTES = 4096
"""From which on rows are copied one by one."""


class Draft:
    """A batch that is being filled.

    files: images still to be decoded, for these places; sources: block and row. parts: blocks that it has records of.
    """

    def __init__(self, count: int, lend: Lend, shape: tuple[int, ...]) -> None:
        """Begin a batch of `count` records without any; `shape`: of an image."""
        self.count, self._lend, self._shape = count, lend, shape
        self.files: list[bytes] = []
        self.places: list[int] = []
        self.sources: list[tuple[Block, int]] = []
        self.parts: list[tuple[Block, I64, I64]] = []

    @cached_property
    def image(self) -> U8:
        """Its pixels, in memory that is taken when the first ones are there: files wait in less.

        uint8 [batch, height, width, channels]; or [batch, channels, height, width], where the container holds pixels.
        """
        return self._lend("image", self._shape, np.dtype(np.uint8), self.count)

    def gather(self) -> dict[str, Array]:
        """Return its columns but images, [batch, ...]; so long, blocks keep them."""
        first = self.parts[0][0]
        arrays = {
            name: self._lend(name, values.shape[1:], values.dtype, self.count)
            for name, values in {"label": first.labels, **first.columns}.items()
        }
        for block, rows, places in self.parts:
            for name, values in {"label": block.labels, **block.columns}.items():
                _copy_rows(values, rows, arrays[name], places)
        return arrays


class Filling:
    """The batches of a pass, of which one thread fills those that another has not yet taken."""

    def __init__(self, plan: Sequence[Slots], layout: Layout, lend: Lend, *, pixels: bool) -> None:
        """Work out where each record belongs.

        Args:
            plan: the steps of the pass.
            layout: the dataset's columns.
            lend: gives memory for batches.
            pixels: the container holds pixels, not files.
        """
        order = np.concatenate([slots.index for slots in plan] or [np.empty(0, np.int64)])
        self._order, self._ends = order, np.cumsum([len(slots.index) for slots in plan])
        self._by_record = np.argsort(order, kind="stable")
        self._due: I64 = order[self._by_record]
        self._unread, self._at = np.ones(len(order), np.bool_), 0
        self._drafts: dict[int, Draft] = {}
        channels, height, width = layout.shape
        self._shape = layout.shape if pixels else (height, width, channels)
        self._small = channels * height * width < _ROW_BYTES
        self._stored = StoredPngs(layout.shape) if layout.png is not None else None
        self._lend = lend

    def missing(self, steps: int) -> int | None:
        """Return the first record that has not been read of those that the first `steps` steps need."""
        end = self._ends[min(steps, len(self._ends)) - 1]
        rest = self._unread[self._at : end]
        step = int(rest.argmax()) if len(rest) else 0
        if len(rest) and rest[step]:
            self._at += step
            return int(self._order[self._at])
        self._at = max(self._at, int(end))
        return None

    def count(self, first: int, stop: int) -> int:
        """Return how many places records first .. stop-1 have in the pass."""
        low, high = np.searchsorted(self._due, [first, stop])
        return int(high - low)

    def begin(self, block: Block) -> Landing:
        """Find the places of a block's records."""
        low, high = np.searchsorted(self._due, [block.first, block.stop])
        rows, positions = self._due[low:high] - block.first, self._by_record[low:high]
        numbers = np.searchsorted(self._ends, positions, side="right")
        places = positions - np.concatenate([[0], self._ends])[numbers]
        for number in np.unique(numbers).tolist():
            here = numbers == number
            self._draft(number).parts.append((block, rows[here], places[here]))
        straight = bool((np.diff(rows) == 1).all() and (np.diff(positions) == 1).all())
        return Landing(block, rows, positions, numbers, places, straight)

    def take(self, step: int) -> Draft:
        """Return the batch of a step, of which nothing is missing; it is no longer kept here."""
        return self._drafts.pop(step)

    def _draft(self, number: int) -> Draft:
        if number not in self._drafts:
            size = int(self._ends[number] - (self._ends[number - 1] if number else 0))
            self._drafts[number] = Draft(size, self._lend, self._shape)
        return self._drafts[number]

    def put(self, landing: Landing, row: int, pictures: Pictures) -> None:
        """Put pictures, the first of which is a block's row, into their places."""
        low, high = landing.rows.searchsorted([row, row + len(pictures)]).tolist()
        rows, numbers, places = landing.rows[low:high] - row, landing.numbers[low:high], landing.places[low:high]
        if isinstance(pictures, list):
            for which, number, place in zip(rows.tolist(), numbers.tolist(), places.tolist(), strict=True):
                self._put_file(self._drafts[number], place, pictures[which], (landing.block, row + which))
        elif landing.straight and high > low:
            for number in range(int(numbers[0]), int(numbers[-1]) + 1):
                which, where = (_span(values[numbers == number]) for values in (rows, places))
                pictures.copy(which, self._drafts[number].image[where])
        elif self._small and pictures.rows is not None:
            for number in np.unique(numbers).tolist():
                here = numbers == number
                self._drafts[number].image[places[here]] = pictures.rows[rows[here]]
        elif pictures.rows is not None:
            table = pictures.rows
            for which, number, place in zip(rows.tolist(), numbers.tolist(), places.tolist(), strict=True):
                self._drafts[number].image[place] = table[which]
        else:
            for which, number, place in zip(rows.tolist(), numbers.tolist(), places.tolist(), strict=True):
                pictures.copy(which, self._drafts[number].image[place])
        self._unread[landing.positions[low:high]] = False

    def _put_file(self, draft: Draft, place: int, file: FileBytes, source: tuple[Block, int]) -> None:
        """Copy what is a stored PNG; keep any other file until its batch is due."""
        stored = self._stored.find(file) if self._stored else None
        if stored is not None:
            stored.copy(0, draft.image[place])
            return
        draft.files.append(bytes(file))
        draft.places.append(place)
        draft.sources.append(source)


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a block's rows that are due belong: positions in the pass, batches by number, and places there.

    straight: they are one behind the other, there as here.
    """

    block: Block
    rows: I64
    positions: I64
    numbers: I64
    places: I64
    straight: bool


def _span(values: I64) -> slice:
    """Return consecutive numbers as a slice."""
    return slice(int(values[0]), int(values[-1]) + 1)


def _copy_rows(values: Array, rows: I64, target: Array, places: I64) -> None:
    if values[:1].nbytes < _ROW_BYTES:
        target[places] = values[rows]
        return
    for place, row in zip(places.tolist(), rows.tolist(), strict=True):  # no copy in between
        target[place] = values[row]
