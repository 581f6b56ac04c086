"""Blocks of records: what shards of every edition are read as, and what they are read into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import numpy as np

from ladd_data.errors import DatasetError, Problem, say_place
from ladd_data.loaders.batches import KEPT, PLACES
from ladd_data.loaders.buffers import Buffers, Scratch
from ladd_data.loaders.reading.picture_files import PixelRows
from ladd_data.loaders.reading.stored_pngs import FileBytes, StoredForm, StoredRows
from ladd_data.manifest import Boxes
from ladd_data.shards.container import clause_of, place_of
from ladd_data.shards.folder import Folder, Shard
from ladd_data.shards.joined import RelabelledFolder, plain_of
from ladd_data.shards.layout import Layout, Records
from ladd_data.shards.limits import RowGroup
from ladd_data.types import I64, TYPE_BYTES, Array, Columns
from ladd_data.views.geometry import lies_inside

AGAIN = "Download the dataset again."
LONG_BYTES = 4096
"""From which on a record's values of a label column are not kept with their block, where there is room for them."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some records in a row.

    shard: where they are from; row: the first one's place there; first: its number in the dataset.
    read_ids: returns the records' ids, which only errors need. labels: int64 [records]; columns: the label columns that
    batches need. Their pictures, and long rows of labels where there is room for them (`Room`), are handed on one page
    after the other (`Pages`), not kept.
    """

    shard: Shard
    row: int
    first: int
    read_ids: Callable[[], list[str]]
    labels: I64
    columns: Columns

    @property
    def stop(self) -> int:
        """The number behind the last record's."""
        return self.first + len(self.labels)

    def name(self, row: int) -> str:
        """Return the id of a record of the block."""
        return self.read_ids()[row]

    def blame(self, row: int, found: str) -> DatasetError:
        """Return the error of a record whose image cannot be decoded."""
        name, place = self.name(row), self.row + row
        where = say_place(self.shard.path, place, name)
        return DatasetError([Problem("LADD-024", where, found, "the image it was", AGAIN, place, name)])


@dataclass(frozen=True, slots=True)
class Landed:
    """Images that have been read to where they belong already: how many."""

    count: int

    def __len__(self) -> int:
        return self.count


