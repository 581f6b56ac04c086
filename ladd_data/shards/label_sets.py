"""Further label sets, `labels/NAME/`: dense labels over the images of a dataset, in files of their own.

A set's records are those of the dataset, in its order, so that row n is record n; the ids say so, and its statement
names the images and classes by digest. Nothing of the dataset itself changes when a set is added or removed.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ladd_data.errors import DatasetError, Problem, say_place
from ladd_data.files import MAX_JSON_DEPTH, LimitError, canonical_json, parse_json_strictly, read_limited, sha256_file
from ladd_data.manifest import SET_NAME, LabelSet
from ladd_data.manifest_json import parse_label_set
from ladd_data.shards.container import FEATURES_KEY, FOOTER_KEY, clause_of, place_of
from ladd_data.shards.folder import Shard
from ladd_data.shards.layout import Layout, arrow_type, features_of
from ladd_data.shards.limits import check_footer, check_pages
from ladd_data.shards.parquet import column_bytes, read_footer, read_group_sizes
from ladd_data.shards.tables import compare_schemas, from_array, refuse_nulls
from ladd_data.types import Columns, ColumnTypes

LABELS_FOLDER = "labels"
STATEMENT, LISTING = "labels.json", "shards.json"
_AGAIN = "Download the label set again, or remove it: ladd labels DIR --remove NAME."
_FOOTER_FIELDS = {"spec_version", "shard", "labels_sha256", "labels"}


class LabelShard(Shard):
    """One line of a set's shards.json."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.parquet$")]


