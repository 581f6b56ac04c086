"""Picture files that a method wrote, read one at a time: what a converter hands over in place of a tensor.

`open_pictures` looks at every file's first bytes, so that what cannot be one dataset is refused before
anything is written; nothing is decoded that will be kept byte for byte.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from ladd_data.errors import ConvertError, UsageError
from ladd_data.joined_files import JoinedFiles, join_files
from ladd_data.jpeg import (
    JPEG_END,
    check_jpeg,
    check_jpeg_end,
    decode_jpeg,
    max_jpeg_bytes,
)
from ladd_data.manifest import MAX_PIXELS, MAX_SIDE
from ladd_data.picture_heads import FORMATS, Peek, look_at, read_file
from ladd_data.types import U8


@runtime_checkable
class Pictures(Protocol):
    """Images of one size, as files, in record order. Nothing is held in memory.

    `read` and `decode` are called from several threads at once.
    """

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels (1 or 3), height and width."""

    @property
    def encoding(self) -> Literal["jpeg", "png"]:
        """What is stored: "jpeg": every file, byte for byte; "png": what they decode to, as our PNG."""

    def file(self, number: int) -> str:
        """Return the path of the file that image `number` comes from, for messages and for the record of sources."""

    def read(self, number: int) -> bytes:
        """Return the bytes of image `number`, as they stand in its file.

        Raises:
            ConvertError: it cannot be read, or breaks off; names the file.
        """

    def decode(self, number: int, data: bytes) -> U8:
        """Return the pixels of image `number`, uint8 [channels, height, width]; `data` is what `read` gave.

        Raises:
            ConvertError: it is damaged; names the file.
        """


