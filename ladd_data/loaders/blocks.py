"""Blocks of records, read from shards wherever they lie and checked before they are handed on.

A Parquet shard is read a row group at a time, each of its pages compared with the CRC-32 that its header states.
Tar and Arrow shards have no checksums inside: they are compared with their SHA-256, whole, before the first record
of them is used; from afar they are fetched into a temporary file without a name, which is gone with the process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ladd_data.errors import DatasetError, Problem, UsageError, nearest, say_place
from ladd_data.loaders.batches import KEPT
from ladd_data.loaders.buffers import Buffers, Scratch
from ladd_data.loaders.column_pages import NumberPages, TextPages
from ladd_data.loaders.picture_files import FileBytes, PixelRows, StoredPngs, StoredRows
from ladd_data.loaders.remote import LocalSource, Source
from ladd_data.loaders.shard_files import FetchedWindow, FileWindow, Window, check_digest, fetch, open_end
from ladd_data.manifest import Boxes
from ladd_data.png import decode_png
from ladd_data.shards.container import ShardError, clause_of, place_of
from ladd_data.shards.folder import SHARDS_PATH, Folder, Shard, check_footer_at, check_shard
from ladd_data.shards.images import PixelImages
from ladd_data.shards.joined import RelabelledFolder, plain_of
from ladd_data.shards.layout import Records, pick
from ladd_data.shards.limits import Chunk, Page, read_groups, walk_pages
from ladd_data.shards.pages import read_files
from ladd_data.types import I64, Array, Columns
from ladd_data.views.geometry import lies_inside

try:
    from isal.isal_zlib import crc32  # ten times as fast
except ImportError:  # where there is no wheel
    from zlib import crc32

Verify = Literal["pages", "shards"]
"""What is compared when a shard is first read: pages with their CRC-32 where they have one, or every shard with its
SHA-256 as well."""
_AGAIN = "Download the dataset again."
_ROUND = 2**20
"""Row groups differ by a few bytes; their memory, rounded up, serves any of them."""
_WANTED = (*KEPT, "view_")
_TOGETHER = 16
"""Images that are handed on together where there are no pages."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some records in a row.

    shard: where they are from; row: the first one's place there; first: its number in the dataset.
    read_ids: returns the records' ids, which only errors need. labels: int64 [records]; columns: the label columns that
    batches need. Their pictures are handed on one page after the other (`Pages`), not kept.
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
        return DatasetError([Problem("LADD-024", where, found, "the image it was", _AGAIN, place, name)])


Pictures = StoredRows | PixelRows | list[FileBytes]
"""Some images in a row."""
Lend = Callable[[str, tuple[int, ...], np.dtype[np.generic], int], Array]
"""(column, shape and type of a row, rows) -> memory that nothing else looks at."""
Pages = Generator[tuple[int, Pictures], None, None]
"""A block's pictures in order, page by page: (row of the first, pictures), valid until the next; to be closed."""


class ShardBlocks(ABC):
    """The blocks of one shard, which has been checked as far as it can be without reading them."""

    def __init__(self, folder: Folder, index: int) -> None:
        """Keep where the shard is in the dataset; other dense labels than those in it are joined to what it holds."""
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
            problem = Problem(clause_of(error), where, str(error), "readable records", _AGAIN, *place)
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
        block = Block(self._shard, row, self._first + row, read_ids, labels, pick(columns, _WANTED))
        _check_boxes(self._relabelled or self._folder, block)
        return block


