"""Soft labels of which a program kept the likeliest classes: made whole by its own rule, and compared by that rule.

FKD, TinyViT and ml-dr spread what is left of the probability evenly over the other classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladd_data import Coding, ConvertError

F64 = NDArray[np.float64]


def make_whole(path: Path, ids: NDArray[Any], kept: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Return probabilities of all classes, float32 [rows, classes]; what is left goes to the others evenly.

    Args:
        path: of the file, for messages.
        ids: [rows, k], class numbers, perhaps as floats.
        kept: [rows, k], the probabilities of these.
        classes: of the dataset.

    Raises:
        ConvertError: a number is no class, a class comes twice, or probabilities are none.
    """
    wide, values = ids.astype(np.float64), kept.astype(np.float64)
    numbers = np.rint(np.nan_to_num(wide, nan=-1.0)).astype(np.int64)
    if (numbers != wide).any() or (numbers < 0).any() or (numbers >= classes).any():
        raise ConvertError(
            f"{path}: found class numbers {wide.min():g} .. {wide.max():g}; expected whole ones, 0 .. {classes - 1}. "
            "The teacher was trained on another list of classes: give the one it has with --classes or --dataset."
        )
    ordered = np.sort(numbers, 1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise ConvertError(f"{path}: found a class twice in one label; expected different ones.")
    total = values.sum(1)
    if not np.isfinite(values).all() or values.min() < 0 or total.max() > 1.01:
        raise ConvertError(
            f"{path}: found probabilities {values.min():g} .. {values.max():g} that sum to {total.max():g}; expected "
            "at least 0, and at most 1 in all."
        )
    others = classes - numbers.shape[1]
    rest = np.maximum(1 - total, 0) / max(others, 1)
    whole = np.repeat(rest[:, None], classes, 1)
    np.put_along_axis(whole, numbers, values, 1)
    result: NDArray[np.float32] = (whole / whole.sum(1, keepdims=True)).astype(np.float32)
    return result


def coding_of(kept: int, classes: int, *, exact: bool) -> Coding:
    """Return how such labels are stored: the classes kept and what is left, or every value where `exact`."""
    if exact or kept >= classes:
        return Coding(space="log_probs", dtype="float32")
    return Coding(encoding="topk", k=kept)


def keep_like(said: F64, stored: F64, kept: int) -> F64:
    """Return what would be stored of a teacher's probabilities, each [rows, classes]: those of the stored classes."""
    ids = np.argsort(-stored, 1, kind="stable")[:, :kept]
    values = np.take_along_axis(said, ids, 1)
    rest = np.maximum(1 - values.sum(1, keepdims=True), 0) / max(said.shape[1] - kept, 1)
    whole = np.repeat(rest, said.shape[1], 1)
    np.put_along_axis(whole, ids, values, 1)
    return whole


def keep_first(said: F64, stored: F64) -> F64:
    """Return the likeliest class of a teacher's answers as a label of its own, each [rows, classes]."""
    whole = np.full_like(stored, 0.0)
    np.put_along_axis(whole, said.argmax(1)[:, None], 1.0, 1)
    return whole
