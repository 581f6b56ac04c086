"""A shard's bytes from wherever it lies: a part in memory, its end as a file, or the whole of it, verified."""

from __future__ import annotations

import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ladd_data.errors import DatasetError, Problem
from ladd_data.loaders.buffers import PAGE_BYTES, Scratch
from ladd_data.loaders.reading.remote import PIECE_BYTES
from ladd_data.loaders.reading.source import LocalSource, Source, SourceError
from ladd_data.shards.container import MAX_FOOTER_BYTES
from ladd_data.shards.folder import SHARDS_PATH, Shard

_AGAIN = "Download the dataset again."
_HEADER_BYTES = 512
"""Read with each part: the header of the page behind it."""
_MOST_SLOTS = os.sysconf("SC_IOV_MAX")
"""Pieces of memory that one call of the system reads into."""
_TAIL_BYTES = 256 * 1024
"""Of a Parquet shard fetched at first: most footers are in it."""


class Window(ABC):
    """A shard, by parts."""

    def __init__(self, shard: Shard) -> None:
        """Keep which."""
        self._shard = shard

    @abstractmethod
    def part(self, position: int, size: int) -> memoryview:
        """Return bytes of the shard, fewer where it ends; the next call may use their memory again."""

    def peek(self, position: int, size: int) -> bytes:
        """Return the same as a copy."""
        return bytes(self.part(position, size))

    def land(self, position: int, head: int, slots: Sequence[memoryview]) -> bytes | None:
        """Return the first `head` bytes from a position on, and read those behind them into `slots`, one by one.

        Returns None where fewer are there, or they cannot be had in this way.
        """
        content, at = self.part(position, head + sum(map(len, slots))), head
        if len(content) < head + sum(map(len, slots)):
            return None
        for slot in slots:
            slot[:] = content[at : at + len(slot)]
            at += len(slot)
        return bytes(content[:head])

    def close(self) -> None:  # noqa: B027, nothing is open unless a subclass says so
        """Let go of what is open."""


class FetchedWindow(Window):
    """A shard from afar of which a part is in memory, fetched from its start on as far as it is asked for."""

    def __init__(self, source: Source, shard: Shard, start: int, memory: memoryview) -> None:
        """Cover the bytes from `start` on that `memory` has room for; fetch nothing yet."""
        super().__init__(shard)
        self._source, self._start, self._memory, self._there = source, start, memory, 0

    def part(self, position: int, size: int) -> memoryview:
        """Return bytes of the shard, without a copy; fewer where the part that is covered ends."""
        first = max(0, position - self._start)
        stop = min(first + size, len(self._memory))
        while self._there < stop:
            piece = self._memory[self._there : self._there + PIECE_BYTES]
            self._source.read_into(self._shard.path, self._start + self._there, piece)
            self._there += len(piece)
        return self._memory[first:stop]


