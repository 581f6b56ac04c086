"""A dataset folder, opened: manifest, shard list, and the checks that need no pixel.

`open_folder` is the door that every reader goes through. It compares each file with the shard list, and
each shard's own copy of the manifest with meta/ladd.json, so that a flipped byte, a missing shard, a
shard of another version or an edited metadata file is named before any record is read.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ladd_data.errors import DatasetError, Problem, UsageError, say_place
from ladd_data.files import MAX_JSON_DEPTH, LimitError, canonical_json, parse_json_strictly, read_limited, sha256_file
from ladd_data.manifest import MANIFEST_PATH, Digest, Manifest
from ladd_data.manifest_json import MAX_BREACHES, parse_manifest
from ladd_data.shards.container import FEATURES_KEY, FOOTER_KEY, Container, clause_of, place_of
from ladd_data.shards.editions import EDITIONS, find_container
from ladd_data.shards.layout import Layout, Records, layout_of
from ladd_data.shards.limits import check_footer, check_pages
from ladd_data.types import Edition

SHARDS_PATH = "meta/shards.json"
_BESIDE = ("README.md", "croissant.json", "samples.png")
"""What stands beside meta/ and data/."""
_AGAIN = "Download or write the dataset again."
_REWRITTEN = 'no footer key "ladd": other tools (datasets, push_to_hub, a Parquet writer) have rewritten this file'
_KEYS_CLAUSE: dict[Edition, str] = {"webdataset": "LADD-064", "arrow": "LADD-073"}
"""Says where the keys stand, and is what a file without them breaks; in Parquet, LADD-005 and LADD-006 are."""
_FOOTER_FIELDS = ("manifest", "manifest_sha256", "shard", "spec_version")
_SHARD_PATH = re.compile(r"data/[A-Za-z0-9_.-]+")
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
    """A dataset folder whose metadata has been read; `content`: the bytes of its meta/ladd.json."""

    path: Path
    manifest: Manifest
    layout: Layout
    edition: Edition
    shards: tuple[Shard, ...]
    content: bytes

    @property
    def container(self) -> Container:
        """What reads the shards."""
        return find_container(self.edition)

    def metadata(self) -> bytes:
        """Return the bytes that tell this dataset's files, hence its order, from another's."""
        return read_limited(self.path / MANIFEST_PATH) + read_limited(self.path / SHARDS_PATH)

    def files(self) -> list[Path]:
        """Return the paths of the files that hold records."""
        return [self.path / shard.path for shard in self.shards]

    def check(self, *, verify: bool) -> list[Problem]:
        """Compare the shards with the shard list and the manifest; `verify`: hash every shard."""
        shards = check_shards(self, verify=verify)
        return check_list(self) + [problem for found in shards for problem in found]

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
                place = place_of(error, row)
                where, expected = say_place(shard.path, *place), "readable records"
                raise DatasetError([Problem(clause_of(error), where, str(error), expected, _AGAIN, *place)]) from error


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
    if links := _check_kinds(path):
        raise DatasetError(links)
    if not (path / MANIFEST_PATH).is_file():
        has_shards = any(any(path.glob(f"data/*{find_container(edition).SUFFIX}")) for edition in EDITIONS)
        if (path / SHARDS_PATH).is_file() or has_shards:
            raise DatasetError([_bad("LADD-001", MANIFEST_PATH, "no such file", "the manifest")])
        raise UsageError(f'{path}: not a ladd dataset (no {MANIFEST_PATH}). "ladd convert" makes one.')
    problems: list[Problem] = []
    content = _collect(problems, lambda: _read(path, MANIFEST_PATH))
    manifest = None if content is None else _collect(problems, lambda: parse_manifest(content))
    shards = _collect(problems, lambda: _parse_shard_list(_read(path, SHARDS_PATH)))
    if content is None or manifest is None or shards is None:
        raise DatasetError(problems)
    if shards.spec_version != manifest.spec_version:
        found = f"spec version {shards.spec_version}"
        raise DatasetError([_bad("LADD-004", SHARDS_PATH, found, f"{manifest.spec_version}, as in {MANIFEST_PATH}")])
    folder = Folder(path, manifest, layout_of(manifest), shards.edition, shards.shards, content)
    if wrong := _check_entries(folder):
        raise DatasetError(wrong)
    return folder


def check_files(folder: Folder, *, verify: bool) -> list[Problem]:
    """Compare the shards with the shard list and the manifest; an empty list means they agree."""
    return folder.check(verify=verify)


def check_shards(folder: Folder, *, verify: bool) -> list[list[Problem]]:
    """Compare each shard with the shard list and the manifest; one list of problems per shard."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: check_shard(folder, index, verify), range(len(folder.shards))))
    if all(found):
        return found
    return [_blame_shard(shard, problems) for shard, problems in zip(folder.shards, found, strict=True)]