class LabelShardList(BaseModel):
    """A set's shards.json, whole."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    spec_version: str
    shards: Annotated[tuple[LabelShard, ...], Field(min_length=1)]


_KEPT_GROUPS = 5
"""Row groups of labels, of 32 MB at most, that are kept: a shuffled stream goes through four places side by side."""


@dataclass(frozen=True, slots=True)
class LabelFiles:
    """A set's files, whose metadata has been read.

    path: the folder `labels/NAME`; statement: what labels.json says; content: its bytes; listing: those of
    shards.json; columns: the label columns, in order.
    """

    path: Path
    statement: LabelSet
    columns: ColumnTypes
    shards: tuple[LabelShard, ...]
    content: bytes
    listing: bytes
    _groups: list[tuple[int, LabelShard, int]] = field(default_factory=list, repr=False)
    _last: dict[tuple[str, int], tuple[list[str], Columns]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The set's name."""
        return self.path.name

    @property
    def place(self) -> str:
        """Where the set is in the dataset."""
        return f"{LABELS_FOLDER}/{self.name}"

    @property
    def layout(self) -> Layout:
        """The label columns in the form that readers of Parquet take."""
        return Layout((), self.columns, (1, 1, 1), "stored")

    def shard_of(self, record: int) -> tuple[str, int]:
        """Return (path in the dataset, row) of a record's labels."""
        for shard in self.shards:
            if record < shard.rows:
                return f"{self.place}/{shard.path}", record
            record -= shard.rows
        raise IndexError(record)

    def column_bytes(self) -> dict[str, int]:
        """Return the stored bytes of each column, over all shards."""
        sizes: dict[str, int] = {}
        for shard in self.shards:
            for name, size in column_bytes(self.path / shard.path).items():
                sizes[name] = sizes.get(name, 0) + size
        return sizes

    def check(self, *, verify: bool) -> list[Problem]:
        """Compare the shards with the list and with what the set says of itself.

        Args:
            verify: hash every shard; False compares sizes only.
        """
        listed = {STATEMENT, LISTING, *(shard.path for shard in self.shards)}
        present = {item.name for item in self.path.iterdir() if not item.name.startswith(".")}
        problems = [
            _bad("LADD-090", self.place, f"a file {name!r} that {LISTING} does not list", "only listed files")
            for name in sorted(present - listed)
        ]
        rows = sum(shard.rows for shard in self.shards)
        if rows != self.statement.count:
            where, expected = f"{self.place}/{LISTING}", f"{self.statement.count}, as {STATEMENT} says"
            problems.append(_bad("LADD-093", where, f"{rows} rows in all", expected))
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda index: self._check_shard(index, verify), range(len(self.shards)))
            return problems + [problem for part in found for problem in part]

    def rows(self, first: int, stop: int) -> Iterator[tuple[list[str], Columns]]:
        """Yield (ids, label columns) of records first .. stop-1, in order, in pieces.

        Raises:
            DatasetError: a shard cannot be read; names it.
        """
        if not self._groups:
            self._groups[:] = list(self._find_groups())
        number = bisect_right(self._groups, first, key=lambda group: group[0]) - 1
        while first < stop:
            start, shard, group = self._groups[number]
            ids, columns = self._read(shard, group)
            part = slice(first - start, min(len(ids), stop - start))
            if part.start >= len(ids):
                found, expected = f"no labels of record {first}", f"{self.statement.count} records"
                raise DatasetError([_bad("LADD-093", self.place, found, expected)])
            yield ids[part], {name: values[part] for name, values in columns.items()}
            first, number = start + part.stop, number + 1

    def _find_groups(self) -> Iterator[tuple[int, LabelShard, int]]:
        start = 0
        for shard in self.shards:
            for number, rows in enumerate(read_group_sizes(self.path / shard.path, self.layout)):
                yield start, shard, number
                start += rows

    def _read(self, shard: LabelShard, group: int) -> tuple[list[str], Columns]:
        """Return one row group; those asked for last are kept."""
        if (found := self._last.pop((shard.path, group), None)) is not None:
            self._last[shard.path, group] = found  # the last of them now
            return found
        path, where = self.path / shard.path, f"{self.place}/{shard.path}"
        row = next(start for start, other, number in self._groups if other is shard and number == group)
        row -= next(start for start, other, _ in self._groups if other is shard)
        try:
            check_pages(path, self.layout, [group])
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                compare_schemas(file.schema_arrow, label_schema(self.columns))
                table = file.read_row_group(group, columns=["id", *self.columns])
            columns = {name: _one(table.column(name)) for name in ("id", *self.columns)}
            refuse_nulls(columns)
        except (ValueError, OSError, pa.ArrowException) as error:
            value = error if isinstance(error, ValueError) else ValueError(str(error))
            place = place_of(value, row)
            said = " ".join(str(error).split())
            problem = Problem(clause_of(value), say_place(where, *place), said, "readable labels", _AGAIN, *place)
            raise DatasetError([problem]) from error
        dense = {name: from_array(columns[name], shape, dtype) for name, (shape, dtype) in self.columns.items()}
        result = columns["id"].to_pylist(), dense
        while len(self._last) >= _KEPT_GROUPS:
            del self._last[next(iter(self._last))]
        self._last[shard.path, group] = result
        return result

    def _check_shard(self, index: int, verify: bool) -> list[Problem]:
        shard = self.shards[index]
        path, where = self.path / shard.path, f"{self.place}/{shard.path}"
        try:
            size = path.stat().st_size
            if size != shard.bytes:
                return [_bad("LADD-093", where, f"{size} bytes", f"{shard.bytes}, as {LISTING} says")]
            if verify and (digest := sha256_file(path)) != shard.sha256:
                return [_bad("LADD-093", where, f"sha256 {digest}", f"{shard.sha256}, as {LISTING} says")]
        except OSError as error:
            return [_bad("LADD-090", where, error.strerror or str(error), f"the shard that {LISTING} lists")]
        try:
            check_footer(path)
            footer = read_footer(path)
            if problem := self._compare_keys(index, footer.keys):
                return [_bad("LADD-094", where, *problem)]
            with pq.ParquetFile(path) as file:
                compare_schemas(file.schema_arrow, label_schema(self.columns))
            check_pages(path, self.layout, None if verify else [])
        except (ValueError, OSError, pa.ArrowException) as error:
            value = error if isinstance(error, ValueError) else ValueError(str(error))
            clause = "LADD-095" if clause_of(value) in ("LADD-020", "LADD-030") else clause_of(value)
            return [_bad(clause, where, " ".join(str(error).split()), "what the set's statement and the format allow")]
        if footer.rows != shard.rows:
            return [_bad("LADD-093", where, f"{footer.rows} rows", f"{shard.rows}, as {LISTING} says")]
        return []

    def _compare_keys(self, index: int, keys: dict[bytes, bytes]) -> tuple[str, str] | None:
        """Return (found, expected) where a footer's keys are not those of this set."""
        if FOOTER_KEY not in keys:
            return 'no footer key "ladd"', "a shard written by this format's tools"
        footer = _parse(keys[FOOTER_KEY])
        if not isinstance(footer, dict) or footer.keys() != _FOOTER_FIELDS:
            return 'a footer key "ladd" of another form', f"an object with {', '.join(sorted(_FOOTER_FIELDS))}"
        if footer["labels_sha256"] != hashlib.sha256(self.content).hexdigest():
            return f"a statement that is not that of {STATEMENT} (another version, or edited)", f"that of {STATEMENT}"
        place = {"index": index, "count": len(self.shards)}
        stated = (footer["labels"], footer["shard"], footer["spec_version"])
        if stated != (parse_json_strictly(self.content), place, self.statement.spec_version):
            return 'a footer key "ladd" that contradicts itself', f"shard {index} of {len(self.shards)} of {STATEMENT}"
        if _parse(keys.get(FEATURES_KEY, b"")) != label_features(self.columns):
            return 'no footer key "huggingface" with the features of the set', "those of its columns"
        return None


