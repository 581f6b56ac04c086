"""Invalid cases: one mistake in the files of a folder, or in how a shard was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from building import LABELLED, Plan
from cases import (
    CARD,
    CROISSANT,
    MANIFEST,
    SHARD,
    SHARDS,
    TWO,
    Case,
    Where,
    add_face,
    at,
    both,
    edit_list,
    edit_shard,
    link,
    put,
    remove,
    rewrite,
)

from ladd_data.files import sha256_file

PLAIN = Plan()


def wrong(
    name: str, clause: str, about: str, after: Callable[[Path], object], file: str = SHARD, plan: Plan = PLAIN
) -> Case:
    """Return a case of a folder that was harmed after it was written."""
    return Case(name, about, plan, after=after, problems=((clause, at(file)),))


def move_list(folder: Path) -> None:
    """List the two shards in the other order."""
    edit_list(lambda document: document["shards"].reverse())(folder)


def turn(position: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    """Return a change of bytes: one bit at a position."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[position(data)] ^= 1
        return bytes(changed)

    return change


def in_a_page(data: bytes) -> int:
    """Return the position of a byte inside the first picture."""
    return data.index(b"IDAT") + 40


def without_ours(keys: dict[bytes, bytes]) -> None:
    """Forget the footer key, as other tools do."""
    del keys[b"ladd"]


def restate_footer(change: Callable[[Any], object]) -> Callable[[dict[bytes, bytes]], None]:
    """Return a change of footer keys: our key's document."""

    def restate(keys: dict[bytes, bytes]) -> None:
        document = json.loads(keys[b"ladd"])
        change(document)
        keys[b"ladd"] = json.dumps(document).encode()

    return restate


def shout_labels(table: pa.Table) -> pa.Table:
    """Do what `map` does: change a column."""
    return table.set_column(1, "label", pa.array([0] * len(table), pa.int64()))


def replace_shard(folder: Path, data: bytes) -> None:
    """Replace the shard and state its size and checksum, without reading it."""
    (folder / SHARD).write_bytes(data)
    update = {"bytes": len(data), "sha256": sha256_file(folder / SHARD)}
    edit_list(lambda document: document["shards"][0].update(update))(folder)


def bomb(folder: Path) -> None:
    """Replace the shard by a few kilobytes that decode to more than 128 MiB."""
    table = pa.table({"label": pa.array(np.zeros(2**24 + 1, np.int64))})
    options: dict[str, Any] = {"compression": "ZSTD", "compression_level": 19, "use_dictionary": False}
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=2**25, data_page_size=2**27, **options)
    replace_shard(folder, sink.getvalue().to_pybytes())


