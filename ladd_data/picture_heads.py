"""Picture files' first bytes: of what kind and size each is, or why it cannot be stored. Nothing is decoded."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from PIL import Image

from ladd_data.jpeg import HeaderCutError, read_jpeg_header

PEEK_BYTES = 4096
"""Of each file, to find its size in; more are read only where these do not hold it."""
READ_BYTES = 2**18
LOOKS_AT_ONCE = 4096
THREADS = 2
"""That look at files at the same time; more than two wait for each other."""

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
_CHANNELS = {"1": 1, "L": 1, "LA": 1, "P": 3, "RGB": 3, "RGBA": 3, "PA": 3}
"""Channels that a picture of a Pillow mode is stored with."""


@dataclass(frozen=True, slots=True)
class Peek:
    """What the first bytes of a file say; `head` is those of a JPEG, up to its first scan."""

    is_jpeg: bool
    channels: int
    height: int
    width: int
    head: bytes = field(default=b"", compare=False)


@dataclass(slots=True)
class Seen:
    """How many files of each kind there are, the first of each kind, and those of each fault."""

    found: Counter[Peek] = field(default_factory=Counter)
    first: dict[Peek, str] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def add(self, later: Seen) -> None:
        """Count files that come after these."""
        self.found += later.found
        for peek, path in later.first.items():
            self.first.setdefault(peek, path)
        for reason, paths in later.wrong.items():
            self.wrong.setdefault(reason, []).extend(paths)


def look_at(paths: list[str], give: Callable[[int], bytes] | None) -> Seen:
    """Look at all files, in threads: opening a small file takes longer than looking at it."""
    cuts = [range(start, min(start + LOOKS_AT_ONCE, len(paths))) for start in range(0, len(paths), LOOKS_AT_ONCE)]
    seen = Seen()
    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(lambda cut: _look_at_some(paths, cut, give), cuts):
            seen.add(part)
    return seen


def _look_at_some(paths: list[str], numbers: range, give: Callable[[int], bytes] | None) -> Seen:
    seen = Seen()
    last, alike = Peek(False, 0, 0, 0), 0  # the one looked at last, and how many were like it to the byte
    for number in numbers:
        path = paths[number]
        try:
            data = give(number) if give else read_file(path, PEEK_BYTES)
            if last.head and data.startswith(last.head):  # as most do: the tables of one encoder at one quality
                alike += 1
                continue
            peek = _peek(path, data, whole=give is not None)
        except (OSError, ValueError) as error:
            seen.wrong.setdefault(getattr(error, "strerror", None) or str(error), []).append(path)
            continue
        seen.first.setdefault(peek, path)
        if alike:
            seen.found[last] += alike
        last, alike = peek, 1
    if alike:
        seen.found[last] += alike
    return seen


def _peek(path: str, data: bytes, *, whole: bool) -> Peek:
    """Return what a file is, from its first bytes; `whole`: these are all it has.

    Raises:
        OSError: it cannot be read again.
        ValueError: it cannot be stored; says why, in words that are the same for the same fault.
    """
    if not data:
        raise ValueError("an empty file")
    if data.startswith(b"\xff\xd8"):
        try:
            header = read_jpeg_header(data)
        except HeaderCutError:
            data = data if whole else read_file(path)
            header = read_jpeg_header(data)
        if header.orientation != 1:
            raise ValueError("a picture whose EXIF note turns it")
        return Peek(True, header.channels, header.height, header.width, data[: header.scan])
    return _peek_other(io.BytesIO(data) if whole else path, data)


def _peek_other(file: str | io.BytesIO, data: bytes) -> Peek:
    if data.startswith(b"version https://git-lfs"):
        raise ValueError("a Git LFS pointer, not the file")
    if data.startswith(b"\x89PNG") and len(data) > 24 and data[24] == 16:
        raise ValueError("a PNG of 16 bits a channel")
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            mode, turned = picture.mode, picture.getexif().get(0x0112, 1) not in (0, 1)
            moves = getattr(picture, "is_animated", False)
    except Image.DecompressionBombError as error:
        raise ValueError("a picture of too many pixels") from error
    except Exception as error:  # any bytes at all: a decoder's error may be of any kind
        raise ValueError("a file that is no picture") from error
    if mode not in _CHANNELS:
        raise ValueError(f"a picture of mode {mode}")
    if turned:
        raise ValueError("a picture whose EXIF note turns it")
    if moves:
        raise ValueError("a picture of several frames")
    return Peek(False, _CHANNELS[mode], height, width)


def read_file(path: str, limit: int | None = None) -> bytes:
    """Return a file's bytes, or the first of them; a third of the time that `Path.read_bytes` takes for small files."""
    handle = os.open(path, os.O_RDONLY)
    try:
        if limit is not None:
            return os.read(handle, limit)
        parts = [os.read(handle, READ_BYTES)]
        while len(parts[-1]) == READ_BYTES:
            parts.append(os.read(handle, READ_BYTES))
        return b"".join(parts) if len(parts) > 1 else parts[0]
    finally:
        os.close(handle)
