"""A dataset folder, opened: manifest, shard list, and the checks that need no pixel.

`open_folder` is the door that every reader goes through. It compares each file with the shard list, and
each shard's own copy of the manifest with meta/ladd.json, so that a flipped byte, a missing shard, a
shard of another version or an edited metadata file is named before any record is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ladd_data.errors import DatasetError, Problem, UsageError
from ladd_data.files import canonical_json, parse_json_strictly, sha256_file
from ladd_data.manifest import MANIFEST_PATH, Digest, Manifest
from ladd_data.manifest_json import parse_manifest
from ladd_data.shards.container import FEATURES_KEY, FOOTER_KEY, Container, clause_of
from ladd_data.shards.editions import EDITIONS, find_container
from ladd_data.shards.layout import Layout, Records, layout_of
from ladd_data.types import Edition

SHARDS_PATH = "meta/shards.json"
_AGAIN = "Download or write the dataset again."
_T = TypeVar("_T")


class Shard(BaseModel):
    """One line of meta/shards.json."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: Annotated[str, Field(pattern=r"^data/[A-Za-z0-9_.-]+$")]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Digest
    rows: Annotated[int, Field(ge=1)]


class ShardList(BaseModel):
    """meta/shards.json, whole."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    spec_version: str
    edition: Edition
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Folder:
    """A dataset folder whose metadata has been read."""

    path: Path
    manifest: Manifest
    layout: Layout
    edition: Edition
    shards: tuple[Shard, ...]

    @property
    def container(self) -> Container:
        """What reads the shards."""
        return find_container(self.edition)

    def column_bytes(self) -> dict[str, int]:
        """Return the stored bytes of each column, over all shards."""
        sizes: dict[str, int] = {}
        for shard in self.shards:
            for name, size in self.container.column_bytes(self.path / shard.path).items():
                sizes[name] = sizes.get(name, 0) + size
        return sizes

    def records(self) -> Iterator[tuple[Shard, int, Records]]:
        """Yield every record in file order, one row group at a time, as (shard, first row, records).

        Raises:
            DatasetError: a shard cannot be read; names it.
        """
        for shard in self.shards:
            row = 0
            try:
                for records in self.container.read_records(self.path / shard.path, self.layout):
                    yield shard, row, records
                    row += len(records)
            except ValueError as error:
                raise DatasetError([_bad(clause_of(error), shard.path, str(error), "readable records")]) from error


def open_folder(path: Path, *, verify: bool = True) -> Folder:
    """Open a dataset folder, checked.

    Args:
        path: the folder.
        verify: hash every shard; False compares sizes only.

    Raises:
        UsageError: there is no such folder.
        DatasetError: everything that is wrong with it.
    """
    folder = read_metadata(path)
    problems = check_files(folder, verify=verify)
    if problems:
        raise DatasetError(problems)
    return folder


def read_metadata(path: Path) -> Folder:
    """Read meta/ of a dataset folder, without looking at the shards.

    Raises:
        UsageError: there is no such folder, or it is no ladd dataset.
        DatasetError: meta/ladd.json or meta/shards.json is missing or malformed.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder.")
    if not (path / MANIFEST_PATH).is_file():
        has_shards = any(any(path.glob(f"data/*{find_container(edition).SUFFIX}")) for edition in EDITIONS)
        if (path / SHARDS_PATH).is_file() or has_shards:
            raise DatasetError([_bad("LADD-001", MANIFEST_PATH, "no such file", "the manifest")])
        raise UsageError(f'{path}: not a ladd dataset (no {MANIFEST_PATH}). "ladd convert" makes one.')
    problems: list[Problem] = []
    manifest = _collect(problems, lambda: parse_manifest(_read(path, MANIFEST_PATH)))
    shards = _collect(problems, lambda: _parse_shard_list(_read(path, SHARDS_PATH)))
    if manifest is None or shards is None:
        raise DatasetError(problems)
    if shards.spec_version != manifest.spec_version:
        found = f"spec version {shards.spec_version}"
        raise DatasetError([_bad("LADD-004", SHARDS_PATH, found, f"{manifest.spec_version}, as in {MANIFEST_PATH}")])
    return Folder(path, manifest, layout_of(manifest), shards.edition, shards.shards)


def check_files(folder: Folder, *, verify: bool) -> list[Problem]:
    """Compare the shards with the shard list and the manifest; an empty list means they agree."""
    problems = _check_list(folder)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda index: _check_shard(folder, index, verify), range(len(folder.shards))):
            problems += found
    return problems


def dump_shard_list(spec_version: str, edition: Edition, shards: list[Shard]) -> bytes:
    """Serialise the shard list to the bytes of meta/shards.json."""
    shard_list = ShardList(spec_version=spec_version, edition=edition, shards=tuple(shards))
    return canonical_json(shard_list.model_dump(mode="json"))


def _check_list(folder: Folder) -> list[Problem]:
    problems = []
    listed = {shard.path for shard in folder.shards}
    present = {f"data/{item.name}" for item in (folder.path / "data").glob("*")}
    for path in sorted(present - listed):
        problems.append(_bad("LADD-002", path, f"a file that {SHARDS_PATH} does not list", "only listed files"))
    for path in sorted(path for path in listed if not path.endswith(folder.container.SUFFIX)):
        expected = f"{folder.container.SUFFIX}, as its edition is {folder.edition}"
        problems.append(_bad("LADD-004", SHARDS_PATH, f"the shard {path}", expected))
    rows, count = sum(shard.rows for shard in folder.shards), folder.manifest.images.count
    if rows != count:
        problems.append(_bad("LADD-021", SHARDS_PATH, f"{rows} rows in all", f"{count}, as {MANIFEST_PATH} says"))
    return problems


