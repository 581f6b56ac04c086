"""The row groups of a Parquet shard as blocks: each page compared with the CRC-32 that its header states."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladd_data.errors import DatasetError, Problem
from ladd_data.loaders.reading.blocks import Block, Known, LabelRows, Landed, Memory, Pages, Pictures, ShardBlocks
from ladd_data.loaders.reading.column_pages import NumberPages, RowPages, TextPages
from ladd_data.loaders.reading.shard_files import FetchedWindow, FileWindow, Window, open_end
from ladd_data.loaders.reading.source import LocalSource, Source
from ladd_data.loaders.reading.stored_pngs import StoredPngs
from ladd_data.png import decode_png
from ladd_data.shards.container import ShardError, clause_of
from ladd_data.shards.folder import Folder, check_footer_at
from ladd_data.shards.limits import Chunk, Page, read_groups, walk_pages
from ladd_data.shards.pages import are_defined, read_files
from ladd_data.types import I64, Columns

try:
    from deflate import crc32  # libdeflate's: ten times as fast as zlib's, twice as fast as ISA-L's without AVX-512
except ImportError:  # where there is no wheel
    from zlib import crc32  # type: ignore[assignment]

_ROUND = 2**20
"""Row groups differ by a few bytes; their memory, rounded up, serves any of them."""
_MOST_HEAD = 64
"""Bytes of a page before its first value that are read with it: definition levels in a run or two."""


class ParquetBlocks(ShardBlocks):
    """The row groups of a Parquet shard, fetched one by one."""

    def __init__(self, source: Source, folder: Folder, index: int, memory: Memory, known: Known) -> None:
        """Read the footer.

        Args:
            source: where the shard is.
            folder: the dataset.
            index: the shard's number.
            memory: to read into.
            known: of the same files, from earlier passes.
        """
        super().__init__(folder, index, memory)
        self._source, self._known = source, known
        self._stored = StoredPngs(folder.layout.shape)
        key = (index, source.stamp(self._shard.path))
        if key not in known.groups:
            with open_end(source, self._shard) as path:
                _raise(check_footer_at(self._folder, index, path))
                groups = read_groups(path)
            if key[1] is not None:
                known.groups[key] = groups
        else:
            groups = known.groups[key]
        self._groups = groups
        sizes = [group.rows for group in self._groups]
        self._starts = [0, *np.cumsum(sizes)[:-1].tolist()]

    def _read(self, number: int) -> tuple[Block, Pages]:
        window, key = self._open(number)
        try:
            verify = key not in self._known.verified
            with self._blaming(number):
                texts, labels, columns = self._read_columns(window, number, verify)
            block = self._block(number, lambda: self._read_ids(texts, number), labels, columns)
            return block, self._read_rest(window, number, block, key if verify else None)
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
        group = self._groups[number]
        kinds = {"label": ((), "int64"), **self._folder.layout.dense}
        texts, columns = None, {}
        for chunk in group.chunks:
            name = chunk.path.split(".")[0]
            where = self._say_where(number, chunk)
            if name == "id":
                texts = TextPages(where, chunk)
                self._read_pages_of(window, where, chunk, texts.add, verify)
            elif name == "label" or (name in kinds and self._wants(name) and not self._hands_on(name)):
                shape, dtype = kinds[name]
                stored = np.dtype(np.uint8 if dtype == "bytes" else dtype)
                columns[name] = self._memory.lend(f"block {name}", shape, stored, group.rows)
                numbers = NumberPages(where, chunk, columns[name], shape, dtype)
                self._read_pages_of(window, where, chunk, numbers.add, verify)
                numbers.end()
        if texts is None or "label" not in columns:
            raise ShardError("LADD-020", f"row group {number}: no column of ids or labels")
        return texts, columns.pop("label"), columns

    def _wants(self, name: str) -> bool:
        """Tell whether a column is to be read here; dense labels, and where views lie, may come from elsewhere."""
        return self._memory.wants(name) and (self._relabelled is None or name.startswith("soft_"))

    def _read_pages_of(
        self, window: Window, where: str, chunk: Chunk, add: Callable[[Page, memoryview], None], verify: bool
    ) -> None:
        for page, content in self._walk(window, where, chunk, verify):
            add(page, content)

    def _walk(self, window: Window, where: str, chunk: Chunk, verify: bool) -> Iterator[tuple[Page, memoryview]]:
        """Yield pages and their contents, compared with their checksums."""
        for page in walk_pages(where, window.peek, chunk, self._shard.bytes):
            content = window.part(page.start, page.size)
            if verify and (found := crc32(content)) != page.crc:
                text = f"a page of crc32 {found:08x} whose header states {page.crc:08x}"
                raise ShardError("LADD-003", f"{where}: {text}")
            yield page, content

    def _read_rest(self, window: Window, number: int, block: Block, unverified: Any) -> Pages:
        """Yield pages of pictures, and before each the long rows of labels that go with it.

        `unverified`: what is remembered once all pages have been compared, or None.
        """
        verify = bool(unverified)
        with closing(window):
            long = [
                _Long(self._read_long(window, number, chunk, name, verify))
                for chunk in self._groups[number].chunks
                if (name := chunk.path.split(".")[0]) in self._folder.layout.dense and self._wants(name)
                if self._hands_on(name)
            ]
            yield from self._read_images(window, number, block, long, verify=verify)
            for column in long:
                with self._blaming(number):
                    deque(column.pages, maxlen=0)  # there is no more, which is checked at the end
        if unverified and isinstance(window, FileWindow):
            self._known.verified.add(unverified)

    def _hands_on(self, name: str) -> bool:
        return self._memory.hands_on(name, self._folder.layout)

    def _read_long(self, window: Window, number: int, chunk: Chunk, name: str, verify: bool) -> Iterator[LabelRows]:
        where, group = self._say_where(number, chunk), self._groups[number]
        pages = RowPages(where, chunk, group.rows, *self._folder.layout.dense[name])
        for page, content in self._walk(window, where, chunk, verify):
            yield LabelRows(name, pages.rows(page, content))
        pages.end()

    def _say_where(self, number: int, chunk: Chunk) -> str:
        group, first = self._groups[number], self._starts[number]
        return f"row group {number} (rows {first} .. {first + group.rows - 1}), column {chunk.path}"

    def _read_images(self, window: Window, number: int, block: Block, long: list[_Long], *, verify: bool) -> Pages:
        """Yield pages of pictures; labels first, as what is read of a window is valid until the next is read."""
        row = 0
        for chunk in self._groups[number].chunks:
            if chunk.path != "image.bytes":
                continue
            where = f"row group {number}, column {chunk.path}"
            for page in walk_pages(where, window.peek, chunk, self._shard.bytes):
                stop = min(row + page.values, self._groups[number].rows)  # a damaged header may state more
                for column in long:
                    yield from self._read_labels(number, column, stop)
                if self._land(window, block, row, page, verify=verify):
                    yield row, Landed(page.values)
                else:
                    content = window.part(page.start, page.size)
                    if verify and (found := crc32(content)) != page.crc:
                        raise self._blame(block, row, page, content, found)
                    yield row, self._find_pictures(content, page.values)
                row += page.values

    def _read_labels(self, number: int, column: _Long, stop: int) -> Pages:
        """Yield pages of a column until the rows before `stop` have been read."""
        while column.read < stop:
            with self._blaming(number):
                rows = next(column.pages)  # there are some: fewer rows than the row group has are refused
            yield column.read, rows
            column.read += len(rows)

    def _land(self, window: Window, block: Block, row: int, page: Page, *, verify: bool) -> bool:
        """Read a page of stored PNGs of one form to where they belong, and compare it: no byte of it is copied again.

        Returns False for a page of anything else, or one that is damaged: to be read otherwise, which tells.
        """
        room = self._memory.room
        form = room.form if room else None
        if room is None or form is None:
            return False
        head = page.size - page.values * form.page_bytes
        if not 0 < head <= _MOST_HEAD:
            return False
        slots = room.slots(block, row, page.values, self._memory.scratch)
        front = window.land(page.start, head, slots)
        if front is None or not are_defined(front, page.values):
            return False
        crc = crc32(front)
        for slot in slots:  # while they are in the processor's cache
            if slot[:4] != form.length:
                return False
            if verify:
                crc = crc32(slot, crc)
        return not verify or crc == page.crc

    def _find_pictures(self, content: memoryview, count: int) -> Pictures:
        files = read_files(content, count)
        if isinstance(files, list):
            return list(files)
        room = self._memory.room
        landing = room is not None and room.form is not None  # which takes files
        stored = self._stored.find_all(files) if self._folder.layout.png and not landing else None
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


@dataclass
class _Long:
    """A label column that is handed on: what reads its pages, and how many rows it has read."""

    pages: Iterator[LabelRows]
    read: int = 0


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise DatasetError(problems)
