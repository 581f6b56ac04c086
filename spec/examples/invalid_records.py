"""Invalid cases: one mistake in the content of records, under right checksums and digests."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from building import LABELLED, Draft, Plan
from cases import MANIFEST, SHARD, Case, at, plan_of, rewrite
from PIL import Image

from ladd_data.manifest import Coding
from ladd_data.types import Array

PLAIN = Plan()
LOG = "dense_log_probs"


def picture(row: int, mode: str = "RGB", size: tuple[int, int] = (8, 8), kind: str = "PNG") -> Callable[[Draft], None]:
    """Return a change of a draft: one image of another kind."""

    def change(draft: Draft) -> None:
        buffer = io.BytesIO()
        Image.new(mode, size).save(buffer, kind)
        replace_image(draft, row, buffer.getvalue())

    return change


def replace_image(draft: Draft, row: int, data: bytes) -> None:
    """Put other bytes in the place of one image."""
    draft.records.images = [*draft.records.images[:row], data, *draft.records.images[row + 1 :]]


def rebuild(row: int, change: Callable[[bytes], bytes]) -> Callable[[Draft], None]:
    """Return a change of a draft: one image's bytes."""
    return lambda draft: replace_image(draft, row, change(draft.records.images[row]))


def interlace(data: bytes) -> bytes:
    """State an interlaced picture, with a right checksum."""
    header = data[16:28] + b"\x01"
    return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]


def fatten(data: bytes) -> bytes:
    """Add a private chunk of 70 kB of nothing."""
    body = b"ruSt" + bytes(70000)
    return data[:33] + struct.pack(">I", 70000) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


def spoil(data: bytes) -> bytes:
    """Change a byte of the pixels without their checksum."""
    place = data.index(b"IDAT") + 40
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def put(name: str, place: Any, value: float | tuple[float, ...]) -> Callable[[Draft], None]:
    """Return a change of a draft: one place of a label column."""

    def change(draft: Draft) -> None:
        values: Array = draft.records.dense[name]
        values[place] = value

    return change


def exchange(draft: Draft) -> None:
    """Give two records each other's image, after the digests' pixels were taken."""
    first, second = draft.records.images[1:3]
    replace_image(draft, 1, second)
    replace_image(draft, 2, first)


def rename(row: int, name: str) -> Callable[[Draft], None]:
    """Return a change of a draft: another id."""
    return lambda draft: draft.records.ids.__setitem__(row, name)


def restore(draft: Draft) -> None:
    """Store logits under the name of log-probabilities."""
    values = draft.records.dense[LOG]
    values[:] = values + np.float16(1)


def exponentiate(draft: Draft) -> None:
    """Store probabilities under the name of log-probabilities."""
    draft.records.dense[LOG] = np.exp(draft.records.dense[LOG]).astype(np.float16)


def turn_views(draft: Draft) -> None:
    """Number the views column by column."""
    for name in (LOG, "dense_logz"):
        values = draft.records.dense[name]
        square = values.reshape(len(values), 3, 3, *values.shape[2:])
        draft.records.dense[name] = np.ascontiguousarray(square.swapaxes(1, 2)).reshape(values.shape)


def turn_classes(draft: Draft) -> None:
    """Number the labeler's classes from 1 instead of 0."""
    draft.records.dense[LOG] = np.roll(draft.records.dense[LOG], 1, -1)


def same_class(draft: Draft) -> None:
    """Keep a class twice in view 3 of the second record."""
    draft.records.dense["dense_topk_ids"][1, 3] = 0


def rise(draft: Draft) -> None:
    """Put the less probable class first in view 3 of the second record."""
    values = draft.records.dense["dense_topk_log_probs"]
    values[1, 3], draft.records.dense["dense_tail_log_prob"][1, 3] = np.log([0.2, 0.7]), np.log(0.1)