def claim_values(data: bytes) -> bytes:
    """Let the header of the first label page state a larger page than its column chunk has."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        start = file.metadata.row_group(0).column(2).data_page_offset
    # PageHeader: field 1 (type, i32), field 2 (uncompressed size, i32 as a zigzag varint of one or two bytes)
    assert data[start : start + 3] == b"\x15\x00\x15", "the page header begins with its type"
    changed = bytearray(data)
    changed[start + 3] |= 0x70
    return bytes(changed)


FOLDERS = [
    wrong("no-manifest", "LADD-001", "meta/ladd.json is missing.", remove(MANIFEST), MANIFEST),
    wrong("no-shard-list", "LADD-001", "meta/shards.json is missing.", remove(SHARDS), SHARDS),
    wrong("no-card", "LADD-001", "README.md is missing.", remove(CARD), CARD),
    wrong("no-shard", "LADD-002", "The shard is missing.", remove(SHARD)),
    wrong(
        "one-shard-of-two-missing",
        "LADD-002",
        "The second shard is missing.",
        remove(TWO[1]),
        TWO[1],
        replace(PLAIN, rows_per_shard=2),
    ),
    wrong(
        "file-not-listed",
        "LADD-002",
        "A file that the list does not know.",
        put("data/notes.txt", b"hello\n"),
        "data/notes.txt",
    ),
    Case(
        "shards-in-other-order",
        "The list has the shards in the other order.",
        replace(PLAIN, rows_per_shard=2),
        after=move_list,
        problems=(("LADD-005", at(TWO[1])), ("LADD-005", at(TWO[0]))),
    ),
    wrong("link-to-shard", "LADD-085", "A shard that is a symbolic link.", link(SHARD, "shard")),
    wrong("link-to-manifest", "LADD-085", "A manifest that is a symbolic link.", link(MANIFEST, "manifest"), MANIFEST),
    wrong("link-to-card", "LADD-085", "A card that is a symbolic link.", link(CARD, "card"), CARD),
    wrong(
        "link-to-croissant",
        "LADD-085",
        "Croissant metadata that are a symbolic link.",
        both(add_face, link(CROISSANT, "croissant")),
        CROISSANT,
    ),
    wrong("shard-cut-short", "LADD-003", "The last hundred bytes are missing.", edit_shard(lambda data: data[:-100])),
    wrong("shard-empty", "LADD-003", "No bytes.", put(SHARD, b"")),
    wrong("shard-bit-turned", "LADD-003", "One bit of a picture.", edit_shard(turn(in_a_page))),
    wrong(
        "shard-not-parquet",
        "LADD-020",
        "Text, listed with its checksum.",
        lambda folder: replace_shard(folder, b"no Parquet at all"),
    ),
    wrong(
        "shard-rewritten",
        "LADD-005",
        "Read and written again by another tool, which drops our key.",
        rewrite(keys=without_ours, sealed=False),
    ),
    wrong("shard-rewritten-and-listed", "LADD-005", "The same, with its new checksum.", rewrite(keys=without_ours)),
    wrong(
        "shard-mapped",
        "LADD-003",
        "A column changed by a tool that keeps our key: the list has the old checksum.",
        rewrite(shout_labels, sealed=False),
    ),
    Case(
        "shard-mapped-and-listed",
        "The same, with its new checksum: the manifest's digest is stale.",
        PLAIN,
        after=rewrite(shout_labels),
        problems=(("LADD-026", at(MANIFEST)),),
    ),
    wrong(
        "footer-key-not-json",
        "LADD-005",
        "Our key holds no JSON.",
        rewrite(keys=lambda keys: keys.update({b"ladd": b"?"})),
    ),
    wrong(
        "footer-key-incomplete",
        "LADD-005",
        "Our key has no manifest.",
        rewrite(keys=restate_footer(lambda d: d.pop("manifest"))),
    ),
    wrong(
        "footer-of-other-shard",
        "LADD-005",
        "Shard 1 of 2, of one.",
        rewrite(keys=restate_footer(lambda d: d.update(shard={"index": 1, "count": 2}))),
    ),
    wrong(
        "footer-manifest-differs",
        "LADD-005",
        "The manifest inside is not that of its checksum.",
        rewrite(keys=restate_footer(lambda d: d["manifest"].update(name="other"))),
    ),
    wrong(
        "footer-of-other-manifest",
        "LADD-005",
        "The shard's manifest is not that of the folder.",
        rewrite(keys=restate_footer(lambda d: d.update(manifest_sha256="0" * 64))),
        MANIFEST,
    ),
    wrong(
        "features-missing",
        "LADD-006",
        "No features for `datasets`.",
        rewrite(keys=lambda keys: keys.pop(b"huggingface")),
    ),
    wrong(
        "features-of-other-classes",
        "LADD-006",
        "Features with another class.",
        rewrite(keys=lambda keys: keys.update({b"huggingface": keys[b"huggingface"].replace(b"bee", b"fly")})),
    ),
    wrong(
        "page-checksum-fails",
        "LADD-020",
        "One bit of a picture, listed with its checksum: the page knows.",
        edit_shard(turn(in_a_page), sealed=True),
    ),
    wrong("pages-without-checksums", "LADD-083", "Pages without checksums.", rewrite(write_page_checksum=False)),
    wrong("pages-with-dictionaries", "LADD-083", "Dictionary-encoded pages.", rewrite(use_dictionary=True)),
    wrong("pictures-compressed-again", "LADD-083", "zstd around PNG files.", rewrite(compression="ZSTD")),
    wrong(
        "page-larger-than-its-column",
        "LADD-082",
        "A page that claims more bytes than its column chunk.",
        edit_shard(claim_values, sealed=True),
    ),
    wrong("row-group-too-large", "LADD-082", "A few kilobytes that decode to 128 MiB.", bomb),
]


def column(name: str, kind: pa.DataType, nullable: bool = True) -> Callable[[pa.Table], pa.Table]:
    """Return a change of a table: a column of another type."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        values = pa.array(table.column(name).to_pylist(), kind)
        return table.set_column(place, pa.field(name, kind, nullable), values)

    return change