def dump_shard_list(spec_version: str, edition: Edition, shards: list[Shard]) -> bytes:
    """Serialise the shard list to the bytes of meta/shards.json."""
    shard_list = ShardList(spec_version=spec_version, edition=edition, shards=tuple(shards))
    return canonical_json(shard_list.model_dump(mode="json"))


def check_list(folder: Folder) -> list[Problem]:
    """Compare the shard list with what lies in data/, and its rows with the manifest."""
    problems = []
    listed = [shard.path for shard in folder.shards]
    present = {f"data/{item.name}" for item in (folder.path / "data").glob("*")}
    for path in sorted(present - set(listed)):
        where = path if _SHARD_PATH.fullmatch(path) else "data"  # a hostile name stays inside quotes
        found = f"a file {path!r} that {SHARDS_PATH} does not list"
        problems.append(_bad("LADD-002", where, found, "only listed files"))
    rows, count = sum(shard.rows for shard in folder.shards), folder.manifest.images.count
    if rows != count:
        problems.append(_bad("LADD-021", SHARDS_PATH, f"{rows} rows in all", f"{count}, as {MANIFEST_PATH} says"))
    return problems


def _check_entries(folder: Folder) -> list[Problem]:
    """Check what the shard list says without a look at the files."""
    problems = []
    listed = Counter(shard.path for shard in folder.shards)
    for path in sorted(path for path, count in listed.items() if count > 1):
        problems.append(_bad("LADD-002", SHARDS_PATH, f'"{path}" more than once', "each shard once"))
    for path in sorted(path for path in listed if not path.endswith(folder.container.SUFFIX)):
        expected = f"{folder.container.SUFFIX}, as its edition is {folder.edition}"
        problems.append(_bad("LADD-004", SHARDS_PATH, f"the shard {path}", expected))
    return problems


def _check_kinds(path: Path) -> list[Problem]:
    """Refuse links and devices: a dataset equals what is uploaded, and reads nothing outside itself."""
    inside = [item for name in ("meta", "data") if (path / name).is_dir() for item in (path / name).iterdir()]
    problems = []
    for item in [*(path / name for name in _BESIDE), path / "meta", path / "data", *sorted(inside)]:
        name = str(item.relative_to(path))
        where = name if name.isprintable() else "data"
        if item.is_symlink():
            fix = "Copy the dataset with its links followed: cp -rL."
            problems.append(Problem("LADD-085", where, "a symbolic link", "a file of its own", fix))
        elif item.exists() and not item.is_file() and not item.is_dir():
            problems.append(_bad("LADD-085", where, "a pipe, socket or device", "a regular file"))
    return problems


def check_shard(folder: Folder, index: int, verify: bool) -> list[Problem]:
    """Compare one shard, by number, with the shard list and the manifest; `verify`: hash it."""
    shard = folder.shards[index]
    path = folder.path / shard.path
    if not path.is_file():
        return [_bad("LADD-002", shard.path, "no such file", f"the shard that {SHARDS_PATH} lists")]
    try:
        size, digest = path.stat().st_size, shard.sha256
        if verify and size == shard.bytes:
            digest = sha256_file(path)
    except OSError as error:
        return [_bad("LADD-002", shard.path, error.strerror or str(error), "a readable file")]
    if size != shard.bytes:
        return [_explain_change(folder, shard, f"{size} bytes", f"{shard.bytes}, as {SHARDS_PATH} says")]
    if digest != shard.sha256:
        return [_explain_change(folder, shard, f"sha256 {digest}", f"{shard.sha256}, as {SHARDS_PATH} says")]
    return check_footer_at(folder, index, path, walk=verify)


def _explain_change(folder: Folder, shard: Shard, found: str, expected: str) -> Problem:
    """Return the problem of a shard that is not the listed one: rewritten, of another version, or damaged."""
    try:
        if folder.edition == "parquet":
            check_footer(folder.path / shard.path)
        keys = folder.container.read_footer(folder.path / shard.path).keys
    except ValueError as error:
        return _bad("LADD-003", shard.path, f"{found} (damaged, cut short, or rewritten: {error})", expected)
    if FOOTER_KEY not in keys:
        return _bad(_KEYS_CLAUSE.get(folder.edition, "LADD-005"), shard.path, f"{_REWRITTEN}; {found}", expected)
    footer = _parse_footer(keys[FOOTER_KEY])
    stated = footer.get("manifest_sha256") if isinstance(footer, dict) else None
    if stated != hashlib.sha256(folder.content).hexdigest():
        found = f"a shard of another version of this dataset, or of another; {found}"
        return _bad("LADD-003", shard.path, found, expected)
    return _bad("LADD-003", shard.path, f"{found} (damaged, or changed after it was written)", expected)


def _blame_shard(shard: Shard, problems: list[Problem]) -> list[Problem]:
    """Move the blame for differing manifests to the shard; for where another shard agrees with meta/ladd.json."""
    another = "a shard of another version of this dataset, or of another:"
    return [
        replace(problem, where=shard.path, found=f"{another} {problem.found}", fix=_AGAIN)
        if (problem.clause, problem.where) == ("LADD-005", MANIFEST_PATH)
        else problem
        for problem in problems
    ]