class FilePictures:
    """Picture files of one size. Made by `open_pictures`.

    notes: what a person should know of how they are stored; one sentence each.
    """

    def __init__(
        self,
        files: Sequence[str],
        shape: tuple[int, int, int],
        encoding: Literal["jpeg", "png"],
        notes: tuple[str, ...],
        give: Callable[[int], bytes] | None = None,
    ) -> None:
        """Keep what was found; `shape` is channels, height and width of each, `give` what reads what is no file."""
        self._files, self._shape, self._encoding, self.notes, self._give = files, shape, encoding, notes, give
        self._limit = max_jpeg_bytes(*shape)
        self._bytes_each = 16384  # a guess, until some were read

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height and width."""
        return (len(self._files), *self._shape)

    @property
    def encoding(self) -> Literal["jpeg", "png"]:
        """What they are stored as."""
        return self._encoding

    def file(self, number: int) -> str:
        """Return the path of image `number`."""
        return self._files[number]

    def read(self, number: int) -> bytes:
        """Return the bytes of image `number`; a JPEG that is kept is checked to be whole.

        Its header was looked at before, by `open_pictures`.
        """
        path = self._files[number]
        try:
            data = self._give(number) if self._give else read_file(path)
            if self._encoding == "jpeg":
                if not data.endswith(JPEG_END):
                    check_jpeg_end(data)
                if len(data) > self._limit:
                    raise ValueError(f"a JPEG of {len(data)} bytes, more than the {self._limit} allowed for its size")
        except OSError as error:
            raise ConvertError(f"{path}: {error.strerror or error}.") from error
        except ValueError as error:
            raise ConvertError(f"{path}: found {error}. {_WRITE_AGAIN}") from error
        return data

    def read_joined(self, numbers: range) -> JoinedFiles:
        """Return what `read` gives for each of several images; for JPEG files in half of its time."""
        if self._give is not None or self._encoding != "jpeg":
            return join_files([self.read(number) for number in numbers])
        most = self._limit + 1  # enough to tell that a file is too large
        room = np.empty(len(numbers) * self._bytes_each + most, np.uint8)
        view, at, ends = room.data, 0, [0]
        for number in numbers:
            if len(room) < at + most:
                room = np.concatenate([room, np.empty(len(room) // 2 + most, np.uint8)])
                view = room.data
            size = _read_into(self._files[number], view[at : at + most])
            if not 2 < size < most or view[at + size - 2 : at + size] != JPEG_END:
                data = self.read(number)  # says what is wrong with it
                size = len(data)
                room[at : at + size] = np.frombuffer(data, np.uint8)
            at += size
            ends.append(at)
        self._bytes_each = max(1, at * 5 // (4 * len(numbers)))
        return JoinedFiles(room, np.array(ends, np.int32))

    def decode(self, number: int, data: bytes) -> U8:
        """Return the pixels of image `number`; palettes become RGB, and greyscale where others are RGB."""
        try:
            if self._encoding == "jpeg":
                return decode_jpeg(data, *self._shape)
            return _decode(data, self._shape)
        except ValueError as error:
            raise ConvertError(f"{self._files[number]}: found {error}. {_WRITE_AGAIN}") from error


_CHANGED = "another size or colour kind than at first sight: the file has changed"
_WRITE_AGAIN = "Write it again, or leave it out."


def open_pictures(files: Sequence[str | Path], give: Callable[[int], bytes] | None = None) -> FilePictures:
    """Look at picture files of one size, and decide how they will be stored.

    All of them JPEG and of one colour kind: kept byte for byte. Any others that can be decoded: as PNG,
    RGB where any is.

    Args:
        files: in record order; as text where they are many, which is quicker.
        give: returns the bytes of image `number`, where pictures lie in something else than files of their own;
            `files` are then no more than what messages call them. Called from several threads at once.

    Raises:
        UsageError: there are none.
        ConvertError: some are empty, no picture, CMYK, 16-bit, turned by an EXIF note, too large, or of
            several sizes; names the first, says how many, and what to do.
    """
    if not files:
        raise UsageError("no picture files were found.")
    paths = [os.fspath(path) for path in files]
    seen = look_at(paths, give)
    if seen.wrong:
        reason, bad = max(seen.wrong.items(), key=lambda item: len(item[1]))
        others = sum(map(len, seen.wrong.values())) - len(bad)
        more = f", and {others} with other faults" if others else ""
        raise ConvertError(f"{bad[0]}: found {reason} ({len(bad)} of {len(paths)} files{more}). {_way_out(reason)}")
    _refuse_sizes(seen.found, seen.first)
    return _decide(paths, seen.found, give)


def _refuse_sizes(found: Counter[Peek], first: dict[Peek, str]) -> None:
    sizes: Counter[tuple[int, int]] = Counter()
    for peek, count in found.items():
        sizes[peek.width, peek.height] += count
    (width, height), most = sizes.most_common(1)[0]
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ConvertError(
            f"found pictures of {width}x{height}; expected at most {MAX_PIXELS} pixels, {MAX_SIDE} a side."
        )
    if len(sizes) > 1:
        odd = next(peek for peek in first if (peek.width, peek.height) != (width, height))
        raise ConvertError(
            f"{first[odd]}: found a picture of {odd.width}x{odd.height} among {most} of {width}x{height} "
            f"({sizes.total() - most} of {sizes.total()} files differ); expected one size. "
            "Convert each size by itself, or resize them."
        )


def _decide(paths: list[str], found: Counter[Peek], give: Callable[[int], bytes] | None) -> FilePictures:
    channels = {peek.channels for peek in found}
    one = next(iter(found))
    shape = (max(channels), one.height, one.width)
    if all(peek.is_jpeg for peek in found) and len(channels) == 1:
        return FilePictures(paths, shape, "jpeg", (), give)
    notes = []
    jpegs = sum(count for peek, count in found.items() if peek.is_jpeg)
    if jpegs:
        why = "others are not JPEG" if jpegs < len(paths) else "some are greyscale and others RGB"
        notes.append(f"{jpegs} JPEG files are stored as the PNG of what they decode to, because {why}.")
    if len(channels) > 1:
        grey = sum(count for peek, count in found.items() if peek.channels == 1)
        notes.append(f"{grey} greyscale files are stored as RGB, because the others are RGB.")
    return FilePictures(paths, shape, "png", tuple(notes), give)


def _read_into(path: str, room: memoryview) -> int:
    """Read a file's first bytes to where they are needed; return how many there were, 0 if it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        return os.readv(handle, [room])
    except OSError:
        return 0
    finally:
        os.close(handle)


def _way_out(reason: str) -> str:
    for word, advice in (
        ("empty", "Its writing was cut short: make these files again, or leave them out."),
        ("LFS", 'Fetch the files: "git lfs pull".'),
        ("EXIF", 'Turn the pixels and drop the note: "mogrify -auto-orient" (or leave them out).'),
        ("16 bits", "Choose the 8 bits to keep, and write these files again."),
        ("CMYK", 'Turn them into RGB: "mogrify -colorspace sRGB".'),
        ("mode", "Write them again as 8-bit RGB or greyscale."),
        ("no picture", "Leave it out, or download it again (an error page or a part of a file looks like this)."),
    ):
        if word in reason:
            return advice
    return "Write these files again, or leave them out."


def _decode(data: bytes, shape: tuple[int, int, int]) -> U8:
    """Return the pixels of a picture that will be stored as PNG.

    Raises:
        ValueError: it is damaged, see-through, or of another size.
    """
    channels, height, width = shape
    if data.startswith(b"\xff\xd8"):
        found = check_jpeg(data).channels
        return np.broadcast_to(decode_jpeg(data, found, height, width), shape)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.size != (width, height):
                raise ValueError(_CHANGED)
            if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema()[0] != 255:
                raise ValueError("a picture that is see-through in places")
            array = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
    except ValueError:
        raise
    except Exception as error:  # any bytes at all: a decoder's error may be of any kind
        raise ValueError(f"a damaged picture ({error})") from error
    return np.ascontiguousarray(array.reshape(height, width, channels).transpose(2, 0, 1))
