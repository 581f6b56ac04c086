"""Bytes on disk: hashes, strict JSON, and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ladd_data.errors import LaddError, UsageError

MAX_JSON_BYTES = 16 * 2**20
"""A larger metadata file is refused before it is read (LADD-080)."""
MAX_JSON_VALUES = 400_000
"""A document of more values would cost a parser a hundred times its size in memory."""
MAX_JSON_DEPTH = 64


class LimitError(ValueError):
    """Bytes that break a limit of the format (LADD-080): nothing sensible is that large or that deep."""


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits; memory use does not grow with the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: object) -> bytes:
    """Serialise to the one form the format allows: UTF-8, two spaces, keys in given order, final newline.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def read_limited(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """Return a metadata file's bytes.

    Raises:
        LimitError: there are more than `limit`; they are not read.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > limit:
        raise LimitError(f"{size} bytes, more than the {limit} that this file may have")
    return path.read_bytes()


def parse_json_strictly(data: bytes, depth: int = MAX_JSON_DEPTH) -> Any:
    """Parse JSON, refusing what lenient parsers let pass: duplicate keys, NaN, Infinity, huge documents.

    Raises:
        LimitError: too many bytes or values, or nested more than `depth` times (LADD-080).
        ValueError: with a sentence that says what is wrong.
    """
    if len(data) > MAX_JSON_BYTES:
        raise LimitError(f"{len(data)} bytes, more than the {MAX_JSON_BYTES} a metadata file may have")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise LimitError(f"more than the {MAX_JSON_VALUES} values that a metadata file may have")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_refuse_duplicate_keys, parse_constant=_refuse_constant
        )
        if _is_deeper(value, depth):
            raise LimitError(f"nested more than the {depth} times allowed")
        canonical_json(value)  # refuses what could not be written again: 1e999, half of a surrogate pair
        return value
    except RecursionError as error:
        raise LimitError(f"nested more than the {depth} times allowed") from error


def _is_deeper(value: Any, depth: int) -> bool:
    """Tell whether lists and objects are nested more than `depth` times."""
    row = [value] if isinstance(value, list | dict) else []
    for _ in range(depth):
        row = [item for part in row for item in (part.values() if isinstance(part, dict) else part)]
        row = [item for item in row if isinstance(item, list | dict)]
        if not row:
            return False
    return True


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f'the key "{twice}" appears twice')
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part of it."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write_synced(temporary, data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Wait until the disk has a file that another library wrote."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has the folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_folder(
    target: Path,
    *,
    overwrite: bool = False,
    after: Callable[[], None] = lambda: None,
    marker: str = "meta/ladd.json",
    option: str = "-o",
) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends well.

    The work happens in `.<name>.partial` beside the target. Whatever ends the block early, a kill
    included, leaves the target as it was; the next run clears the leftovers and starts afresh. `after` is
    called when the target is in its place and no other run may write it yet. `marker` is the file by which a
    target that may be overwritten is known; `option`, what a message calls the choice of a target.

    Raises:
        UsageError: the target exists and `overwrite` is not set, or another run is writing it.
    """
    started = False
    try:
        target = target.resolve()
        if not target.name or not str(target).isprintable():
            raise UsageError(f"{str(target)!r}: cannot be the name of a dataset. Choose another {option}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with _sole_writer(target, option):
            _restore_old(target)
            _refuse_target(target, overwrite, marker, option)
            partial = target.with_name(f".{target.name}.partial")
            _discard(partial)
            partial.mkdir()
            try:
                started = True
                yield partial
                _refuse_target(target, overwrite, marker, option)
                _swap(partial, target)
                after()
            except BaseException:
                _discard(partial)
                raise
    except OSError as error:
        if not started and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(
                f"{target}: cannot be written ({error.strerror or error}). Choose another {option}."
            ) from error
        raise LaddError(f"{error.filename or target}: {error.strerror or error}. {target} was not changed.") from error


def recover(target: Path) -> None:
    """Put back the dataset that a killed --overwrite moved aside; does nothing where none was."""
    target = target.resolve()
    if _old(target).is_dir() and not target.exists():
        with _sole_writer(target):
            _restore_old(target)


@contextmanager
def _sole_writer(target: Path, option: str = "-o") -> Iterator[None]:
    """Hold the one right to write `target`, until the last rename is done."""
    path = target.with_name(f".{target.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{target}: another run is writing it now. Wait for it, or choose another -o.") from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: filelock does not give out a lock on a file without a name
        lock.release()


def _refuse_target(target: Path, overwrite: bool, marker: str, option: str) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target}: exists and is not a folder. Choose another {option}.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise UsageError(f"{target}: exists already. Choose another {option}, or add --overwrite to replace it.")
    if overwrite and target.is_dir() and any(target.iterdir()) and not (target / marker).exists():
        raise UsageError(
            f"{target}: is not a ladd dataset, so --overwrite will not replace it. Choose another {option}."
        )


def _discard(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _restore_old(target: Path) -> None:
    """Finish or undo a swap that a kill cut in two: the old content goes back to its place, or away."""
    if target.exists():
        shutil.rmtree(_old(target), ignore_errors=True)
    elif _old(target).is_dir():
        _old(target).rename(target)


def _swap(partial: Path, target: Path) -> None:
    """Put `partial` in the place of `target`; in between, the old content waits under `.<name>.old`."""
    for folder, _, names in os.walk(partial):
        for name in names:
            sync_file(Path(folder) / name)
        sync_folder(Path(folder))
    try:
        if target.exists():
            target.rename(_old(target))
        partial.rename(target)
    except BaseException:
        _restore_old(target)
        raise
    with suppress(OSError):  # the new content is in its place: nothing that fails now changes that
        sync_folder(target.parent)
    shutil.rmtree(_old(target), ignore_errors=True)
