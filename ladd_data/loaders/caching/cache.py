"""The user's cache of decoded datasets: each an Arrow edition, made once, mapped by every process that trains.

An entry is a folder `<dataset digest>-<16 digits of its files' digest>` with the edition (`dataset/`), the
checksums of what loaders read (`checks.json`, `rows.npy`), and which files it was made of (`sources.json`). It
appears whole or not at all; a file lock lets one process make it while others wait.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ladd_data.errors import DatasetError, LaddError, UsageError
from ladd_data.files import read_limited, sync_file, sync_folder, write_atomically
from ladd_data.shards.folder import Folder, check_files

DATASET, CHECKS, ROWS, SOURCES = "dataset", "checks.json", "rows.npy", "sources.json"

_KEY = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}")
"""The cache may be in a folder with other things: nothing of another name is listed or removed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached dataset: its key, its folder, bytes on disk, and when it was last opened (seconds since 1970)."""

    key: str
    path: Path
    bytes: int
    used: float

    @property
    def digest(self) -> str:
        """The dataset's digest."""
        return self.key.split("-")[0]


def cache_root() -> Path:
    """Return the cache's folder: $LADD_CACHE, else ladd-data in $XDG_CACHE_HOME or ~/.cache; it may not be there.

    Raises:
        UsageError: none of them is known.
    """
    if named := os.environ.get("LADD_CACHE"):
        return Path(named)
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "ladd-data"
    try:
        return Path.home() / ".cache" / "ladd-data"
    except RuntimeError as error:
        raise UsageError(f"no folder for the cache ({error}): set LADD_CACHE to one.") from error


def key_of(folder: Folder) -> str:
    """Return the key of a dataset's entry: its digest, and what tells its files, hence its order, from others'."""
    files = hashlib.sha256(folder.metadata())
    return f"{folder.manifest.digest}-{files.hexdigest()[:16]}"


def list_entries() -> list[Entry]:
    """Return what is in the cache, that used last first."""
    found = [_describe(path) for path in cache_root().glob("*") if _KEY.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda entry: -entry.used)


def clear_cache(digest: str | None = None) -> list[Entry]:
    """Remove entries, and return what was removed; a process that has one mapped keeps it until it ends.

    Args:
        digest: the beginning of a dataset's digest or of a key; None for all, leftovers of killed runs included.

    Raises:
        UsageError: no entry begins so.
    """
    root, chosen = cache_root(), [entry for entry in list_entries() if entry.key.startswith(digest or "")]
    if digest is not None and not chosen:
        raise UsageError(f'no cached dataset begins with "{digest}". "ladd cache list" names those there are.')
    for entry in chosen:
        with _holding(entry.key):
            gone = root / f".{entry.key}.gone"
            shutil.rmtree(gone, ignore_errors=True)
            entry.path.rename(gone)
            shutil.rmtree(gone)
    if digest is None:
        _clear_leftovers(root)
    return chosen


def _clear_leftovers(root: Path) -> None:
    """Remove what killed runs have left; what another process is making stays."""
    for path in root.glob(".*"):
        key, kind = path.name[1:].removesuffix(path.suffix), path.suffix
        if _KEY.fullmatch(key) and kind in (".partial", ".gone"):
            with suppress(Timeout), _holding(key, wait=False):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def new_entry(key: str) -> Iterator[Path | None]:
    """Hold the right to make an entry: yields an empty folder that becomes it, or None where it is there already.

    Waits while another process makes it. Whatever ends the block early leaves nothing behind.

    Raises:
        LaddError: the cache cannot be written.
    """
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _holding(key):
            if (root / key).is_dir():
                yield None
                return
            partial = root / f".{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                yield partial
                for name in (CHECKS, ROWS):
                    sync_file(partial / name)
                sync_folder(partial)
                partial.rename(root / key)
                sync_folder(root)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except (OSError, LaddError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise LaddError(
            f"{cause.filename or root}: {cause.strerror or cause}. The cache cannot be written: set LADD_CACHE to a "
            'folder with room, or choose another placement, such as placement="resident".'
        ) from error


def discard(key: str) -> None:
    """Remove an entry that was found damaged, if it is there."""
    with _holding(key):
        shutil.rmtree(cache_root() / key, ignore_errors=True)


def stamp(folder: Folder) -> list[list[int]]:
    """Return size, times and inode of each shard: what changes whenever a program writes to it."""
    stats = [path.stat() for path in folder.files()]
    return [[stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for stat in stats]


def vouch(folder: Folder, stamps: list[list[int]]) -> None:
    """Note in a dataset's entry, if it has one, that its shards were whole when they had these stamps."""
    with suppress(OSError, UsageError):
        path = cache_root() / key_of(folder) / SOURCES
        if path.parent.is_dir():
            notes = {**_read_notes(path), str(folder.path.resolve()): stamps}
            write_atomically(path, json.dumps(notes).encode())


def is_vouched(folder: Folder) -> bool:
    """Tell whether the shards are those that were compared with their checksums since their entry was made.

    They need not be hashed again to open the dataset: its entry is what is read.
    """
    with suppress(OSError, UsageError):
        notes = _read_notes(cache_root() / key_of(folder) / SOURCES)
        return notes.get(str(folder.path.resolve())) == stamp(folder)
    return False


def is_cached(folder: Folder) -> bool:
    """Tell whether a dataset has an entry."""
    with suppress(OSError, UsageError):
        return (cache_root() / key_of(folder)).is_dir()
    return False


def mark_used(path: Path) -> None:
    """Note that an entry has been opened now."""
    with suppress(OSError):
        os.utime(path)


def _describe(path: Path) -> Entry:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Entry(path.name, path, size, path.stat().st_mtime)


def _read_notes(path: Path) -> dict[str, list[list[int]]]:
    try:
        notes = json.loads(read_limited(path))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


@contextmanager
def _holding(key: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of an entry; the file goes with it."""
    path = cache_root() / f".{key}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        began = time.monotonic()
        _log.info("waiting for another process that makes %s", cache_root() / key)
        lock.acquire()
        _log.info("waited %.1f s", time.monotonic() - began)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: filelock does not give out a lock on a file without a name
        lock.release()


def verify_once(folder: Folder) -> None:
    """Compare every shard with its checksum; the cache, if it has the dataset, notes that it was done.

    Raises:
        DatasetError: a shard is missing or changed; every problem found.
    """
    stamps: list[list[int]] = []
    with suppress(OSError):  # a shard that is missing, which is said below
        stamps = stamp(folder)
    if problems := check_files(folder, verify=True):
        raise DatasetError(problems)
    vouch(folder, stamps)
