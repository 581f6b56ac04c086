"""What a case of the corpus is, and the ways in which one is made wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from building import LABELLED, Document, Draft, Plan, make_draft, seal, write_draft, write_plain_card

from ladd_data.card.croissant import CROISSANT_PATH
from ladd_data.card.picture import PICTURE_PATH
from ladd_data.card.write import write_face
from ladd_data.encodings.profiles import coding_of_encoding
from ladd_data.manifest import MANIFEST_PATH, Manifest
from ladd_data.shards.folder import SHARDS_PATH, read_metadata
from ladd_data.types import Edition

SHARD = "data/train-00000-of-00001.parquet"
TWO = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet")
CARD, CROISSANT, PICTURE = "README.md", CROISSANT_PATH, PICTURE_PATH
MANIFEST, SHARDS = MANIFEST_PATH, SHARDS_PATH

Where = dict[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Case:
    """One dataset of the corpus.

    name: of its folder; says what is special, or wrong.
    about: the same in a sentence.
    plan: what it is made from.
    change: makes the records wrong, before digests are computed.
    state: makes the manifest wrong, with footers and card made from the wrong one.
    after: makes the written folder wrong.
    problems: (clause, where) of each problem that a validator must report; none for a valid case.
    """

    name: str
    about: str
    plan: Plan = LABELLED
    change: Callable[[Draft], object] = lambda draft: None
    state: Callable[[Document], object] = lambda document: None
    after: Callable[[Path], object] = lambda folder: None
    problems: tuple[tuple[str, Where], ...] = ()

    def write(self, home: Path) -> None:
        """Write the case's folder: the dataset in `set/`, the verdict beside it."""
        draft = make_draft(self.plan)
        self.change(draft)
        write_draft(draft, home / "set", self.state)
        self.after(home / "set")
        problems = [{"clause": clause, "where": where} for clause, where in self.problems]
        expected = {"about": self.about, "valid": not problems, "problems": problems}
        text = json.dumps(expected, ensure_ascii=False, indent=2) + "\n"
        (home / "expected.json").write_text(text, encoding="utf-8")


def at(file: str, row: int | None = None, record: str | None = None) -> Where:
    """Return where a problem is; `record` is the id, by default that of the row."""
    if row is None:
        return {"file": file}
    return {"file": file, "row": row, "id": f"{row:06d}" if record is None else record}


def plan_of(encoding: str, **more: Any) -> Plan:
    """Return a plan with dense labels in an encoding."""
    classes = more.get("classes", LABELLED.classes)
    return replace(LABELLED, coding=coding_of_encoding(encoding, len(classes)), **more)


def set_to(path: str, value: object) -> Callable[[Document], None]:
    """Return a change of a document: the value at a path of dots, added or replaced."""

    def change(document: Document) -> None:
        *parents, last = path.split(".")
        part: Any = document
        for step in parents:
            part = part[int(step) if isinstance(part, list) else step]
        part[int(last) if isinstance(part, list) else last] = value

    return change


def drop(path: str) -> Callable[[Document], None]:
    """Return a change of a document: the key at a path of dots goes away."""

    def change(document: Document) -> None:
        *parents, last = path.split(".")
        for step in parents:
            document = document[step]
        del document[last]

    return change


def swap(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a change of a folder: the first `old` in a text file becomes `new`."""

    def change(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text, f"{file} holds no {old!r}"
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def put(file: str, data: bytes) -> Callable[[Path], object]:
    """Return a change of a folder: a file with this content."""
    return lambda folder: (folder / file).write_bytes(data)


def remove(file: str) -> Callable[[Path], None]:
    """Return a change of a folder: a file less."""
    return lambda folder: (folder / file).unlink()


def both(*changes: Callable[[_T], object]) -> Callable[[_T], None]:
    """Return several changes as one."""

    def change(thing: _T) -> None:
        for one in changes:
            one(thing)

    return change


def add_face(folder: Path) -> None:
    """Write picture and Croissant metadata, and a card that shows the picture."""
    write_face(read_metadata(folder), 0)


def drop_face(folder: Path, manifest: Manifest, edition: Edition) -> None:
    """Take away what `add_face` writes, and write the card without it."""
    for name in (CROISSANT, PICTURE):
        (folder / name).unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in (folder / "data").iterdir())
    write_plain_card(folder, manifest, edition, size, size)


def link(file: str, real: str) -> Callable[[Path], None]:
    """Return a change of a folder: a file becomes a symbolic link to itself under another name."""

    def change(folder: Path) -> None:
        (folder / file).rename(folder / real)
        (folder / file).symlink_to(Path(*[".."] * file.count("/"), real))

    return change


def edit_list(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Return a change of a folder: the shard list, by value, written canonically."""

    def edit(folder: Path) -> None:
        document = json.loads((folder / SHARDS).read_bytes())
        change(document)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        (folder / SHARDS).write_text(text, encoding="utf-8")

    return edit


def edit_shard(change: Callable[[bytes], bytes], sealed: bool = False) -> Callable[[Path], None]:
    """Return a change of a folder: the shard's bytes; `sealed` states them in the shard list."""

    def edit(folder: Path) -> None:
        (folder / SHARD).write_bytes(change((folder / SHARD).read_bytes()))
        if sealed:
            seal(folder)

    return edit


def rewrite(
    change: Callable[[pa.Table], pa.Table] = lambda table: table,
    keys: Callable[[dict[bytes, bytes]], object] = lambda keys: None,
    sealed: bool = True,
    **options: Any,
) -> Callable[[Path], None]:
    """Return a change of a folder: the shard's table, written again with its footer keys and our options."""

    def edit(folder: Path) -> None:
        with pq.ParquetFile(folder / SHARD) as file:
            found = dict(file.metadata.metadata)
            table = file.read()
        found.pop(b"ARROW:schema", None)
        keys(found)
        table = change(table)
        leaves = [path for field in table.schema for path in _leaves(field, field.name)]
        compression = {path: "NONE" if path == "image.bytes" else "ZSTD" for path in leaves}
        ours: dict[str, Any] = {"compression": compression, "use_dictionary": False, "write_page_checksum": True}
        pq.write_table(table.replace_schema_metadata(found), folder / SHARD, **{**ours, **options})
        if sealed:
            seal(folder)

    return edit


def _leaves(field: pa.Field, path: str) -> list[str]:
    if pa.types.is_struct(field.type):
        return [leaf for child in field.type for leaf in _leaves(child, f"{path}.{child.name}")]
    if pa.types.is_list(field.type) or pa.types.is_large_list(field.type) or pa.types.is_fixed_size_list(field.type):
        return _leaves(field.type.value_field, f"{path}.list.element")
    return [path]