class ParquetBlocks(ShardBlocks):
    """The row groups of a Parquet shard, fetched one by one."""

    def __init__(self, source: Source, folder: Folder, index: int, memory: Memory, verified: set[Any]) -> None:
        """Read the footer.

        Args:
            source: where the shard is.
            folder: the dataset.
            index: the shard's number.
            memory: to read into.
            verified: row groups of files that have not changed since their pages were compared; added to.
        """
        super().__init__(folder, index)
        self._source, self._memory, self._verified = source, memory, verified
        self._stored = StoredPngs(folder.layout.shape)
        shard = self._shard
        with open_end(source, shard) as path:
            _raise(check_footer_at(self._folder, index, path))
            self._groups = read_groups(path)
        sizes = [group.rows for group in self._groups]
        self._starts = [0, *np.cumsum(sizes)[:-1].tolist()]

    def _read(self, number: int) -> tuple[Block, Pages]:
        window, key = self._open(number)
        try:
            verify = key not in self._verified
            with self._blaming(number):
                texts, labels, columns = self._read_columns(window, number, verify)
            block = self._block(number, lambda: self._read_ids(texts, number), labels, columns)
            return block, self._read_images(window, number, block, key if verify else None)
        except BaseException:
            window.close()
            raise

    def _read_ids(self, texts: TextPages, number: int) -> list[str]:
        with self._naming(number), self._blaming(number):
            return texts.read()

    @contextmanager
    def _blaming(self, number: int) -> Iterator[None]:
        """Where pages hold other values than they should, let a reader say which is null that rebuilds all lists."""
        try:
            yield
        except ShardError as error:
            if isinstance(self._source, LocalSource) and clause_of(error) == "LADD-020":
                next(
                    self._folder.container.read_records(
                        self._source.path / self._shard.path, self._folder.layout, [number]
                    )
                )
            raise

    def _open(self, number: int) -> tuple[Window, Any]:
        """Return a row group's bytes, and what is remembered once its pages have been compared."""
        if isinstance(self._source, LocalSource):
            file = FileWindow(self._source.path, self._shard, self._memory.scratch)
            return file, (self._index, number, *file.stamp())
        start, stop = self._groups[number].span
        memory = self._memory.groups.lend(-(-(stop - start) // _ROUND) * _ROUND)
        return FetchedWindow(self._source, self._shard, start, memory.data[: stop - start]), ("fetched",)

    def _read_columns(self, window: Window, number: int, verify: bool) -> tuple[TextPages, I64, Columns]:
        """Return ids, labels and label columns of a row group."""
        group, first = self._groups[number], self._starts[number]
        kinds = {"label": ((), "int64"), **self._folder.layout.dense}
        texts, columns = None, {}
        wanted = "soft_" if self._relabelled else _WANTED
        for chunk in group.chunks:
            name = chunk.path.split(".")[0]
            where = f"row group {number} (rows {first} .. {first + group.rows - 1}), column {chunk.path}"
            if name == "id":
                texts = TextPages(where, chunk)
                self._read_pages_of(window, where, chunk, texts.add, verify)
            elif name == "label" or (name.startswith(wanted) and name in kinds):
                shape, dtype = kinds[name]
                stored = np.dtype(np.uint8 if dtype == "bytes" else dtype)
                columns[name] = self._memory.lend(f"block {name}", shape, stored, group.rows)
                numbers = NumberPages(where, chunk, columns[name], shape, dtype)
                self._read_pages_of(window, where, chunk, numbers.add, verify)
                numbers.end()
        if texts is None or "label" not in columns:
            raise ShardError("LADD-020", f"row group {number}: no column of ids or labels")
        return texts, columns.pop("label"), columns

    def _read_pages_of(
        self, window: Window, where: str, chunk: Chunk, add: Callable[[Page, memoryview], None], verify: bool
    ) -> None:
        for page in walk_pages(where, window.peek, chunk, self._shard.bytes):
            content = window.part(page.start, page.size)
            if verify and (found := crc32(content)) != page.crc:
                text = f"a page of crc32 {found:08x} whose header states {page.crc:08x}"
                raise ShardError("LADD-003", f"{where}: {text}")
            add(page, content)

    def _read_images(self, window: Window, number: int, block: Block, unverified: Any) -> Pages:
        """Yield pages of pictures; `unverified`: what is remembered once all of them have been compared, or None."""
        row = 0
        with closing(window):
            for chunk in self._groups[number].chunks:
                if chunk.path != "image.bytes":
                    continue
                where = f"row group {number}, column {chunk.path}"
                for page in walk_pages(where, window.peek, chunk, self._shard.bytes):
                    content = window.part(page.start, page.size)
                    if unverified and (found := crc32(content)) != page.crc:  # while they are in the processor's cache
                        raise self._blame(block, row, page, content, found)
                    yield row, self._find_pictures(content, page.values)
                    row += page.values
        if unverified and isinstance(window, FileWindow):
            self._verified.add(unverified)

    def _find_pictures(self, content: memoryview, count: int) -> Pictures:
        files = read_files(content, count)
        if isinstance(files, list):
            return list(files)
        stored = self._stored.find_all(files) if self._folder.layout.png else None
        return [file.data for file in files] if stored is None else stored

    def _blame(self, block: Block, row: int, page: Page, content: memoryview, found: int) -> ShardError:
        """Return the error of a damaged page of images; names the record where its own checksums tell."""
        first = block.row + row
        text = f"crc32 {found:08x} of the page of images of rows {first} .. {first + page.values - 1}, "
        text += f"whose header states {page.crc:08x}"
        try:
            files = read_files(content, page.values)
        except ValueError:
            files = []
        for place, file in enumerate(files if self._folder.layout.png else []):
            try:
                decode_png(bytes(file), *self._folder.layout.shape)
            except ValueError as error:
                return ShardError("LADD-003", f"{text} ({error})", row + place, block.name(row + place))
        return ShardError("LADD-003", text)


class FileBlocks(ShardBlocks):
    """The blocks of a tar or Arrow shard, read from a file that has been compared with its SHA-256."""

    def __init__(self, source: Source, folder: Folder, index: int, verified: set[Any]) -> None:
        """Verify the file, unless it has not changed since it was; from afar, fetch it first."""
        super().__init__(folder, index)
        self._file: Any = None
        if isinstance(source, LocalSource):
            self._path = source.path / self._shard.path
            stat = self._path.stat()
            key = ("sha256", index, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            _raise(check_shard(self._folder, index, verify=key not in verified))
            verified.add(key)
        else:
            self._file = fetch(source, self._shard)
            self._path = Path(f"/dev/fd/{self._file.fileno()}")
        try:
            self._starts = self._find_starts()
        except BaseException:
            self.close()
            raise

    def _find_starts(self) -> list[int]:
        folder = self._folder
        if self._file is not None:
            _raise(check_footer_at(folder, self._index, self._path, walk=True))
        sizes = folder.container.read_group_sizes(self._path, folder.layout)
        return [0, *np.cumsum(sizes)[:-1].tolist()]

    def close(self) -> None:
        """Let go of the temporary file."""
        if self._file is not None:
            self._file.close()

    def _read(self, number: int) -> tuple[Block, Pages]:
        records = next(self._folder.container.read_records(self._path, self._folder.layout, [number]))
        ids, images = records.ids, records.images
        return self._block(number, lambda: ids, records.labels, records.dense), _cut(images)


def _cut(images: Sequence[bytes]) -> Pages:
    """Yield a few images at a time, as pages are: so batches that come later take no memory yet."""
    for row in range(0, len(images), _TOGETHER):
        part = images[row : row + _TOGETHER]
        yield row, PixelRows(part.pixels) if isinstance(part, PixelImages) else list(part)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one reader at a time reads into.

    scratch: for pages of local files; groups: for row groups from afar; lend: gives memory for the columns of blocks.
    """

    scratch: Scratch
    groups: Buffers
    lend: Lend


def open_blocks(
    source: Source, folder: Folder, index: int, verify: Verify, memory: Memory, verified: set[Any]
) -> ShardBlocks:
    """Return the blocks of a shard (`ParquetBlocks`, `FileBlocks`).

    Raises:
        DatasetError: the shard is not the listed one, or damaged.
        SourceError: it cannot be had.
    """
    shard = folder.shards[index]
    size = source.size(shard.path)
    if size is not None and size != shard.bytes:
        found, expected = f"{size} bytes (cut short, or another file)", f"{shard.bytes}, as {SHARDS_PATH} says"
        raise DatasetError([Problem("LADD-003", shard.path, found, expected, _AGAIN)])
    if folder.edition != "parquet":
        return FileBlocks(source, folder, index, verified)
    key = ("sha256", index)
    if verify == "shards" and key not in verified:
        check_digest(source, shard, None)
        verified.add(key)
    return ParquetBlocks(source, folder, index, memory, verified)


def check_verify(verify: str) -> None:
    """Refuse what is no `Verify`."""
    if verify not in ("pages", "shards"):
        raise UsageError(f'verify "{verify}" is not known. {nearest(str(verify), ("pages", "shards"))}')


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
        raise DatasetError([Problem("LADD-044", where, found, expected, _AGAIN, place, name)])


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise DatasetError(problems)