def wrong(
    name: str, clause: str, about: str, change: Callable[[Draft], object], row: int, plan: Plan = LABELLED
) -> Case:
    """Return a case of one record that is wrong."""
    return Case(name, about, plan, change=change, problems=((clause, at(SHARD, row)),))


def all_wrong(name: str, clause: str, about: str, change: Callable[[Draft], object], plan: Plan = LABELLED) -> Case:
    """Return a case in which all four records are wrong."""
    return Case(name, about, plan, change=change, problems=tuple((clause, at(SHARD, row)) for row in range(4)))


def repath(table: pa.Table) -> pa.Table:
    """Give the second image another file's name."""
    images = table.column("image").to_pylist()
    images[1]["path"] = "cat.png"
    return table.set_column(0, "image", pa.array(images, table.schema.field("image").type))


IMAGES = [
    wrong("image-of-other-size", "LADD-024", "An image of 16 x 8.", picture(2, size=(16, 8)), 2, PLAIN),
    wrong("image-greyscale", "LADD-024", "A greyscale image among RGB ones.", picture(2, "L"), 2, PLAIN),
    wrong("image-with-alpha", "LADD-024", "An RGBA image.", picture(2, "RGBA"), 2, PLAIN),
    wrong("image-of-a-palette", "LADD-024", "A palette image.", picture(2, "P"), 2, PLAIN),
    wrong("image-of-16-bits", "LADD-024", "Sixteen bits a value.", picture(2, "I;16"), 2, PLAIN),
    wrong("image-of-1-bit", "LADD-024", "One bit a value.", picture(2, "1"), 2, PLAIN),
    wrong("image-interlaced", "LADD-024", "An interlaced PNG.", rebuild(2, interlace), 2, PLAIN),
    wrong("image-in-jpeg", "LADD-024", "A JPEG file.", picture(2, kind="JPEG"), 2, PLAIN),
    wrong("image-cut-short", "LADD-024", "Half a PNG file.", rebuild(2, lambda data: data[: len(data) // 2]), 2, PLAIN),
    wrong("image-damaged", "LADD-024", "A PNG whose own checksum fails.", rebuild(2, spoil), 2, PLAIN),
    wrong("image-empty", "LADD-024", "No bytes.", rebuild(2, lambda data: b""), 2, PLAIN),
    wrong("image-of-70-kilobytes", "LADD-084", "A PNG of 64 pixels in 70 kB.", rebuild(2, fatten), 2, PLAIN),
    Case(
        "images-exchanged",
        "Two records have each other's image.",
        PLAIN,
        change=exchange,
        problems=(("LADD-025", at(MANIFEST)), ("LADD-026", at(MANIFEST))),
    ),
    Case(
        "path-not-the-id",
        "An image with the path of no record.",
        PLAIN,
        after=rewrite(repath),
        problems=(("LADD-020", at(SHARD, 1)),),
    ),
]

HARD = [
    Case(
        "id-twice",
        "An id that another record has.",
        PLAIN,
        change=rename(1, "000000"),
        problems=(("LADD-022", at(SHARD, 1, "000000")),),
    ),
    Case(
        "id-with-a-dot",
        "A dot would cut the id in a tar.",
        PLAIN,
        change=rename(1, "a.b"),
        problems=(("LADD-022", at(SHARD, 1, "a.b")),),
    ),
    Case(
        "id-too-long",
        "65 letters.",
        PLAIN,
        change=rename(1, "a" * 65),
        problems=(("LADD-022", at(SHARD, 1, "a" * 65)),),
    ),
    Case("id-empty", "No letter.", PLAIN, change=rename(1, ""), problems=(("LADD-022", at(SHARD, 1, "")),)),
    wrong(
        "label-99", "LADD-023", "Class 99 of three.", lambda draft: draft.records.labels.__setitem__(2, 99), 2, PLAIN
    ),
    wrong("label-below-zero", "LADD-023", "Class -1.", lambda draft: draft.records.labels.__setitem__(2, -1), 2, PLAIN),
]

SOFT = [
    wrong("dense-nan", "LADD-031", "NaN.", put(LOG, (2, 4, 1), np.nan), 2),
    wrong(
        "dense-nan-in-bfloat16",
        "LADD-031",
        "NaN as bfloat16.",
        put(LOG, (2, 4, 1), 0x7FC0),
        2,
        replace(LABELLED, coding=Coding(dtype="bfloat16")),
    ),
    wrong("dense-minus-infinity", "LADD-031", "The logarithm of 0.", put(LOG, (2, 4, 1), -np.inf), 2),
    wrong(
        "dense-logits-infinite",
        "LADD-031",
        "An infinite logit.",
        put("dense_logits", (2, 4, 1), np.inf),
        2,
        replace(LABELLED, coding=Coding(space="logits")),
    ),
    wrong("dense-logz-infinite", "LADD-031", "An infinite logz.", put("dense_logz", (2, 4), np.inf), 2),
    wrong(
        "dense-scale-nan",
        "LADD-031",
        "A scale that is no number.",
        put("dense_q8_scale", (2, 4), np.nan),
        2,
        plan_of("q8"),
    ),
    wrong(
        "dense-tail-nan",
        "LADD-031",
        "A tail that is no number.",
        put("dense_tail_log_prob", (2, 4), np.nan),
        2,
        plan_of("topk"),
    ),
    wrong("dense-sum-above-one", "LADD-032", "Probabilities that sum to more than 1.", put(LOG, (2, 4, 1), 0.5), 2),
    wrong("dense-sum-below-one", "LADD-032", "Probabilities that sum to less than 1.", put(LOG, (2, 4), -3.0), 2),
    wrong(
        "dense-probability-negative",
        "LADD-032",
        "A probability below 0.",
        put("dense_probs", (2, 4), (-0.5, 0.5, 1.0)),
        2,
        replace(LABELLED, coding=Coding(space="probs", dtype="float32")),
    ),
    all_wrong("dense-logits-called-log-probs", "LADD-032", "Logits under the name of log-probabilities.", restore),
    all_wrong(
        "dense-probs-called-log-probs", "LADD-032", "Probabilities under the name of log-probabilities.", exponentiate
    ),
    wrong("dense-views-column-major", "LADD-043", "Views numbered column by column.", turn_views, 0),
    Case(
        "dense-classes-shifted",
        "Classes in another order than the class list.",
        change=turn_classes,
        problems=(("LADD-043", at(SHARD, 0)), ("LADD-043", at(SHARD, 3))),
    ),
    wrong("q8-scale-zero", "LADD-037", "A scale of 0.", put("dense_q8_scale", (2, 4), 0), 2, plan_of("q8")),
    wrong("q4-scale-negative", "LADD-037", "A scale below 0.", put("dense_q4_scale", (2, 4), -1), 2, plan_of("q4")),
    wrong(
        "q8-without-code-zero",
        "LADD-037",
        "A view in which no class has code 0.",
        put("dense_q8", (2, slice(12, 15)), 7),
        2,
        plan_of("q8"),
    ),
    wrong(
        "q4-unused-half",
        "LADD-037",
        "Bits in the half byte of a class that is not there.",
        put("dense_q4", (2, 9), 0xF0),
        2,
        plan_of("q4"),
    ),
    wrong("topk-class-twice", "LADD-038", "A class twice in one view.", same_class, 1, plan_of("topk")),
    wrong(
        "topk-class-beyond", "LADD-038", "Class 3 of 0 .. 2.", put("dense_topk_ids", (1, 3, 0), 3), 1, plan_of("topk")
    ),
    wrong("topk-rising", "LADD-038", "The less probable class first.", rise, 1, plan_of("topk")),
    wrong(
        "topk-sum",
        "LADD-038",
        "Kept and left probabilities that do not sum to 1.",
        put("dense_tail_log_prob", (1, 3), 0),
        1,
        plan_of("topk"),
    ),
]

CASES = [*IMAGES, *HARD, *SOFT]
