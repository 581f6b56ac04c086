"""Many picture files into one array: stored PNGs by copying their rows, all others by Pillow.

torchvision's decoder is 1.4 to 2 times as fast as Pillow's (128 px), but ends the process on some PNGs with one bit
flipped (torchvision 0.29: "IDAT: incorrect data check", segmentation fault): it sees no foreign bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ladd_data.jpeg import decode_jpeg
from ladd_data.loaders.reading.stored_pngs import FileBytes, StoredPngs
from ladd_data.png import decode_png
from ladd_data.types import U8

THREADS = min(4, os.cpu_count() or 1)
"""That decode at once; Pillow lets go of the interpreter while it decodes."""


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


@dataclass(frozen=True, slots=True)
class PixelRows:
    """Pixels that lie in memory as they are wanted: `rows`, uint8 [images, channels, height, width]."""

    rows: U8

    def __len__(self) -> int:
        return len(self.rows)

    def copy(self, which: int | slice, out: U8) -> None:
        """Copy one image, or some."""
        out[...] = self.rows[which]
