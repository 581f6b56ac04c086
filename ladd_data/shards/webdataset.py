"""WebDataset shards: a tar with `{id}.png` or `.jpg`, `{id}.cls` and `{id}.{column}.npy` for every record.

Members are as predictable as tar's headers (tar.py): a label column's npy header is compared with the
one that its shape and type allow, so no npy parser sees a foreign byte either.

Source: NEP 1 (npy); spec/ladd-1.0.md, section 8.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ladd_data.errors import LaddError
from ladd_data.shards import layout as parquet_layout
from ladd_data.shards.container import FOOTER_KEY, Footer, ShardError, ShardWriter
from ladd_data.shards.layout import Layout, Records
from ladd_data.shards.plan import ShardPlan, rows_per_group
from ladd_data.shards.tar import (
    END,
    Member,
    open_tar,
    read_content,
    read_member,
    read_meta,
    walk_members,
    write_member,
    write_meta,
)
from ladd_data.types import Array, Columns

SUFFIX = ".tar"
HOLDS_PIXELS = False


class WebDatasetWriter(ShardWriter):
    """Writes tar shards, each by way of a body file.

    The global header stands first and holds the manifest, which is known when the last record's digest
    is. So members go to a file beside the shard first; `close` writes the header and copies them behind.
    """

    def __init__(self, folder: Path, layout: Layout, plan: ShardPlan) -> None:
        """Open nothing yet; the folder and its data/ must exist."""
        super().__init__(folder, plan, SUFFIX)
        self._layout = layout
        self._bodies: list[BinaryIO] = []
        """The one being written, if there is one."""

    def abort(self) -> None:
        """Close the files as they are; they are about to be thrown away."""
        while self._bodies:
            self._end()

    def _begin(self, path: Path) -> None:
        self._bodies.append(_body(path).open("wb"))

    def _write(self, group: Records) -> None:
        headers = {name: npy_header(shape, dtype) for name, (shape, dtype) in self._layout.dense.items()}
        for row, name in enumerate(group.ids):
            if name.startswith("__"):
                found = f'a record with id "{name}"; expected none that begins with two underscores'
                raise LaddError(f"webdataset: found {found}, as its readers skip those. Choose another edition.")
            write_member(self._bodies[-1], f"{name}.{self._layout.suffix}", group.images[row])
            write_member(self._bodies[-1], f"{name}.cls", str(int(group.labels[row])).encode())
            for column, header in headers.items():
                values = group.dense[column][row]
                data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
                write_member(self._bodies[-1], f"{name}.{column}.npy", header + data)

    def _end(self) -> None:
        self._bodies.pop().close()

    def _finish(self, index: int, path: Path, meta: bytes) -> None:
        with _body(path).open("rb") as body, path.open("wb") as shard:
            write_meta(shard, meta)
            shutil.copyfileobj(body, shard, 2**20)
            shard.write(END)
        _body(path).unlink()


def open_writer(folder: Path, layout: Layout, plan: ShardPlan) -> WebDatasetWriter:
    """Return a writer of tar shards into `folder`."""
    return WebDatasetWriter(folder, layout, plan)


def read_records(path: Path, layout: Layout, row_groups: list[int] | None = None) -> Iterator[Records]:
    """Yield a shard's records in groups of bounded size (a tar has no row groups of its own).

    Raises:
        ValueError: the file is damaged, or a member is missing, unknown, out of order or of another size.
    """
    starts = _check_all(path, layout) if row_groups is None else _starts(path)
    at_once = rows_per_group(layout.record_bytes)
    groups = range(-(-len(starts) // at_once)) if row_groups is None else row_groups
    with open_tar(path) as file:
        for group in groups:
            part = starts[group * at_once : (group + 1) * at_once]
            yield _read_group(file, layout, part[0], len(part))


def check_columns(path: Path, layout: Layout) -> None:
    """Check that every record has every member, in order and of the right size; reads headers only.

    Raises:
        ValueError: names the first member that is not as it should be.
    """
    _check_all(path, layout)


def read_footer(path: Path) -> Footer:
    """Return a shard's global header and its number of records.

    Raises:
        ValueError: not a tar of this format.
    """
    index = _index(path)
    return Footer({FOOTER_KEY: index.meta}, len(index.starts))


def read_group_sizes(path: Path, layout: Layout) -> list[int]:
    """Return the number of records of each group that `read_records` makes."""
    rows, at_once = len(_index(path).starts), rows_per_group(layout.record_bytes)
    return [min(at_once, rows - start) for start in range(0, rows, at_once)]


def column_bytes(path: Path) -> dict[str, int]:
    """Return the bytes of each column's members, without tar's headers and padding."""
    names = {"png": "image", "jpg": "image", "cls": "label"}
    sizes: dict[str, int] = {}
    with open_tar(path) as file:
        for member in walk_members(file, _index(path).body):
            name = names.get(member.column, member.column.removesuffix(".npy"))
            sizes[name] = sizes.get(name, 0) + member.size
    return sizes


def footer_features(layout: Layout) -> None:
    """Return None: features stand in the card alone, because no client looks for them in a tar."""


def card_features(layout: Layout) -> list[dict[str, Any]]:
    """Return `dataset_info.features` of the card, under the names that the members have."""
    image, label, _, *dense = parquet_layout.card_features(layout)
    features = [{**image, "name": layout.suffix}, {**label, "name": "cls"}]
    for feature in dense:
        shape, dtype = layout.dense[feature["name"]]
        values = {"list": "uint8", "length": shape[0]} if dtype == "bytes" else feature
        features.append({**values, "name": f"{feature['name']}.npy"})
    return [*features, {"name": "__key__", "dtype": "string"}, {"name": "__url__", "dtype": "string"}]


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Return the one npy header (version 1.0) that an array of this shape and type may have."""
    kind = np.dtype("uint8" if dtype == "bytes" else dtype).newbyteorder("<").str
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    padding = -(len(text) + 11) % 64
    text += " " * padding + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("ascii")