def _check_shard(folder: Folder, index: int, verify: bool) -> list[Problem]:
    shard = folder.shards[index]
    path = folder.path / shard.path
    if path.is_symlink() or not path.is_file():
        return [_bad("LADD-002", shard.path, "no such file", f"the shard that {SHARDS_PATH} lists")]
    size = path.stat().st_size
    if size != shard.bytes:
        return [_bad("LADD-003", shard.path, f"{size} bytes", f"{shard.bytes}, as {SHARDS_PATH} says")]
    try:
        digest = sha256_file(path) if verify else shard.sha256
    except OSError as error:
        return [_bad("LADD-002", shard.path, error.strerror or str(error), "a readable file")]
    if digest != shard.sha256:
        return [_bad("LADD-003", shard.path, f"sha256 {digest}", f"{shard.sha256}, as {SHARDS_PATH} says")]
    return _check_footer(folder, index, shard)


def _check_footer(folder: Folder, index: int, shard: Shard) -> list[Problem]:
    try:
        footer = folder.container.read_footer(folder.path / shard.path)
        if edited := _compare_manifests(folder, index, shard, footer.keys):  # else the shard is blamed for what follows
            return edited
        folder.container.check_columns(folder.path / shard.path, folder.layout)
    except ValueError as error:
        return [_bad(clause_of(error), shard.path, str(error), "the columns of the manifest")]
    if footer.rows != shard.rows:
        return [_bad("LADD-021", shard.path, f"{footer.rows} rows", f"{shard.rows}, as {SHARDS_PATH} says")]
    features = folder.container.footer_features(folder.layout)
    if features is not None and _parse(footer.keys.get(FEATURES_KEY, b"")) != features:
        found = 'a footer key "huggingface" that is missing or has other features'
        return [_bad("LADD-006", shard.path, found, "the features of the manifest")]
    if FOOTER_KEY not in footer.keys:
        found = 'no footer key "ladd": other tools wrote this file'
        return [_bad("LADD-005", shard.path, found, "a shard written by this format's tools")]
    return []


def _compare_manifests(folder: Folder, index: int, shard: Shard, keys: dict[bytes, bytes]) -> list[Problem]:
    """Compare the shard's own copy of the manifest, where it has one, with meta/ladd.json."""
    if FOOTER_KEY not in keys:
        return []
    footer = _parse(keys[FOOTER_KEY])
    try:
        manifest, digest, place = footer["manifest"], footer["manifest_sha256"], footer["shard"]
    except (KeyError, TypeError):
        return [_bad("LADD-005", shard.path, 'a footer key "ladd" that cannot be read', "JSON of the spec")]
    if place != {"index": index, "count": len(folder.shards)}:
        return [_bad("LADD-005", shard.path, f"shard {place}", f"number {index} of {len(folder.shards)}")]
    data = (folder.path / MANIFEST_PATH).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        where = _first_difference(manifest, parse_json_strictly(data))
        fix = f"{MANIFEST_PATH} was edited, or the shard is of another version. {_AGAIN}"
        found = f"a manifest that differs from the one in {shard.path} at {where}"
        return [Problem("LADD-005", MANIFEST_PATH, found, "the same manifest in every shard", fix)]
    whole = {"spec_version": folder.manifest.spec_version, "shard": place, "manifest_sha256": digest}
    if footer != {**whole, "manifest": parse_json_strictly(data)}:
        found = f"a manifest other than that of {MANIFEST_PATH} under its digest, or an unknown key"
        return [_bad("LADD-005", shard.path, found, f"a copy of {MANIFEST_PATH}")]
    return []


def _parse(value: bytes) -> Any:
    """Return a footer key's JSON, or None where it is none."""
    try:
        return parse_json_strictly(value)
    except ValueError:
        return None


def _first_difference(left: object, right: object, path: str = "") -> str:
    """Return the path of the first value in which two JSON documents differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *right]:
            if key not in left or key not in right:
                return f"{path}.{key}".lstrip(".")
            if left[key] != right[key]:
                return _first_difference(left[key], right[key], f"{path}.{key}")
    return path.lstrip(".") or "spacing or number format only"


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise DatasetError([_bad("LADD-001", name, error.strerror or str(error), "a readable file")]) from error


def _parse_shard_list(data: bytes) -> ShardList:
    try:
        document = parse_json_strictly(data)
        shards = ShardList.model_validate_json(data)
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(str(step) for step in item["loc"])
        found = f"{where} = {str(item['input'])[:80]!r}"
        raise DatasetError([_bad("LADD-004", SHARDS_PATH, found, item["msg"])]) from error
    except ValueError as error:
        raise DatasetError([_bad("LADD-004", SHARDS_PATH, f"invalid JSON ({error})", "JSON of the spec")]) from error
    if canonical_json(document) != data:
        found = "bytes other than the writer's (edited by hand, or re-formatted)"
        raise DatasetError([_bad("LADD-004", SHARDS_PATH, found, "canonical JSON")])
    return shards


def _collect(problems: list[Problem], read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except DatasetError as error:
        problems += error.problems
        return None


def _bad(clause: str, path: str, found: str, expected: str) -> Problem:
    return Problem(clause, path, found, expected, _AGAIN)
