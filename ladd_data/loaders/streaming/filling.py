"""Batches that are being filled: each record is put into its place as soon as its page has been read.

The order of a pass is known before it begins, so no block of records is kept until its last record is due: what is
kept are the batches that still miss some. Stored PNGs of our writer's form are not even copied: the page is read into
the batches, and the pixels are a view of the files there (`StoredForm`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ladd_data.loaders.buffers import Scratch
from ladd_data.loaders.reading.blocks import Block, LabelRows, Landed, Lend, Part, Pictures
from ladd_data.loaders.reading.stored_pngs import FileBytes, StoredForm, StoredPngs
from ladd_data.loaders.schedule import Slots
from ladd_data.loaders.streaming.draft import Draft, plan_memory
from ladd_data.shards.layout import Layout
from ladd_data.types import I64


class Filling:
    """The batches of a pass, which one thread fills and another takes: the `Room` of who reads."""

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
        self._unread, self._at = bytearray(b"\1") * len(order), 0
        self._marks = np.frombuffer(self._unread, np.uint8)
        self._drafts: dict[int, Draft] = {}
        self._landings: dict[int, Landing] = {}
        self._memory = plan_memory(layout, pixels=pixels)
        self._stored = StoredPngs(layout.shape) if layout.png is not None and self._memory.form is None else None
        self._lend = lend

    @property
    def form(self) -> StoredForm | None:
        """The form in which images lie in batches, if they are files there."""
        return self._memory.form

    def missing(self, steps: int) -> int | None:
        """Return the first record that has not been read of those that the first `steps` steps need."""
        end = int(self._ends[min(steps, len(self._ends)) - 1])
        at = self._unread.find(1, self._at, end)
        self._at = max(self._at, end) if at < 0 else at
        return None if at < 0 else int(self._order[at])

    def count(self, first: int, stop: int) -> int:
        """Return how many places records first .. stop-1 have in the pass."""
        low, high = np.searchsorted(self._due, [first, stop])
        return int(high - low)

    def begin(self, block: Block) -> None:
        """Find the places of a block's records."""
        low, high = np.searchsorted(self._due, [block.first, block.stop])
        rows, positions = self._due[low:high] - block.first, self._by_record[low:high]
        numbers = np.searchsorted(self._ends, positions, side="right")
        places = positions - np.concatenate([[0], self._ends])[numbers]
        for number in sorted(set(numbers.tolist())):
            here = numbers == number
            self._draft(number).parts.append((block, rows[here], places[here]))
        steps = np.diff(rows)
        straight = bool((steps == 1).all() and (np.diff(positions) == 1).all())
        lists = rows.tolist(), positions, numbers.tolist(), places.tolist()
        repeats = bool((steps == 0).any())
        whole = len(rows) == len(block.labels) and not repeats
        self._landings[block.first] = Landing(*lists, straight, repeats, whole)

    def end(self, block: Block) -> int:
        """Forget a block that has been read, and return how many places its records had."""
        return len(self._landings.pop(block.first).rows)

    def take(self, step: int) -> Draft:
        """Return the batch of a step, of which nothing is missing; it is no longer kept here."""
        return self._drafts.pop(step)

    def _draft(self, number: int) -> Draft:
        if number not in self._drafts:
            size = int(self._ends[number] - (self._ends[number - 1] if number else 0))
            self._drafts[number] = Draft(size, self._lend, self._memory)
        return self._drafts[number]

    def slots(self, block: Block, row: int, count: int, spare: Scratch) -> list[memoryview]:
        """Return where the files of some rows of a block go: those of no batch of this rank into memory to spare."""
        landing, drafts = self._landings[block.first], self._drafts
        low, high = landing.find(row, row + count)
        due = list(zip(landing.numbers[low:high], landing.places[low:high], strict=True))
        wanted: dict[int, list[int]] = {}
        for number, place in due:
            wanted.setdefault(number, []).append(place)
        rooms = {number: drafts[number].slots(places) for number, places in wanted.items()}
        if landing.all:
            return [rooms[number][place] for number, place in due]
        size = self._memory.form.page_bytes if self._memory.form else 0
        rest = spare.take(count * size)
        found = [rest[at : at + size] for at in range(0, len(rest), size)]
        for which, (number, place) in zip(landing.rows[low:high], due, strict=True):
            found[which - row] = rooms[number][place]
        return found

    def put(self, block: Block, row: int, part: Part) -> None:
        """Put pictures or labels, the first of which are those of a block's row, into their places."""
        if isinstance(part, LabelRows):
            for which, number, place in self._landings[block.first].between(row, row + len(part)):
                self._drafts[number].put_labels(place, part.name, part.values[which - row])
        else:
            self._put_pictures(block, row, part)

    def _put_pictures(self, block: Block, row: int, pictures: Pictures) -> None:
        landing = self._landings[block.first]
        low, high = landing.find(row, row + len(pictures))
        if isinstance(pictures, Landed):
            if landing.repeats:
                self._repeat(landing.between(row, row + len(pictures)))
        elif isinstance(pictures, list):
            for which, number, place in landing.between(row, row + len(pictures)):
                self._put_file(self._drafts[number], place, pictures[which - row])
        elif landing.straight:
            for number, first, last in _runs(landing.numbers[low:high]):
                which, place, size = landing.rows[low + first] - row, landing.places[low + first], last + 1 - first
                pictures.copy(slice(which, which + size), self._drafts[number].image[place : place + size])
        else:
            for which, number, place in landing.between(row, row + len(pictures)):
                pictures.copy(which - row, self._drafts[number].pixels(place))
        self._marks[landing.positions[low:high]] = 0

    def _put_file(self, draft: Draft, place: int, file: FileBytes) -> None:
        """Copy the pixels of a stored PNG; keep any other file."""
        stored = self._stored.find(file) if self._stored else None
        if stored is not None:
            stored.copy(0, draft.pixels(place))
        else:
            draft.put_file(place, file)

    def _repeat(self, due: list[tuple[int, int, int]]) -> None:
        """Copy files that have landed in the last of several places to those before it."""
        for (which, number, place), (same, other, last) in reversed(list(pairwise(due))):
            if which == same:
                self._drafts[number].slot(place)[:] = self._drafts[other].slot(last)


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a block's rows that are due belong: positions in the pass, batches by number, and places there.

    straight: they are one behind the other, there as here; repeats: some have several places; all: each of the block's
    rows has one.
    """

    rows: list[int]
    positions: I64
    numbers: list[int]
    places: list[int]
    straight: bool
    repeats: bool
    all: bool

    def find(self, row: int, stop: int) -> tuple[int, int]:
        """Return where, in these lists, the block's rows from `row` up to `stop` are."""
        return (row, stop) if self.all else (bisect_left(self.rows, row), bisect_left(self.rows, stop))

    def between(self, row: int, stop: int) -> list[tuple[int, int, int]]:
        """Return (row, number of the batch, place there) of these rows."""
        low, high = self.find(row, stop)
        return list(zip(self.rows[low:high], self.numbers[low:high], self.places[low:high], strict=True))


def _runs(values: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield each of ascending values, and the first and last place that it is at."""
    first = 0
    while first < len(values):
        stop = bisect_right(values, values[first])
        yield values[first], first, stop - 1
        first = stop