Pictures = StoredRows | PixelRows | list[FileBytes] | Landed
"""Some images in a row."""


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Rows of a label column that are too long to be kept with their block: `values`, [rows, ...], of column `name`."""

    name: str
    values: Array

    def __len__(self) -> int:
        return len(self.values)


Lend = Callable[[str, tuple[int, ...], np.dtype[np.generic], int], Array]
"""(column, shape and type of a row, rows) -> memory that nothing else looks at."""
Part = Pictures | LabelRows
Pages = Generator[tuple[int, Part], None, None]
"""The rest of a block in order, page by page: (row of the first, pictures or labels), valid until the next; labels come
before the pictures of their rows; to be closed."""


class ShardBlocks(ABC):
    """The blocks of one shard, which has been checked as far as it can be without reading them."""

    def __init__(self, folder: Folder, index: int, memory: Memory) -> None:
        """Keep where the shard is in the dataset; other dense labels than those in it are joined to what it holds."""
        self._memory = memory
        self._relabelled = folder if isinstance(folder, RelabelledFolder) else None
        self._folder = plain_of(folder)
        self._index, self._shard = index, folder.shards[index]
        self._first = sum(shard.rows for shard in folder.shards[:index])
        self._starts: list[int] = []
        """First row of each block; set by subclasses."""

    def read(self, record: int) -> tuple[Block, Pages]:
        """Return the block that holds a record of this shard, and what reads its pictures.

        Raises, as the pages do:
            DatasetError: it is damaged; names file and record.
            SourceError: it cannot be had.
        """
        number = bisect_right(self._starts, record - self._first) - 1
        with self._naming(number):
            block, pages = self._read(number)
        return block, self._read_pages(number, pages)

    def _read_pages(self, number: int, pages: Pages) -> Pages:
        with closing(pages), self._naming(number):
            yield from pages

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            place = place_of(error, self._starts[number])
            where = say_place(self._shard.path, *place)
            problem = Problem(clause_of(error), where, str(error), "readable records", AGAIN, *place)
            raise DatasetError([problem]) from error

    def close(self) -> None:  # noqa: B027, nothing is open unless a subclass says so
        """Let go of what is open; blocks that were read stay as they are."""

    @abstractmethod
    def _read(self, number: int) -> tuple[Block, Pages]:
        """Read a block; raises ValueError for what is damaged."""

    def _block(self, number: int, read_ids: Callable[[], list[str]], labels: I64, columns: Columns) -> Block:
        row = self._starts[number]
        if self._relabelled is not None:
            columns = self._relabelled.with_labels(self._first + row, Records(read_ids(), labels, [], columns)).dense
        wanted = {name: values for name, values in columns.items() if self._memory.wants(name)}
        block = Block(self._shard, row, self._first + row, read_ids, labels, wanted)
        _check_boxes(self._relabelled or self._folder, block)
        return block


class Room(Protocol):
    """Where labels are put that are not kept (`LabelRows`), and stored PNGs of one form are read to from their pages.

    Who has read files to there says so (`Landed`).
    """

    @property
    def form(self) -> StoredForm | None:
        """The form; None for no such place."""

    def slots(self, block: Block, row: int, count: int, spare: Scratch) -> list[memoryview]:
        """Return memory of `form.page_bytes` for each of some rows of a block.

        Args:
            block: of the rows.
            row: the first of them.
            count: how many.
            spare: for those that nobody wants.
        """


@dataclass(frozen=True, slots=True)
class Memory:
    """What one reader at a time reads into.

    scratch: for pages of local files; groups: for row groups from afar; lend: gives memory for the columns of blocks;
    room: for images that need no decoder; wants_labels: tells whether a label column is wanted, by its name.
    """

    scratch: Scratch
    groups: Buffers
    lend: Lend
    room: Room | None = None
    wants_labels: Callable[[str], bool] = lambda name: name.startswith(KEPT)

    def wants(self, name: str) -> bool:
        """Tell whether a column is to be read, beside images and hard labels."""
        return name.startswith(PLACES) or self.wants_labels(name)

    def hands_on(self, name: str, layout: Layout) -> bool:
        """Tell whether a column's rows are so long that they are handed on (`LabelRows`), not kept with their block."""
        return self.room is not None and name.startswith("dense_") and row_bytes(name, layout) >= LONG_BYTES


def row_bytes(name: str, layout: Layout) -> int:
    """Return the bytes of a record's values of a label column."""
    shape, dtype = layout.dense[name]
    return prod(shape) * TYPE_BYTES[dtype]


@dataclass(frozen=True, slots=True)
class Known:
    """What has been found out of files that have not changed since: added to, by file and its stamp.

    verified: what has been compared with its checksums; groups: row groups of Parquet shards whose footers are right.
    """

    verified: set[Any] = field(default_factory=set)
    groups: dict[Any, list[RowGroup]] = field(default_factory=dict)


def _check_boxes(folder: Folder, block: Block) -> None:
    """Refuse boxes that do not lie in the image: nothing else keeps them from a device's memory."""
    labels, images = folder.manifest.labels, folder.manifest.images
    if labels is None or not isinstance(labels.views, Boxes):
        return
    boxes = block.columns["view_box"]
    outside = ~lies_inside(boxes, images.height, images.width)
    if outside.any():
        row, view = np.argwhere(outside)[0].tolist()
        place, name = block.row + row, block.name(row)
        where = f"{say_place(block.shard.path, place, name)}, view_box, view {view}"
        found, expected = f"box {boxes[row, view].tolist()}", f"one inside {images.height}x{images.width}"
        raise DatasetError([Problem("LADD-044", where, found, expected, AGAIN, place, name)])