def null(name: str, row: int) -> Callable[[pa.Table], pa.Table]:
    """Return a change of a table: one value less."""

    def change(table: pa.Table) -> pa.Table:
        kind = table.schema.field(name).type
        values = table.column(name).to_pylist()
        values[row] = None
        return table.set_column(table.schema.get_field_index(name), name, pa.array(values, kind))

    return change


def columns(
    name: str, clause: str, about: str, change: Callable[[pa.Table], pa.Table], where: Where | None = None
) -> Case:
    """Return a case of a labelled dataset whose table has another shape."""
    return Case(name, about, LABELLED, after=rewrite(change), problems=((clause, where or at(SHARD)),))


def transpose(table: pa.Table) -> pa.Table:
    """Store [classes, views] instead of [views, classes]."""
    values = np.array(table.column("dense_log_probs").to_pylist(), np.float16).swapaxes(1, 2)
    kind = pa.list_(pa.list_(pa.float16(), 9), 3)
    place = table.schema.get_field_index("dense_log_probs")
    return table.set_column(place, "dense_log_probs", pa.array(values.tolist(), kind))


def add(name: str) -> Callable[[pa.Table], pa.Table]:
    """Return a change of a table: a column more."""
    return lambda table: table.append_column(name, pa.array([1.0] * len(table), pa.float32()))


HALF = pa.float16()
COLUMNS = [
    columns("label-in-int32", "LADD-020", "label as int32.", column("label", pa.int32())),
    columns("id-in-large-string", "LADD-020", "id as large_string.", column("id", pa.large_string())),
    columns(
        "id-in-dictionary",
        "LADD-020",
        "id as an Arrow dictionary.",
        lambda table: table.set_column(2, "id", table.column("id").dictionary_encode()),
    ),
    columns("id-required", "LADD-020", "id declared as required.", column("id", pa.string(), nullable=False)),
    columns(
        "image-without-struct",
        "LADD-020",
        "image as bare bytes.",
        lambda table: table.set_column(0, "image", table.column("image").combine_chunks().field("bytes")),
    ),
    columns(
        "columns-swapped",
        "LADD-020",
        "id before label.",
        lambda table: table.select(["image", "id", "label", "dense_log_probs", "dense_logz"]),
    ),
    columns("column-missing", "LADD-020", "No id.", lambda table: table.drop_columns("id")),
    columns("column-too-many", "LADD-020", "A column of one's own.", add("notes")),
    columns("column-reserved", "LADD-030", "A column of a reserved name.", add("soft_logits")),
    columns("label-column-missing", "LADD-030", "No dense_logz.", lambda table: table.drop_columns("dense_logz")),
    columns(
        "label-column-renamed",
        "LADD-030",
        "Labels under another name.",
        lambda table: table.rename_columns(["image", "label", "id", "dense", "dense_logz"]),
    ),
    columns(
        "dense-in-float32",
        "LADD-030",
        "float32 where float16 is stated.",
        column("dense_log_probs", pa.list_(pa.list_(pa.float32(), 3), 9)),
    ),
    columns("dense-in-lists", "LADD-030", "Lists of any length.", column("dense_log_probs", pa.list_(pa.list_(HALF)))),
    columns(
        "dense-in-large-lists",
        "LADD-030",
        "large_list instead of fixed_size_list.",
        column("dense_log_probs", pa.large_list(pa.large_list(HALF))),
    ),
    columns("dense-transposed", "LADD-030", "Classes before views.", transpose),
    columns("null-label", "LADD-020", "A record without label.", null("label", 2), at(SHARD, 2)),
    columns("null-image", "LADD-020", "A record without image.", null("image", 1), at(SHARD, 1)),
    columns("null-dense", "LADD-020", "A record without soft labels.", null("dense_log_probs", 1), at(SHARD, 1)),
    columns("null-id", "LADD-020", "A record without id.", null("id", 3), {"file": SHARD, "row": 3}),
]

CASES = [*FOLDERS, *COLUMNS]
