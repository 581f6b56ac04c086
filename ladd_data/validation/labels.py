"""Dense labels of some records against the rules of their encoding; nothing is decoded that breaks them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ladd_data.encodings.affine import unpack
from ladd_data.encodings.dense import decode_dense
from ladd_data.manifest import Coding
from ladd_data.types import F64, Array, Columns

SUM_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1}
"""How far a row's probabilities may sum from 1: float32 rounding, and float16 log-probabilities at C = 1000."""

Flags = NDArray[np.bool_]


class Breach(NamedTuple):
    """One rule broken by one record: its row among those checked, the column, what was found and expected."""

    clause: str
    row: int
    column: str
    found: str
    expected: str


def check_labels(columns: Columns, coding: Coding, classes: int) -> list[Breach]:
    """Return the breaches of some records' dense labels, at most one per record and rule.

    Args:
        columns: the label columns, each [records, ...], of the layout's types.
        coding: how they are stored.
        classes: C.
    """
    with np.errstate(all="ignore"):
        breaches = list(_check_finite(columns, coding))
        if coding.encoding == "dense":
            breaches += [] if coding.space == "logits" else _check_dense(columns, coding)
        elif coding.encoding == "topk":
            breaches += _check_topk(columns, classes)
        else:
            breaches += _check_affine(columns, coding.encoding, classes)
    unsound = {breach.row for breach in breaches if breach.clause == "LADD-031"}
    return [breach for breach in breaches if breach.clause == "LADD-031" or breach.row not in unsound]


def _check_finite(columns: Columns, coding: Coding) -> Iterator[Breach]:
    for name, values in columns.items():
        stored = decode_dense(values, coding.dtype) if name == f"dense_{coding.space}" else values
        for row in _rows(~np.isfinite(stored)):
            yield Breach("LADD-031", row, name, "NaN or infinity", "finite numbers")


def _check_dense(columns: Columns, coding: Coding) -> Iterator[Breach]:
    column = f"dense_{coding.space}"
    wide = decode_dense(columns[column], coding.dtype).astype(np.float64)
    probs = np.exp(wide) if coding.space == "log_probs" else wide
    yield from _check_sums(column, probs.sum(-1), probs.min(-1), SUM_TOLERANCE[coding.dtype])


def _check_sums(column: str, sums: F64, lowest: F64, tolerance: float, clause: str = "LADD-032") -> Iterator[Breach]:
    """Check sums and smallest values of probabilities, each [records, views]."""
    wrong = (np.abs(sums - 1) > tolerance) | (lowest < 0)
    for row in _rows(wrong):
        view = int(wrong[row].argmax())
        low, total = lowest[row, view], sums[row, view]
        found = f"probabilities that sum to {total:.6g}" if low >= 0 else f"a probability of {low:.4g}"
        yield Breach(clause, row, f"{column}, view {view}", found, "at least 0, summing to 1")


def _check_topk(columns: Columns, classes: int) -> Iterator[Breach]:
    ids = columns["dense_topk_ids"].astype(np.int64)
    values = columns["dense_topk_log_probs"].astype(np.float64)
    tail = columns["dense_tail_log_prob"].astype(np.float64)
    ordered = np.sort(ids, -1)
    rules: list[tuple[str, Flags, str, str]] = [
        ("dense_topk_ids", ids >= classes, "a class beyond the last", f"0 .. {classes - 1}"),
        ("dense_topk_ids", ordered[..., 1:] == ordered[..., :-1], "a class twice in one view", "distinct classes"),
        ("dense_topk_log_probs", values[..., 1:] > values[..., :-1], "a rising order", "descending probability"),
    ]
    for column, wrong, found, expected in rules:
        for row in _rows(wrong):
            view = int(wrong[row].any(-1).argmax())
            yield Breach("LADD-038", row, f"{column}, view {view}", found, expected)
    sums = np.exp(values).sum(-1) + np.exp(tail)
    yield from _check_sums("dense_topk_log_probs", sums, sums, SUM_TOLERANCE["float16"], "LADD-038")


def _check_affine(columns: Columns, encoding: str, classes: int) -> Iterator[Breach]:
    name = f"dense_{encoding}"
    scale = columns[f"{name}_scale"]
    for row in _rows(scale <= 0):
        view = int((scale[row] <= 0).argmax())
        yield Breach("LADD-037", row, f"{name}_scale, view {view}", f"a scale of {scale[row, view]:g}", "above 0")
    packed = columns[name]
    codes = unpack(packed, encoding, scale.shape[-1], classes)  # [records, views, classes]
    for row in _rows(codes.min(-1) > 0):
        view = int((codes[row].min(-1) > 0).argmax())
        yield Breach("LADD-037", row, f"{name}, view {view}", "no class of code 0", "code 0 for the most probable")
    if encoding == "q4" and classes % 2:
        last = packed.reshape(len(packed), scale.shape[-1], -1)[..., -1] >> 4
        for row in _rows(last > 0):
            view = int((last[row] > 0).argmax())
            yield Breach("LADD-037", row, f"{name}, view {view}", "bits in the unused half of a byte", "0")


def _rows(wrong: Array) -> list[int]:
    """Return the records, the first axis, in which anything is wrong."""
    found: list[int] = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1)).tolist()
    return found