def member_names(layout: Layout) -> list[str]:
    """Return the members of a record, without the id, in order."""
    return [layout.suffix, "cls", *(f"{name}.npy" for name in layout.dense)]


def _check_all(path: Path, layout: Layout) -> tuple[int, ...]:
    """Read every header of a tar, compare it with the layout, and return where records begin."""
    _index(path)  # all headers and the end are as they may be
    starts = []
    with open_tar(path) as file:
        _, at = read_meta(file)
        while read_member(file, at) is not None:
            starts.append(at)
            at = _read_members(file, layout, at)[-1].next
    return tuple(starts)


@dataclass(frozen=True, slots=True)
class _Index:
    """A tar's global header, where its first member is, and where each record begins."""

    meta: bytes
    body: int
    starts: tuple[int, ...]


@lru_cache(maxsize=64)
def _remembered_starts(path: Path, state: tuple[int, ...]) -> tuple[int, ...]:
    """Return where records begin, without reading every header again for each group of an open dataset.

    A file that has changed has another state, unless it did so within a tick of the clock: so this serves
    reading single groups, which checks each header on its way, and never the checks of a whole file.
    """
    return _index(path).starts


def _starts(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError as error:
        raise ShardError("LADD-060", f"unreadable tar ({error})") from error
    return _remembered_starts(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


def _index(path: Path) -> _Index:
    """Read every header of a tar."""
    with open_tar(path) as file:
        meta, body = read_meta(file)
        starts, at = [], body
        for member in walk_members(file, body):
            if member.column in ("png", "jpg"):
                starts.append(at)
            at = member.next
    if not starts:
        raise ShardError("LADD-062", "a tar without records")
    return _Index(meta, body, tuple(starts))


def _read_members(file: BinaryIO, layout: Layout, at: int) -> list[Member]:
    """Return one record's members, each checked for its place and size."""
    limits = _sizes(layout)
    members: list[Member] = []
    for column in member_names(layout):
        member = read_member(file, at)
        expected = f"{members[0].record if members else '*'}.{column}"
        if member is None or member.column != column or (members and member.record != members[0].record):
            found = "the end" if member is None else f'member "{member.name}"'
            raise ShardError("LADD-062", f'{found} where "{expected}" should be')
        low, high = limits[column]
        if not low <= member.size <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            raise ShardError("LADD-063", f'member "{member.name}" of {member.size} bytes, not {wanted}')
        members.append(member)
        at = member.next
    return members


def _read_group(file: BinaryIO, layout: Layout, at: int, rows: int) -> Records:
    ids: list[str] = []
    labels: list[int] = []
    images: list[bytes] = []
    dense: Columns = {name: _empty(rows, shape, dtype) for name, (shape, dtype) in layout.dense.items()}
    headers = {name: npy_header(shape, dtype) for name, (shape, dtype) in layout.dense.items()}
    for row in range(rows):
        image, label, *rest = _read_members(file, layout, at)
        ids.append(image.record)
        images.append(read_content(file, image))
        labels.append(_parse_label(label.name, read_content(file, label), row))
        for (name, values), member in zip(dense.items(), rest, strict=True):
            content = read_content(file, member)
            if not content.startswith(headers[name]):
                found = f'member "{member.name}" with another npy header than {headers[name][10:].rstrip().decode()}'
                raise ShardError("LADD-063", found, row, image.record)
            flat = np.frombuffer(content, values.dtype.newbyteorder("<"), offset=len(headers[name]))
            values[row] = flat.reshape(values.shape[1:])
        at = (rest or [label])[-1].next
    return Records(ids, np.array(labels, np.int64), images, dense)


def _empty(rows: int, shape: tuple[int, ...], dtype: str) -> Array:
    return np.empty((rows, *shape), "uint8" if dtype == "bytes" else dtype)


def _parse_label(name: str, text: bytes, row: int) -> int:
    if not re.fullmatch(rb"0|-?[1-9][0-9]{0,17}", text):
        found = f'member "{name}" of {text[:20]!r}, which is no decimal number'
        raise ShardError("LADD-063", found, row, name.removesuffix(".cls"))
    return int(text)


def _sizes(layout: Layout) -> dict[str, tuple[int, int]]:
    """Return the smallest and largest size that each member may have."""
    sizes = {layout.suffix: (1, 2 * prod(layout.shape) + 2**16), "cls": (1, 20)}
    for name, (shape, dtype) in layout.dense.items():
        width = np.dtype("uint8" if dtype == "bytes" else dtype).itemsize
        exact = len(npy_header(shape, dtype)) + prod(shape) * width
        sizes[f"{name}.npy"] = (exact, exact)
    return sizes


def _body(path: Path) -> Path:
    return path.with_name(path.name + ".body")
