"""Ranges of bytes of a dataset's files: what every place that it may lie in gives, and a folder on this machine."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from ladd_data.errors import LaddError
from ladd_data.files import MAX_JSON_BYTES


class SourceError(LaddError):
    """Bytes that could not be had: says from where, how often it was tried and what happened each time."""


class Source(ABC):
    """A dataset folder somewhere, read by ranges."""

    def __init__(self, name: str) -> None:
        """Name the place as the caller does."""
        self.name = name
        self.stop = threading.Event()
        """Set to end every wait at once, with a StoppedError."""

    def stamp(self, path: str) -> Any:
        """Return what changes whenever a program writes to a file, or puts another in its place; None where unknown."""
        return None

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Return a file's bytes; None where it cannot be known without reading it.

        Raises:
            SourceError: it is not there, or cannot be had.
        """

    @abstractmethod
    def read_into(self, path: str, start: int, target: memoryview) -> None:
        """Fill `target` with a file's bytes from `start` on.

        Raises:
            SourceError: they cannot be had.
        """

    @abstractmethod
    def read_all(self, path: str) -> bytes | None:
        """Return a metadata file whole, of at most MAX_JSON_BYTES + 1 bytes; None where there is none."""


class LocalSource(Source):
    """A folder on this machine."""

    def __init__(self, path: Path) -> None:
        """Look at nothing yet."""
        super().__init__(str(path))
        self.path = path

    def stamp(self, path: str) -> Any:
        """Return inode, size and time of the last change."""
        try:
            stat = (self.path / path).stat()
        except OSError as error:
            raise SourceError(f"{self.path / path}: {error.strerror or error}.") from error
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def size(self, path: str) -> int:
        """Return a file's bytes."""
        try:
            return (self.path / path).stat().st_size
        except OSError as error:
            raise SourceError(f"{self.path / path}: {error.strerror or error}.") from error

    def read_into(self, path: str, start: int, target: memoryview) -> None:
        """Fill `target` from the file."""
        try:
            with (self.path / path).open("rb", buffering=0) as file:
                file.seek(start)
                done = 0
                while done < len(target):
                    count = file.readinto(target[done:])
                    if not count:
                        found = f"found the end at byte {start + done}; expected {start + len(target)}"
                        raise SourceError(f"{self.path / path}: {found}. The file was cut short: download it again.")
                    done += count
        except OSError as error:
            raise SourceError(f"{self.path / path}: {error.strerror or error}.") from error

    def read_all(self, path: str) -> bytes | None:
        """Return the first MAX_JSON_BYTES + 1 bytes of a file; None where there is none."""
        try:
            with (self.path / path).open("rb") as file:
                return file.read(MAX_JSON_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"{self.path / path}: {error.strerror or error}.") from error
