"""Stored PNGs, which are their pixels with a few bytes in between: copied out of a page, or left where they landed.

A stored PNG (no row filter, no deflate) has its bytes at places that the size of the image fixes. Those that are no
pixels are compared, the rows copied: what a memory copy costs, where a decoder takes ten times as long. The PNG's own
checksums are not looked at: whoever reads the shard has verified its bytes.

Source: RFC 1950, RFC 1951 section 3.2.4 (stored blocks); PNG, third edition, sections 5, 9, 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ladd_data.png import encode_png
from ladd_data.types import U8

FileBytes = bytes | memoryview
_HEAD = 43
"""Signature, IHDR, IDAT's length and name, the two bytes of zlib."""
_TAIL = 20
"""Adler-32, IDAT's CRC, IEND."""
_IEND = b"\0\0\0\0IEND\xaeB\x60\x82"
_LENGTH = 4
"""Bytes of the length before each value of a Parquet page."""
_LINE = 64
"""Records begin with a line of the processor's cache."""


class StoredPngs:
    """Finds out whether files are stored PNGs of one size, many at a time."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Expect images of `shape` (channels, height, width)."""
        self._shape = shape
        self._layout: _StoredLayout | None = None

    def find(self, file: FileBytes) -> StoredRows | None:
        """Return one file's pixels; None if it is no stored PNG of this shape."""
        return self.find_all(np.frombuffer(file, np.uint8)[None])

    def find_all(self, table: U8) -> StoredRows | None:
        """Return the pixels of files, uint8 [files, bytes]; None if one is no stored PNG of this shape."""
        if self._layout is None or self._layout.size != table.shape[1]:
            self._layout = _find_layout(table[0].tobytes(), self._shape) or self._layout
        layout = self._layout
        return StoredRows(table, layout, self._shape[0]) if layout is not None and layout.fits(table) else None


class StoredRows:
    """Stored PNGs whose bytes between the rows have been compared: nothing is left to do for each but to copy it.

    rows: their pixels, [files, height, width, channels], where they lie; None where deflate cuts some in two.
    """

    def __init__(self, table: U8, layout: _StoredLayout, channels: int) -> None:
        """Wrap files, uint8 [files, bytes], that fit the layout."""
        self._table, self._layout = table, layout
        whole = layout.whole_rows(table)
        self.rows = None if whole is None else whole.reshape(*whole.shape[:2], -1, channels)

    def __len__(self) -> int:
        return len(self._table)

    def copy(self, which: int | slice, out: U8) -> None:
        """Copy the pixels of one file, or of some, into `out`: uint8 [..., height, width, channels]."""
        if self.rows is not None:
            out[...] = self.rows[which]
        else:
            self._layout.copy(self._table[which], out)