def label_schema(columns: ColumnTypes) -> pa.Schema:
    """Return the Arrow schema of a set's shards: the id, then the label columns."""
    return pa.schema([pa.field("id", pa.string()), *(pa.field(n, arrow_type(*kind)) for n, kind in columns.items())])


def label_features(columns: ColumnTypes) -> dict[str, Any]:
    """Return the footer key `huggingface` of a set's shards."""
    return {"info": {"features": {"id": {"dtype": "string", "_type": "Value"}, **features_of(columns)}}}


def list_sets(path: Path) -> list[str]:
    """Return the names of the label sets in a dataset folder, in alphabetical order."""
    home = path / LABELS_FOLDER
    if home.is_symlink() or not home.is_dir():
        return []
    return sorted(item.name for item in home.iterdir() if (item / STATEMENT).is_file() and is_set_name(item.name))


def list_whole_sets(path: Path) -> list[str]:
    """Return those of which more than statements is there: of a dataset of the Hub, those that were asked for."""
    return [name for name in list_sets(path) if any((path / LABELS_FOLDER / name).glob("*.parquet"))]


def is_set_name(name: str) -> bool:
    """Tell whether a label set may be called so."""
    return re.fullmatch(SET_NAME, name) is not None and name != "default"


def read_statement(path: Path, name: str) -> tuple[bytes, LabelSet]:
    """Return labels.json of a set: its bytes, and what it says.

    Args:
        path: the dataset folder.
        name: of the set.

    Raises:
        DatasetError: it is missing or malformed.
    """
    where = f"{LABELS_FOLDER}/{name}/{STATEMENT}"
    content = _load(path, where)
    statement = parse_label_set(content, where)
    if canonical_json(parse_json_strictly(content)) != content:
        raise DatasetError([_bad("LADD-091", where, "bytes other than the writer's", "canonical JSON")])
    if statement.name != name:
        raise DatasetError([_bad("LADD-091", where, f'name "{statement.name}"', f'"{name}", that of its folder')])
    return content, statement


def read_listing(path: Path, statement: LabelSet) -> tuple[bytes, LabelShardList]:
    """Return shards.json of a set: its bytes, and what it says.

    Raises:
        DatasetError: it is missing or malformed.
    """
    where = f"{LABELS_FOLDER}/{statement.name}/{LISTING}"
    listing = _load(path, where)
    try:
        document = parse_json_strictly(listing)
        shards = LabelShardList.model_validate_json(listing)
    except LimitError as error:
        raise DatasetError([_bad("LADD-080", where, str(error), "a sensible document")]) from error
    except ValidationError as error:
        item = error.errors()[0]
        found = f"{'.'.join(map(str, item['loc']))} = {str(item['input'])[:80]!r}"
        raise DatasetError([_bad("LADD-093", where, found, item["msg"])]) from None
    except ValueError as error:
        raise DatasetError([_bad("LADD-093", where, f"invalid JSON ({error})", "JSON of the spec")]) from error
    names = [shard.path for shard in shards.shards]
    if canonical_json(document) != listing:
        raise DatasetError([_bad("LADD-093", where, "bytes other than the writer's", "canonical JSON")])
    if len(set(names)) < len(names) or shards.spec_version != statement.spec_version:
        found = "a shard twice, or another spec_version"
        raise DatasetError([_bad("LADD-093", where, found, f"each once, and that of {STATEMENT}")])
    return listing, shards


def check_kinds(path: Path) -> list[Problem]:
    """Refuse links and devices among label sets (LADD-085)."""
    home = path / LABELS_FOLDER
    problems = []
    for item in [home, *sorted(home.rglob("*") if home.is_dir() and not home.is_symlink() else [])]:
        name = str(item.relative_to(path))
        where = name if name.isprintable() else LABELS_FOLDER
        if item.is_symlink():
            problems.append(_bad("LADD-085", where, "a symbolic link", "a file of its own"))
        elif item.exists() and not item.is_file() and not item.is_dir():
            problems.append(_bad("LADD-085", where, "a pipe, socket or device", "a regular file"))
    return problems


def _load(path: Path, name: str) -> bytes:
    try:
        return read_limited(path / name)
    except LimitError as error:
        raise DatasetError([_bad("LADD-080", name, str(error), "a metadata file of sensible size")]) from error
    except OSError as error:
        raise DatasetError([_bad("LADD-090", name, error.strerror or str(error), "a readable file")]) from error


def _one(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _parse(value: bytes) -> Any:
    try:
        return parse_json_strictly(value, MAX_JSON_DEPTH + 1)
    except ValueError:
        return None


def _bad(clause: str, where: str, found: str, expected: str) -> Problem:
    return Problem(clause, where, found, expected, _AGAIN)
