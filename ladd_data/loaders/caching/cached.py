"""The cached loader: decoded once into the user's cache, memory-mapped by every later run."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import xxhash

from ladd_data.errors import DatasetError, Problem, say_place
from ladd_data.files import write_synced
from ladd_data.loaders.batches import DECODED, KEPT, BatchMaker
from ladd_data.loaders.buffers import Buffers
from ladd_data.loaders.caching.cache import (
    CHECKS,
    DATASET,
    ROWS,
    cache_root,
    discard,
    key_of,
    mark_used,
    new_entry,
    stamp,
    vouch,
)
from ladd_data.loaders.caching.columns import Column, MappedColumn, WholeColumn, WrongRowError, hash_row
from ladd_data.loaders.decode import to_tensors
from ladd_data.loaders.loader import Loader, Placement
from ladd_data.loaders.prefetch import make_ahead
from ladd_data.loaders.schedule import Schedule, Slots
from ladd_data.manifest import MANIFEST_PATH, Manifest
from ladd_data.shards.bare import BareFolder
from ladd_data.shards.folder import Folder, open_folder
from ladd_data.shards.images import PixelImages
from ladd_data.shards.layout import Records, pick
from ladd_data.types import I64, U8, Array, Batch
from ladd_data.writer import new_dataset

_ALWAYS = ("image", "label")
"""Columns that every batch has."""
_JOINED_BYTES = 64 * 2**20
"""A column up to this size is copied into memory when the entry is opened; a larger one stays mapped."""


class Source(Protocol):
    """What a dataset is to its loaders."""

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""

    def unpacked(self) -> Iterator[tuple[int, Records, U8]]:
        """Yield (first record's number, records, pixels), verified, a row group at a time."""


@dataclass(frozen=True, slots=True)
class Cached:
    """An opened entry.

    folder: the Arrow edition; columns: by name, `image`, `label` and label columns.
    """

    folder: Folder
    columns: dict[str, Column]

    def gather(self, name: str, index: I64, out: Array) -> None:
        """Copy rows of a column, as `Column.gather` does.

        Raises:
            DatasetError: one is not what was written; names file and record.
        """
        try:
            self.columns[name].gather(index, out)
        except WrongRowError as error:
            raise DatasetError([_blame(self.folder, name, error)]) from error


def open_cached(source: Source, folder: Folder) -> Cached:
    """Open a dataset's entry, made first where there is none or what is there is damaged.

    Args:
        source: the dataset, read only where the entry has to be made.
        folder: its files.

    Raises:
        DatasetError: the dataset cannot be decoded.
        LaddError: the cache cannot be written.
    """
    key = key_of(folder)
    path = cache_root() / key
    if path.is_dir():
        try:
            return _open(path, folder)
        except (DatasetError, OSError, ValueError, KeyError):
            discard(key)
    made, stamps = False, stamp(folder)
    with new_entry(key) as partial:
        if partial is not None:
            _make(partial, source, folder)
            made = True
    if made:
        vouch(folder, stamps)  # the records were compared with the manifest's digest
    return _open(path, folder)


class CachedLoader(Loader):
    """Gathers batches from mapped files into memory that is used again, one batch ahead, in a thread."""

    def __init__(self, cached: Cached, make: BatchMaker, schedule: Schedule, digest: str, placement: Placement) -> None:
        """Read nothing yet."""
        super().__init__(schedule, digest, placement)
        wanted = {name: column for name, column in cached.columns.items() if make.wants(name) or name in _ALWAYS}
        self._cached, self._make = Cached(cached.folder, _decode_early(wanted, make, schedule.count)), make
        self._buffers = {name: Buffers(column.shape, column.dtype) for name, column in self._cached.columns.items()}

    def _batches(self, steps: Iterator[Slots]) -> Generator[Batch, None, None]:
        yield from make_ahead(self.gather, steps)

    def gather(self, slots: Slots) -> Batch:
        """Return the batch of a step; rows are compared with their hashes when they are first read."""
        index, arrays = slots.index, {}
        for name, buffers in self._buffers.items():
            arrays[name] = buffers.lend(len(index))
            self._cached.gather(name, index, arrays[name])
        tensors = to_tensors(arrays, self._make.device, copy=False)
        return self._make.make(slots, tensors.pop("image"), tensors.pop("label"), tensors)


def _decode_early(columns: dict[str, Column], make: BatchMaker, count: int) -> dict[str, Column]:
    """Return columns of `count` records with dense labels decoded, where they are in memory and few."""
    labels = {name: column for name, column in columns.items() if name not in _ALWAYS}
    whole = {name: column.values for name, column in labels.items() if isinstance(column, WholeColumn)}
    if len(whole) < len(labels):
        return columns
    pixel_bytes = count * math.prod(columns["image"].shape)
    decoded = make.decode_early(to_tensors(whole, copy=False), pixel_bytes)
    if DECODED not in decoded:
        return columns
    plain: dict[str, Column] = {name: WholeColumn(values.numpy()) for name, values in decoded.items()}
    return {name: columns[name] for name in _ALWAYS} | plain


def _open(path: Path, source: Folder) -> Cached:
    """Open an entry: sizes, shard list, manifest and small columns are checked, rows when they are read."""
    folder = open_folder(path / DATASET, verify=False)
    if folder.content != source.content:
        raise ValueError("the manifest is not the dataset's")
    checks = json.loads((path / CHECKS).read_bytes())
    hashes = np.load(path / ROWS, allow_pickle=False)
    if hashes.shape != (folder.manifest.images.count, len(checks["rows"])) or hashes.dtype != np.uint64:
        raise ValueError("hashes of other records")
    pieces: dict[str, list[Array]] = {}
    for _, _, records in folder.records():
        for name, values in _kept(records).items():
            pieces.setdefault(name, []).append(values)
    columns: dict[str, Column] = {}
    for name, parts in pieces.items():
        if name in checks["rows"]:
            columns[name] = MappedColumn(parts, np.ascontiguousarray(hashes[:, checks["rows"].index(name)]))
            continue
        joined = np.concatenate(parts)
        if _hash_column(parts) != checks["columns"][name]:
            raise ValueError(f'column "{name}" is damaged')
        columns[name] = WholeColumn(joined)
    mark_used(path)
    return Cached(folder, columns)


def _make(partial: Path, source: Source, folder: Folder) -> None:
    """Decode a dataset into an entry's folder."""
    manifest = source.manifest
    count, content = manifest.images.count, folder.content
    hashes: dict[str, list[int]] = {}
    states: dict[str, xxhash.xxh3_128] = {}
    sizes: dict[str, int] = {}
    with new_dataset(partial / DATASET, manifest.classes, folder.layout, count, edition="arrow") as writer:
        for _, records, pixels in source.unpacked():
            writer.add(records, pixels)
            for name, values in _kept(records, pixels).items():
                flat = np.ascontiguousarray(values).reshape(len(records), -1)
                states.setdefault(name, xxhash.xxh3_128()).update(flat.data)
                hashes.setdefault(name, []).extend(map(hash_row, flat))
                sizes[name] = sizes.get(name, 0) + values.nbytes
        digests = writer.digests()
        pair = digests.dataset, manifest.digest
        if isinstance(folder, BareFolder):  # the dataset's digest is over its dense labels, too
            pair = digests.images, manifest.images.digest
        if pair[0] != pair[1]:
            fix = 'Run "ladd validate" on it.'
            raise DatasetError([Problem("LADD-026", MANIFEST_PATH, f"digest {pair[0]}", pair[1], fix)])
        writer.seal(manifest, content)
    rows = [name for name, size in sizes.items() if size > _JOINED_BYTES]
    checks = {"format": 1, "rows": rows, "columns": {name: state.hexdigest() for name, state in states.items()}}
    write_synced(partial / CHECKS, json.dumps(checks).encode())
    table = np.array([hashes[name] for name in rows], np.uint64).reshape(len(rows), count)
    np.save(partial / ROWS, table.T)


def _kept(records: Records, pixels: U8 | None = None) -> dict[str, Array]:
    """Return the columns that batches are made of."""
    if pixels is None and isinstance(records.images, PixelImages):
        pixels = records.images.pixels
    if pixels is None:
        raise ValueError("an edition without pixels")
    return {"image": pixels, "label": records.labels, **pick(records.dense, KEPT)}


def _hash_column(parts: Iterable[Array]) -> str:
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(np.ascontiguousarray(part).data)
    return state.hexdigest()


def _blame(folder: Folder, column: str, error: WrongRowError) -> Problem:
    """Return the problem of a row that is not what was written; names file and record."""
    row, shards = error.number, list(folder.shards)
    while row >= shards[0].rows:
        row -= shards.pop(0).rows
    ids = [
        name
        for records in folder.container.read_records(folder.path / shards[0].path, folder.layout)
        for name in records.ids
    ]
    where = f"{say_place(str(folder.path / shards[0].path), row, ids[row])}, {column}"
    fix = f'The cache is damaged: run "ladd cache clear {folder.manifest.digest[:16]}"; it is then made again.'
    return Problem("LADD-003", where, f"xxh3 {error.found:016x}", f"{error.expected:016x}", fix, row, ids[row])