class StoredForm:
    """Memory of a batch in which stored PNGs lie as they lay in their page, so that nothing is copied any more.

    Their pixels are a view of it: rows of a file are as far apart as they are long and its filter byte more.

    file_bytes: of a file, as our writer makes it; page_bytes: and of its length, which stands before it in a page;
    slot_bytes: of the memory of a record, which begins with that length.
    """

    def __init__(self, layout: _StoredLayout, shape: tuple[int, int, int]) -> None:
        """Take the layout of all files, one block of deflate each, and the `shape` (channels, height, width)."""
        self._layout, self._shape = layout, shape
        self.file_bytes, self.page_bytes = layout.size, _LENGTH + layout.size
        self.slot_bytes = -(-self.page_bytes // _LINE) * _LINE
        self.length = layout.size.to_bytes(_LENGTH, "little")

    def pixels(self, memory: U8) -> U8:
        """Return the pixels in memory, uint8 [batch, slot_bytes], as a view of it, [batch, height, width, channels]."""
        rows = self._layout.whole_rows(memory[:, _LENGTH : self.page_bytes])
        assert rows is not None  # the layout is in one block
        return rows.reshape(*rows.shape[:2], -1, self._shape[0])

    def tensor(self, memory: Tensor) -> Tensor:
        """Return the same as [batch, channels, height, width], which keeps the memory on whatever device it is."""
        (channels, height, width), row = self._shape, self._layout.width
        size, strides = (len(memory), channels, height, width), (self.slot_bytes, 1, row, channels)
        return memory.as_strided(size, strides, _LENGTH + self._layout.runs[0].start + 1)

    def slots(self, memory: U8) -> list[memoryview]:
        """Return where each record's length and file go."""
        whole = memory.reshape(-1).data
        return [whole[at : at + self.page_bytes] for at in range(0, len(whole), self.slot_bytes)]

    def file(self, memory: U8, place: int) -> bytes:
        """Return a record's file."""
        return memory[place, _LENGTH : self.page_bytes].tobytes()

    def find_others(self, memory: U8) -> list[int]:
        """Return the places of files that are of this size but not of this form, so that their pixels lie elsewhere."""
        table = memory[:, _LENGTH : self.page_bytes]
        if self._layout.fits(table):
            return []
        return [place for place in range(len(table)) if not self._layout.fits(table[place : place + 1])]


def find_form(shape: tuple[int, int, int]) -> StoredForm | None:
    """Return the form of stored PNGs of a `shape` (channels, height, width), as our writer makes them.

    None where their rows take more than one block of deflate (64 KiB), whose headers stand between pixels.
    """
    layout = _find_layout(encode_png(np.zeros(shape, np.uint8), "stored"), shape)
    return StoredForm(layout, shape) if layout is not None and layout.in_one else None


@dataclass(frozen=True, slots=True)
class _Run:
    """Whole rows in one stored block: at `start` in the file, `count` rows from `first` on."""

    start: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Part of a row that two blocks share: `size` bytes at `start` in the file, from `column` of row `row` on."""

    start: int
    row: int
    column: int
    size: int


@dataclass(frozen=True, slots=True)
class _StoredLayout:
    """Where the bytes of a stored PNG of one size are.

    size: of the file; width: bytes of a row with its filter byte, which is column 0; fixed: what must stand at which
    place, such as the head and each block's header; filters: where filter bytes are, which must be 0.
    """

    size: int
    width: int
    fixed: tuple[tuple[int, bytes], ...]
    filters: tuple[slice, ...]
    runs: tuple[_Run, ...]
    parts: tuple[_Part, ...]

    def fits(self, table: U8) -> bool:
        """Say whether files, uint8 [files, bytes], are all of this layout."""
        if table.shape[1] != self.size:
            return False
        # copies of a few bytes of each file, as bytes: a comparison of arrays takes twice as long
        for at, text in self.fixed:
            if table[:, at : at + len(text)].tobytes() != text * len(table):
                return False
        for places in self.filters:
            found = table[:, places]
            if found.tobytes() != bytes(found.size):
                return False
        return True

    def whole_rows(self, table: U8) -> U8 | None:
        """Return the pixels as one array, [files, height, width * channels], where one block holds them all."""
        return self._rows_of(self.runs[0], table)[:, :, 1:] if self.in_one else None

    @property
    def in_one(self) -> bool:
        """Whether one block of deflate holds all rows."""
        return len(self.runs) == 1 and not self.parts

    def copy(self, files: U8, out: U8) -> None:
        """Copy the pixels of files that fit, [..., bytes], into `out`, [..., height, width, channels]."""
        if not out.flags.c_contiguous:
            direct = np.empty(out.shape, np.uint8)
            self.copy(files, direct)
            out[...] = direct
            return
        out = out.reshape(*out.shape[:-2], -1)
        for run in self.runs:
            out[..., run.first : run.first + run.count, :] = self._rows_of(run, files)[..., 1:]
        for part in self.parts:
            skipped = int(part.column == 0)  # the filter byte
            start, column, size = part.start + skipped, part.column - 1 + skipped, part.size - skipped
            out[..., part.row, column : column + size] = files[..., start : start + size]

    def _rows_of(self, run: _Run, files: U8) -> U8:
        """Return whole rows with their filter bytes, [..., rows, width], without a copy."""
        block = files[..., run.start : run.start + run.count * self.width]
        return block.reshape(*files.shape[:-1], run.count, self.width)


def _find_layout(data: bytes, shape: tuple[int, int, int]) -> _StoredLayout | None:
    """Return the layout of a stored PNG of this shape; None for any other file."""
    channels, height, width = shape
    raw, stride = height * (1 + width * channels), 1 + width * channels
    ihdr = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    ihdr += bytes([8, 2 if channels == 3 else 0, 0, 0, 0])
    idat = len(data) - _HEAD - _TAIL + 2 + 4  # zlib's two bytes and Adler-32 included
    if not data.startswith(ihdr) or data[33:41] != idat.to_bytes(4, "big") + b"IDAT" or data[-12:] != _IEND:
        return None
    if data[41] & 15 != 8 or data[42] & 32 or int.from_bytes(data[41:43], "big") % 31:
        return None
    blocks: list[tuple[int, int]] = []  # (place in the file, bytes)
    fixed, at, done = [(len(data) - 12, _IEND)], _HEAD, 0
    while done < raw:
        size, mirrored = (
            int.from_bytes(data[at + 1 : at + 3], "little"),
            int.from_bytes(data[at + 3 : at + 5], "little"),
        )
        if at + 5 > len(data) or data[at] not in (0, 1) or size ^ mirrored != 0xFFFF or not 0 < size <= raw - done:
            return None
        done += size
        if (data[at] == 1) != (done == raw):
            return None
        begin = at if blocks else 0  # the head is compared with the first block's header
        fixed.append((begin, data[begin : at + 5]))
        blocks.append((at + 5, size))
        at += 5 + size
    if at + _TAIL != len(data):
        return None
    runs, parts = _cut(blocks, stride)
    filters = [slice(run.start, run.start + run.count * stride, stride) for run in runs]
    filters += [slice(part.start, part.start + 1) for part in parts if part.column == 0]
    return _StoredLayout(len(data), stride, tuple(fixed), tuple(filters), tuple(runs), tuple(parts))


def _cut(blocks: list[tuple[int, int]], stride: int) -> tuple[list[_Run], list[_Part]]:
    """Return the whole rows of each block, and the rows that blocks share."""
    runs: list[_Run] = []
    parts: list[_Part] = []
    position = 0  # in the filtered rows
    for start, size in blocks:
        end = position + size
        while position < end:
            row, column = divmod(position, stride)
            whole = (end - position) // stride if column == 0 else 0
            if whole:
                runs.append(_Run(start, row, whole))
                step = whole * stride
            else:
                step = min(stride - column, end - position)
                parts.append(_Part(start, row, column, step))
            start, position = start + step, position + step
    return runs, parts
