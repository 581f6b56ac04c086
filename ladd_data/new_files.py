"""New files that libraries stream into: hashed by a thread as they grow, or written in large pieces, to be mapped."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

_HELD_BYTES = 2**20
"""Of a file that a thread writes: handed to it at once."""
_PIECE_BYTES = 2**22
"""Of a file that is to be mapped: written at once; a multiple of what one step maps at most (2 MiB, Linux)."""


class HashingFile:
    """A new file that a thread of its own writes and hashes: a gigabyte need not be read back, nor waited for.

    What pyarrow asks of a file: `write`, `flush`, `tell`, `close`, `closed`. Of what was written, a few MB are
    held until the thread has come to them; what fails there is raised by the next call.
    """

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._path, self._file = path, path.open("wb")
        self._state = hashlib.sha256()
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1)
        self._job: Future[None] | None = None
        self._held: list[bytes] = []
        self._held_bytes = self._bytes = 0
        self._abandoned = self._closed = False

    def write(self, data: bytes) -> int:
        """Append bytes; may wait for those before them."""
        self._held.append(data)
        self._held_bytes += len(data)
        self._bytes += len(data)
        if self._held_bytes >= _HELD_BYTES:
            self._pass_on()
        return len(data)

    def flush(self) -> None:
        """Wait until all that was written is in the file."""
        self._pass_on()
        self._wait()
        if not self._file.closed:
            self._file.flush()

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._bytes

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def rest(self) -> None:
        """Bring what was written to the disk, without waiting for it; no file is open then, until more is written."""
        self._pass_on()
        self._wait()
        if self._pool is not None:
            self._job = self._pool.submit(self._settle)
            self._pool.shutdown(wait=False)
            self._pool = None

    def wait(self) -> None:
        """Wait for what `rest` began."""
        self._wait()

    def abandon(self) -> None:
        """Close the file as it is; what is written from now on, goes nowhere."""
        self._abandoned = True
        if self._job is not None:
            self._job.exception()  # waits for it; that it failed may be why the file is given up
        if self._pool is not None:
            self._pool.shutdown()
        with suppress(OSError):
            self._file.close()

    def close(self) -> None:
        """Close the file, with all that was written in it."""
        if not self._closed and not self._abandoned:
            self.flush()
            if self._pool is not None:
                self._pool.shutdown()
            self._file.close()
        self._closed = True

    def sha256(self) -> str:
        """Return the SHA-256 of all that was written, once it is closed."""
        return self._state.hexdigest()

    def _pass_on(self) -> None:
        """Hand what is held to the thread; or write it now, where there is none any more."""
        self._wait()
        data, self._held, self._held_bytes = self._held, [], 0
        if self._abandoned or not data:
            return
        if self._pool is not None:
            self._job = self._pool.submit(self._append, data)
        else:
            self._append(data)

    def _append(self, parts: list[bytes]) -> None:
        if self._file.closed:
            self._file = self._path.open("ab")
        for data in parts:
            self._file.write(data)
            self._state.update(data)

    def _settle(self) -> None:
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())

    def _wait(self) -> None:
        if self._job is not None and not self._abandoned:
            self._job.result()


class FileToMap:
    """A new file that is written in whole, aligned pieces of 4 MiB from memory, for those who will map it.

    Linux keeps in memory what one write brought in blocks as large (up to 2 MiB; XFS, ext4 from 6.16 on), and maps each
    of them at once; of a file that came piecemeal, or straight from a map, it maps 64 KiB at a time. Measured (6.18,
    ext4; `benchmarks/loaders.py`): a first pass over rows of 48 KiB in random order takes 16 us a row, not 23.
    What pyarrow asks of a file: `write`, `flush`, `tell`, `close`, `closed`.
    """

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._file = path.open("wb", buffering=0)
        self._piece, self._filled, self._written = memoryview(bytearray(_PIECE_BYTES)), 0, 0

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        rest = memoryview(data).cast("B")
        while rest:
            part = rest[: _PIECE_BYTES - self._filled]
            self._piece[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rest = rest[len(part) :]
            if self._filled == _PIECE_BYTES:
                self._put()
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is less than a piece waits for its rest."""

    def tell(self) -> int:
        """Return how many bytes were appended."""
        return self._written + self._filled

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def close(self) -> None:
        """Write the rest, and close."""
        with self._file:
            self._put()

    def _put(self) -> None:
        rest = self._piece[: self._filled]
        self._written, self._filled = self._written + self._filled, 0
        while rest:
            rest = rest[self._file.write(rest) :]
