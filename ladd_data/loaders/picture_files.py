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
        self._stored: _StoredLayout | None = None
        self._png = png
        self._pool = ThreadPoolExecutor(THREADS, "ladd-decode")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def fill(self, files: Sequence[FileBytes | U8], out: U8) -> None:
        """Write pixels into `out`, uint8 [files, height, width, channels].

        Args:
            files: what to decode; or rows of pixels (`StoredPages`), uint8 [height, width * channels], to copy.
            out: where to.

        Raises:
            PictureError: the first file that is damaged, or of another kind, size or colour type.
        """
        rows = out.reshape(len(files), self._shape[1], -1)
        others = [place for place, file in enumerate(files) if not self._copy(file, rows[place])]
        parts = [others[start::THREADS] for start in range(min(THREADS, len(others)))]
        if len(parts) == 1:
            return self._decode_some(files, parts[0], out)
        for job in [self._pool.submit(self._decode_some, files, part, out) for part in parts]:
            job.result()
        return None

    def _copy(self, file: FileBytes | U8, rows: U8) -> bool:
        """Copy rows, or a stored PNG's rows; False for any other file."""
        if isinstance(file, np.ndarray):
            rows[:] = file
            return True
        if not self._png:
            return False
        if self._stored is None or len(file) != self._stored.size:
            self._stored = _find_layout(bytes(file), self._shape) or self._stored
        return self._stored is not None and self._stored.copy(file, rows)

    def _decode_some(self, files: Sequence[FileBytes | U8], places: Sequence[int], out: U8) -> None:
        for place in places:
            try:
                pixels = self._decode(bytes(files[place]), *self._shape)
            except ValueError as error:
                raise PictureError(place, str(error)) from error
            out[place] = pixels.transpose(1, 2, 0)


class StoredPages:
    """Looks at the stored PNGs of a page together, so that nothing is left to do for each but to copy it."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Expect images of `shape` (channels, height, width)."""
        self._shape = shape
        self._layout: _StoredLayout | None = None

    def take_page(self, files: list[memoryview]) -> Sequence[FileBytes | U8]:
        """Return the pixels of files that lie one behind the other at equal distances, as rows; else the files.

        Rows are parts of the same memory: uint8 [height, width * channels]. Images of more than 64 KB, which deflate
        stores in several blocks, stay files.
        """
        if len(files) < 2 or len({len(file) for file in files}) > 1:
            return files
        if self._layout is None or self._layout.size != len(files[0]):
            self._layout = _find_layout(bytes(files[0]), self._shape) or self._layout
        layout = self._layout
        if layout is None or layout.size != len(files[0]) or len(layout.runs) != 1 or layout.parts:
            return files
        first, second = (np.frombuffer(file, np.uint8) for file in files[:2])
        step = second.ctypes.data - first.ctypes.data
        table = np.lib.stride_tricks.as_strided(first, (len(files), layout.size), (step, 1), writeable=False)
        if any((table[:, at : at + len(text)] != np.frombuffer(text, np.uint8)).any() for at, text in layout.fixed):
            return files
        run = layout.runs[0]
        rows = table[:, run.start : run.start + run.count * layout.width].reshape(len(files), run.count, layout.width)
        return files if rows[:, :, 0].any() else list(rows[:, :, 1:])


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

    def copy(self, file: FileBytes, rows: U8) -> bool:
        """Copy the pixels into `rows`, [height, width * channels]; False if the file is not of this layout."""
        if len(file) != self.size or any(file[at : at + len(text)] != text for at, text in self.fixed):
            return False
        data = np.frombuffer(file, np.uint8)
        for run in self.runs:
            block = data[run.start : run.start + run.count * self.width].reshape(run.count, self.width)
            if block[:, 0].any():
                return False
            rows[run.first : run.first + run.count] = block[:, 1:]
        for part in self.parts:
            start, column, size = part.start, part.column, part.size
            if column == 0:
                if file[start] != 0:
                    return False
                start, column, size = start + 1, 1, size - 1
            rows[part.row, column - 1 : column - 1 + size] = data[start : start + size]
        return True


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
    fixed, at, done = [(0, data[:_HEAD]), (len(data) - 12, _IEND)], _HEAD, 0
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
        fixed.append((at, data[at : at + 5]))
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