class FileWindow(Window):
    """A shard on this machine, read into memory that each part uses again.

    So a page is verified and used while it is in the processor's cache, which is as fast as a memory map (measured);
    and what was verified is what is used, whatever happens to the file in between, where a map of a file that is cut
    short ends the process. Memory begins where a page of the file does: the kernel copies twice to four times as fast.
    """

    def __init__(self, path: Path, shard: Shard, scratch: Scratch) -> None:
        """Open the file; `scratch`: memory that nothing else uses meanwhile.

        Raises:
            SourceError: it cannot be opened.
        """
        super().__init__(shard)
        self._path, self._scratch = path / shard.path, scratch
        self._behind = (-1, b"")
        try:
            self._file = os.open(self._path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise _name(self._path, error) from error

    def part(self, position: int, size: int) -> memoryview:
        """Return bytes of the shard, valid until the next call.

        Raises:
            SourceError: they cannot be read, or the file has been cut short.
        """
        left = self._shard.bytes - position
        size = max(0, min(size, left))
        skipped = position % PAGE_BYTES
        end = skipped + size
        memory = self._scratch.take(end + min(_HEADER_BYTES, left - size))
        self._read_into(memory, position - skipped)
        self._behind = position + size, bytes(memory[end:])
        return memory[skipped:end]

    def peek(self, position: int, size: int) -> bytes:
        """Return the same as a copy; what is behind the last part is there already."""
        start, content = self._behind
        if position == start and size <= len(content):
            return content[:size]
        try:
            return os.pread(self._file, size, position)
        except OSError as error:
            raise _name(self._path, error) from error

    def land(self, position: int, head: int, slots: Sequence[memoryview]) -> bytes | None:
        """Read into `slots` without a copy in between, so far as the system takes so many of them at once.

        Raises:
            SourceError: it cannot be read.
        """
        if len(slots) + 2 > _MOST_SLOTS:
            return None
        front, behind = bytearray(head), bytearray(_HEADER_BYTES)
        stop = position + head + sum(map(len, slots))
        try:
            count = os.preadv(self._file, [front, *slots, behind], position)
        except OSError as error:
            raise _name(self._path, error) from error
        if position + count < stop:
            return None
        self._behind = stop, bytes(behind[: position + count - stop])
        return bytes(front)

    def _read_into(self, memory: memoryview, start: int) -> None:
        done = 0
        while done < len(memory):
            try:
                count = os.preadv(self._file, [memory[done:]], start + done)
            except OSError as error:
                raise _name(self._path, error) from error
            if not count:
                found = f"found the end at byte {start + done}; expected {self._shard.bytes} bytes"
                raise SourceError(f"{self._path}: {found}. The file was cut short: download it again.")
            done += count

    def stamp(self) -> tuple[int, int, int]:
        """Return what changes whenever a program writes to the file, or puts another in its place."""
        stat = os.fstat(self._file)
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _name(path: Path, error: OSError) -> SourceError:
    """Turn the system's errors into ours, which name the file."""
    return SourceError(f"{path}: {error.strerror or error}.")


@contextmanager
def open_end(source: Source, shard: Shard) -> Iterator[Path]:
    """Yield a path at which the end of a Parquet shard can be read: the shard, or a sparse file without a name."""
    if isinstance(source, LocalSource):
        yield source.path / shard.path
        return
    tail = bytearray(min(_TAIL_BYTES, shard.bytes))
    source.read_into(shard.path, shard.bytes - len(tail), memoryview(tail))
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < length <= min(shard.bytes, MAX_FOOTER_BYTES):
        tail = bytearray(length)
        source.read_into(shard.path, shard.bytes - length, memoryview(tail))
    with _new_file() as file:
        file.truncate(shard.bytes)
        os.pwrite(file.fileno(), b"PAR1", 0)
        os.pwrite(file.fileno(), tail, shard.bytes - len(tail))
        yield Path(f"/dev/fd/{file.fileno()}")


def _new_file() -> Any:
    return tempfile.TemporaryFile(prefix="ladd-stream-")


def fetch(source: Source, shard: Shard) -> Any:
    """Return a shard as a temporary file without a name, compared with its SHA-256 on the way."""
    file = _new_file()
    try:
        check_digest(source, shard, file)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def check_digest(source: Source, shard: Shard, target: Any) -> None:
    """Read a shard piece by piece, into `target` too, and compare it with its SHA-256."""
    state, piece = hashlib.sha256(), memoryview(bytearray(min(PIECE_BYTES, shard.bytes)))
    for start in range(0, shard.bytes, PIECE_BYTES):
        part = piece[: min(PIECE_BYTES, shard.bytes - start)]
        source.read_into(shard.path, start, part)
        state.update(part)
        if target is not None:
            target.write(part)
    if state.hexdigest() != shard.sha256:
        found, expected = f"sha256 {state.hexdigest()}", f"{shard.sha256}, as {SHARDS_PATH} says"
        raise DatasetError([Problem("LADD-003", shard.path, found, expected, _AGAIN)])
