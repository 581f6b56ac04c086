"""A shard's bytes from wherever it lies: a part in memory, its end as a file, or the whole of it, verified."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ladd_data.errors import DatasetError, Problem
from ladd_data.loaders.remote import PIECE_BYTES, LocalSource, Source
from ladd_data.shards.container import MAX_FOOTER_BYTES
from ladd_data.shards.folder import SHARDS_PATH, Shard

_AGAIN = "Download the dataset again."
_TAIL_BYTES = 256 * 1024
"""Of a Parquet shard fetched at first: most footers are in it."""
_CACHED = 2**20
"""Read at once from a disk: few enough to be compared while they are in the processor's cache."""


class Window:
    """A shard of which a part is in memory, fetched from its start on as far as it is asked for; pyarrow reads it."""

    closed = False

    def __init__(self, source: Source, shard: Shard, start: int, memory: memoryview) -> None:
        """Cover the bytes from `start` on that `memory` has room for; fetch nothing yet."""
        self._source, self._shard, self._start, self._memory = source, shard, start, memory
        self._step = _CACHED if isinstance(source, LocalSource) else PIECE_BYTES
        self._there = self._at = 0

    def part(self, position: int, size: int) -> memoryview:
        """Return bytes of the shard, without a copy; fewer where the part that is covered ends."""
        first = max(0, position - self._start)
        stop = min(first + size, len(self._memory))
        while self._there < stop:
            piece = self._memory[self._there : self._there + self._step]
            self._source.read_into(self._shard.path, self._start + self._there, piece)
            self._there += len(piece)
        return self._memory[first:stop]

    def peek(self, position: int, size: int) -> bytes:
        """Return the same as a copy."""
        return bytes(self.part(position, size))

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self.peek(self._at, size if size >= 0 else self._shard.bytes)
        self._at += len(data)
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        """Move; as files do."""
        self._at = position + (0, self._at, self._shard.bytes)[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is not."""
        return False

    def close(self) -> None:
        """Nothing is open."""


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