def check_footer_at(folder: Folder, index: int, path: Path, *, walk: bool = False) -> list[Problem]:
    """Compare what a shard says of itself with the manifest and the shard list.

    Args:
        folder: the dataset.
        index: the shard's number.
        path: the shard; or, without `walk`, a file in which only a Parquet shard's end is as it is there.
        walk: look at the header of each page.
    """
    shard = folder.shards[index]
    try:
        if folder.edition == "parquet":
            check_footer(path)
        footer = folder.container.read_footer(path)
        if edited := _compare_manifests(folder, index, shard, footer.keys):  # else the shard is blamed for what follows
            return edited
        if FOOTER_KEY not in footer.keys:
            clause = _KEYS_CLAUSE.get(folder.edition, "LADD-005")
            return [_bad(clause, shard.path, _REWRITTEN, "a shard written by this format's tools")]
        folder.container.check_columns(path, folder.layout)
        if folder.edition == "parquet":
            check_pages(path, folder.layout, None if walk else [])
    except ValueError as error:
        return [_bad(clause_of(error), shard.path, str(error), "what the manifest and the format allow")]
    if footer.rows != shard.rows:
        return [_bad("LADD-021", shard.path, f"{footer.rows} rows", f"{shard.rows}, as {SHARDS_PATH} says")]
    features = folder.container.footer_features(folder.layout)
    if features is not None and FEATURES_KEY not in footer.keys:
        clause = _KEYS_CLAUSE.get(folder.edition, "LADD-006")
        return [_bad(clause, shard.path, 'no footer key "huggingface"', "the features of the manifest")]
    if features is not None and _parse_footer(footer.keys[FEATURES_KEY]) != features:
        found = 'a footer key "huggingface" with other features'
        return [_bad("LADD-006", shard.path, found, "the features of the manifest")]
    return []


def _compare_manifests(folder: Folder, index: int, shard: Shard, keys: dict[bytes, bytes]) -> list[Problem]:
    """Compare the shard's own copy of the manifest, where it has one, with meta/ladd.json."""
    if FOOTER_KEY not in keys:
        return []
    footer = _parse_footer(keys[FOOTER_KEY])
    try:
        manifest, digest, place, version = (footer[key] for key in _FOOTER_FIELDS)
    except (KeyError, TypeError):
        found = f'a footer key "ladd" that is no JSON object with {", ".join(_FOOTER_FIELDS)}'
        return [_bad("LADD-005", shard.path, found, "all four")]
    data = folder.content
    if hashlib.sha256(data).hexdigest() != digest:
        where = _first_difference(manifest, parse_json_strictly(data))
        fix = f"{MANIFEST_PATH} was edited, or the shard is of another version. {_AGAIN}"
        found = f"a manifest that differs from the one in {shard.path} at {where}"
        return [Problem("LADD-005", MANIFEST_PATH, found, "the same manifest in every shard", fix)]
    if place != {"index": index, "count": len(folder.shards)}:
        return [_bad("LADD-005", shard.path, f"shard {place}", f"number {index} of {len(folder.shards)}")]
    unknown = set(footer) - set(_FOOTER_FIELDS)
    if manifest != parse_json_strictly(data) or version != folder.manifest.spec_version or unknown:
        found = 'a footer key "ladd" whose manifest or spec_version is not that of its manifest_sha256'
        return [_bad("LADD-005", shard.path, found, f"the content of {MANIFEST_PATH}")]
    return []


def _parse_footer(value: bytes) -> Any:
    """Return a footer key's JSON, or None where it is none."""
    try:
        return parse_json_strictly(value, MAX_JSON_DEPTH + 1)
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
        return read_limited(folder / name)
    except LimitError as error:
        raise DatasetError([_bad("LADD-080", name, str(error), "a metadata file of sensible size")]) from error
    except OSError as error:
        raise DatasetError([_bad("LADD-001", name, error.strerror or str(error), "a readable file")]) from error


def _parse_shard_list(data: bytes) -> ShardList:
    try:
        document = parse_json_strictly(data)
        shards = ShardList.model_validate_json(data)
    except ValidationError as error:
        if error.error_count() > MAX_BREACHES:
            found = f"{error.error_count()} breaches of its form"
            raise DatasetError([_bad("LADD-004", SHARDS_PATH, found, "the form that the spec states")]) from None
        item = error.errors()[0]
        where = ".".join(str(step) for step in item["loc"])
        found = f"{where} = {str(item['input'])[:80]!r}"
        raise DatasetError([_bad("LADD-004", SHARDS_PATH, found, item["msg"])]) from error
    except LimitError as error:
        raise DatasetError([_bad("LADD-080", SHARDS_PATH, str(error), "a sensible document")]) from error
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
