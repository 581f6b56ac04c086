"""Invalid cases of the Arrow edition: one mistake in an Arrow file."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from building import LABELLED, Plan
from cases import MANIFEST, Case, Where, at, edit_list, remove
from invalid_files import add, column, null
from invalid_records import put

ARROW = "data/train-00000-of-00001.arrow"
PLAIN_ARROW = Plan(edition="arrow", count=2)
LABELLED_ARROW = replace(LABELLED, edition="arrow", count=2)
Keys = dict[bytes, bytes]


def place(folder: Path, data: bytes) -> None:
    """Put bytes in the shard's place, under right size and checksum."""
    (folder / ARROW).write_bytes(data)
    stated = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_list(lambda document: document["shards"][0].update(stated))(folder)


def rewrite(
    change: Callable[[pa.Table], pa.Table] = lambda table: table,
    keys: Callable[[Keys], object] = lambda keys: None,
    stream: bool = False,
    **options: Any,
) -> Callable[[Path], None]:
    """Return a change of a folder: the shard's table, written again with its schema's keys."""

    def edit(folder: Path) -> None:
        with pa.ipc.open_file(pa.py_buffer((folder / ARROW).read_bytes())) as reader:
            table = reader.read_all()
        found = dict(table.schema.metadata)
        keys(found)
        changed = change(table).replace_schema_metadata(found)
        out = io.BytesIO()
        begin = pa.ipc.new_stream if stream else pa.ipc.new_file
        with begin(out, changed.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(changed)
        place(folder, out.getvalue())

    return edit


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a change of a folder: the bytes of its shard."""
    return lambda folder: place(folder, change((folder / ARROW).read_bytes()))


def pixels(channels: int, height: int, width: int) -> Callable[[pa.Table], pa.Table]:
    """Return a change of a table: images of another shape, of the first bytes of the old ones."""

    def change(table: pa.Table) -> pa.Table:
        values = np.array(table.column("image").to_pylist(), np.uint8).reshape(len(table), -1)
        flat = pa.array(np.resize(values, (len(table), channels * height * width)).reshape(-1))
        for length in (width, height, channels):
            flat = pa.FixedSizeListArray.from_arrays(flat, length)
        return table.set_column(0, "image", flat)

    return change


def as_files(table: pa.Table) -> pa.Table:
    """Store the images as bytes."""
    values = [np.array(image, np.uint8).tobytes() for image in table.column("image").to_pylist()]
    return table.set_column(0, "image", pa.array(values, pa.binary()))


def hole(table: pa.Table) -> pa.Table:
    """Leave one pixel out."""
    values = table.column("image").to_pylist()
    values[1][0][2][3] = None
    return table.set_column(0, "image", pa.array(values, table.schema.field("image").type))


def not_text(table: pa.Table) -> pa.Table:
    """Give an id bytes that are no UTF-8."""
    offsets, data = pa.array([0, 2, 4], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffbb")
    return table.set_column(2, "id", pa.Array.from_buffers(pa.string(), 2, [None, offsets, data]))


def reach_beyond(data: bytes) -> bytes:
    """Let the last id end beyond the text there is."""
    offsets = struct.pack("<iii", 0, 6, 12)
    assert offsets in data
    return data.replace(offsets, struct.pack("<iii", 0, 6, 4000), 1)


def spoil(data: bytes) -> bytes:
    """Change one pixel: the byte of the first image that a run of its first bytes leads to."""
    start = data.index(np.random.default_rng(7).integers(0, 256, 192, np.uint8).tobytes()[:32])
    return data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :]


def wrong(
    name: str,
    clause: str,
    about: str,
    after: Callable[[Path], object],
    plan: Plan = PLAIN_ARROW,
    where: Where | None = None,
) -> Case:
    """Return a case of an Arrow file that was harmed after it was written."""
    return Case(f"arrow-{name}", about, plan, after=after, problems=((clause, where or at(ARROW)),))


def columns(name: str, about: str, change: Callable[[pa.Table], pa.Table], plan: Plan = LABELLED_ARROW) -> Case:
    """Return a case of other columns."""
    return wrong(name, "LADD-071", about, rewrite(change), plan)


def missing(name: str, row: int, plan: Plan = PLAIN_ARROW) -> Case:
    """Return a case of a null."""
    return wrong(f"null-{name}", "LADD-020", f"A null in {name}.", rewrite(null(name, row)), plan, at(ARROW, row))


def other_classes(keys: Keys) -> None:
    """Name another class in the features."""
    keys[b"huggingface"] = keys[b"huggingface"].replace(b"bee", b"fly")


def png_features(keys: Keys) -> None:
    """Keep the features of the Parquet edition: a picture."""
    features = json.loads(keys[b"huggingface"])
    features["info"]["features"]["image"] = {"_type": "Image"}
    keys[b"huggingface"] = json.dumps(features).encode()


FILES = [
    wrong("stream", "LADD-070", "The stream format, as `datasets` caches it.", rewrite(stream=True)),
    wrong("cut-short", "LADD-070", "The last hundred bytes are missing.", changed(lambda data: data[:-100])),
    wrong("without-magic", "LADD-070", "Other last bytes.", changed(lambda data: data[:-6] + b"ARROW2")),
    wrong("text", "LADD-070", "Text.", changed(lambda data: b"no Arrow at all")),
    wrong("empty", "LADD-070", "No bytes.", changed(lambda data: b"")),
    wrong("footer-length", "LADD-082", "A footer longer than the file.", changed(lambda d: d[:-8] + b"\x7f" + d[-7:])),
    wrong("id-not-utf-8", "LADD-070", "An id that is no text.", rewrite(not_text)),
    wrong("id-beyond-its-buffer", "LADD-070", "Offsets beyond the text.", changed(reach_beyond)),
    wrong("compressed", "LADD-072", "zstd.", rewrite(compression="zstd")),
    wrong("compressed-by-lz4", "LADD-072", "lz4.", rewrite(compression="lz4")),
    wrong("missing", "LADD-002", "The shard is missing.", remove(ARROW)),
    wrong("record-missing", "LADD-021", "One record of two.", rewrite(lambda table: table.slice(1))),
    wrong(
        "unlisted-checksum",
        "LADD-003",
        "A byte of a pixel, under the old checksum.",
        lambda folder: (folder / ARROW).write_bytes(spoil((folder / ARROW).read_bytes())),
    ),
]

COLUMNS = [
    columns("image-of-png-files", "Images as bytes.", as_files),
    columns("image-too-narrow", "Images of 8 x 7.", pixels(3, 8, 7)),
    columns("image-too-high", "Images of 9 x 8.", pixels(3, 9, 8)),
    columns("image-greyscale", "Images of one channel.", pixels(1, 8, 8)),
    columns("image-channels-last", "[height, width, channels].", pixels(8, 8, 3)),
    columns("label-in-int32", "label as int32.", column("label", pa.int32())),
    columns("id-in-large-string", "id as large_string.", column("id", pa.large_string())),
    columns("id-required", "id declared as required.", column("id", pa.string(), nullable=False)),
    columns("logz-in-float64", "float64 where float32 is stated.", column("dense_logz", pa.list_(pa.float64(), 9))),
    columns("dense-in-lists", "Lists of any length.", column("dense_logz", pa.list_(pa.float32()))),
    columns(
        "columns-swapped",
        "id before label.",
        lambda table: table.select(["image", "id", "label", "dense_log_probs", "dense_logz"]),
    ),
    columns("column-missing", "No dense_logz.", lambda table: table.drop_columns("dense_logz")),
    columns("column-too-many", "A column of one's own.", add("notes")),
]

VALUES = [
    wrong("null-id", "LADD-020", "A null in id.", rewrite(null("id", 1)), where={"file": ARROW, "row": 1}),
    missing("label", 1),
    missing("image", 1),
    missing("dense_log_probs", 1, LABELLED_ARROW),
    wrong("null-pixel", "LADD-020", "A null in image.", rewrite(hole), where=at(ARROW, 1)),
    Case(
        "arrow-dense-nan",
        "NaN.",
        LABELLED_ARROW,
        change=put("dense_log_probs", (1, 4, 1), np.nan),
        problems=(("LADD-031", at(ARROW, 1)),),
    ),
    Case(
        "arrow-pixel-changed",
        "A pixel changed by a tool that keeps our keys.",
        PLAIN_ARROW,
        after=changed(spoil),
        problems=(("LADD-025", at(MANIFEST)), ("LADD-026", at(MANIFEST))),
    ),
]

KEYS = [
    wrong("keys-missing", "LADD-073", "Written again by another tool.", rewrite(keys=lambda keys: keys.clear())),
    wrong("ladd-missing", "LADD-073", "No key ladd.", rewrite(keys=lambda keys: keys.pop(b"ladd"))),
    wrong("features-missing", "LADD-073", "No features.", rewrite(keys=lambda keys: keys.pop(b"huggingface"))),
    wrong("features-of-other-classes", "LADD-006", "Features with another class.", rewrite(keys=other_classes)),
    wrong("features-of-parquet", "LADD-006", "Features with pictures, not pixels.", rewrite(keys=png_features)),
    wrong("ladd-not-json", "LADD-005", "Our key holds no JSON.", rewrite(keys=lambda k: k.update({b"ladd": b"?"}))),
]


CASES = [*FILES, *COLUMNS, *VALUES, *KEYS]
