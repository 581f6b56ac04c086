"""Many picture files into one array: stored PNGs by copying their rows, all others by the format's own decoders.

A stored PNG (no row filter, no deflate) is its pixels with a few bytes in between, at places that the size of the
image fixes. Those bytes are compared, the rows copied: what a memory copy costs, where a decoder takes ten times
as long. The PNG's own checksums are not looked at: whoever reads the shard has verified its bytes.

All others go to Pillow. torchvision's decoder is 1.4 to 2 times as fast (128 px), but ends the process on some PNGs
with one bit flipped (torchvision 0.29: "IDAT: incorrect data check", segmentation fault): it sees no foreign bytes.

Source: RFC 1950, RFC 1951 section 3.2.4 (stored blocks); PNG, third edition, sections 5, 9, 10.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ladd_data.jpeg import decode_jpeg
from ladd_data.png import decode_png
from ladd_data.types import U8

FileBytes = bytes | memoryview
THREADS = min(4, os.cpu_count() or 1)
"""That decode at once; Pillow lets go of the interpreter while it decodes."""
_HEAD = 43
"""Signature, IHDR, IDAT's length and name, the two bytes of zlib."""
_TAIL = 20
"""Adler-32, IDAT's CRC, IEND."""
_IEND = b"\0\0\0\0IEND\xaeB\x60\x82"


class PictureError(ValueError):
    """A file that cannot be decoded; `place`: which of them."""

    def __init__(self, place: int, message: str) -> None:
        """Keep the place."""
        super().__init__(message)
        self.place = place


class PictureDecoder:
    """Decodes files of one kind and size; keeps threads, so close it."""

    def __init__(self, shape: tuple[int, int, int], *, png: bool) -> None:
        """Decode images of `shape` (channels, height, width): PNG files, or JPEG files."""
        self._shape, self._decode = shape, decode_png if png else decode_jpeg
        self._stored = StoredPngs(shape) if png else None
        self._pool = ThreadPoolExecutor(THREADS, "ladd-decode")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def fill(self, files: Sequence[FileBytes], out: U8, places: Sequence[int] | None = None) -> None:
        """Write pixels into `out`, uint8 [images, height, width, channels].

        Args:
            files: what to decode.
            out: where to.
            places: in `out`, of each file; without them, from the first one on.

        Raises:
            PictureError: the first file that is damaged, or of another kind, size or colour type.
        """
        targets = range(len(files)) if places is None else places
        others = []
        for number, file in enumerate(files):
            stored = self._stored.find(file) if self._stored else None
            if stored is None:
                others.append(number)
            else:
                stored.copy(0, out[targets[number]])
        parts = [others[start::THREADS] for start in range(min(THREADS, len(others)))]
        if len(parts) == 1:
            return self._decode_some(files, parts[0], out, targets)
        for job in [self._pool.submit(self._decode_some, files, part, out, targets) for part in parts]:
            job.result()
        return None

    def _decode_some(self, files: Sequence[FileBytes], numbers: Sequence[int], out: U8, targets: Sequence[int]) -> None:
        for number in numbers:
            try:
                pixels = self._decode(bytes(files[number]), *self._shape)
            except ValueError as error:
                raise PictureError(number, str(error)) from error
            out[targets[number]] = pixels.transpose(1, 2, 0)


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


@dataclass(frozen=True, slots=True)
class PixelRows:
    """Pixels that lie in memory as they are wanted: `rows`, uint8 [images, channels, height, width]."""

    rows: U8

    def __len__(self) -> int:
        return len(self.rows)

    def copy(self, which: int | slice, out: U8) -> None:
        """Copy one image, or some."""
        out[...] = self.rows[which]


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

    size: of the file; width: bytes of a row with its filter byte; fixed: what must stand at which place, such as
    the head and each block's header; column 0 of a row is the filter byte, which must be 0.
    """

    size: int
    width: int
    fixed: tuple[tuple[int, bytes], ...]
    runs: tuple[_Run, ...]
    parts: tuple[_Part, ...]

    def fits(self, table: U8) -> bool:
        """Say whether files, uint8 [files, bytes], are all of this layout."""
        if table.shape[1] != self.size:
            return False
        # copies of a few bytes of each file, as bytes: a comparison of arrays takes twice as long
        if any(table[:, at : at + len(text)].tobytes() != text * len(table) for at, text in self.fixed):
            return False
        filters = [self._rows_of(run, table)[:, :, 0] for run in self.runs]
        filters += [table[:, part.start] for part in self.parts if part.column == 0]
        return all(found.tobytes() == bytes(found.size) for found in filters)

    def whole_rows(self, table: U8) -> U8 | None:
        """Return the pixels as one array, [files, height, width * channels], where one block holds them all."""
        return self._rows_of(self.runs[0], table)[:, :, 1:] if len(self.runs) == 1 and not self.parts else None

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
    return _StoredLayout(len(data), stride, tuple(fixed), tuple(runs), tuple(parts))


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
