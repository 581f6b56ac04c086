"""Stand-ins for the names that NumPy's numbers and arrays are pickled under: nothing of NumPy's runs on a file's word.

A pickle of an array calls `_reconstruct(ndarray, (0,), b"b")` and hands the result its shape, its type and its bytes.
The stand-ins only keep these; `to_array` checks them and builds the array.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Allowed = list[Callable[..., object] | tuple[Callable[..., object], str]]


class _Number:
    """Stands in for `numpy.dtype`: the type of one number, "f8" or the like, and its byte order."""

    code = "f8"

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = str(code or self.code)
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"


class _Int64(_Number):
    """Stands in for `numpy.dtypes.Int64DType`."""

    code = "i8"


_FORMATS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u1": "B", "b1": "?"}


def _number(kind: object = None, data: object = b"") -> float | int | bool:
    """Stand in for NumPy's `scalar`: the one number that `data` holds, as Python's."""
    if not isinstance(kind, _Number) or kind.code not in _FORMATS or not isinstance(data, bytes):
        raise pickle.UnpicklingError("a NumPy scalar that is not a number")
    try:
        number: float | int | bool = struct.unpack(kind.order + _FORMATS[kind.code], data)[0]
    except struct.error:
        raise pickle.UnpicklingError("a NumPy scalar of another size") from None
    return number


class PickledArray:
    """What a file says of an array. `to_array` makes one of it."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def _reconstruct(*_: object) -> PickledArray:
    """Stand in for NumPy's `_reconstruct`, which makes an empty array of any class."""
    return PickledArray()


def to_array(pickled: PickledArray) -> NDArray[Any]:
    """Return the array that a file describes, a copy in this machine's byte order.

    Raises:
        ValueError: it is not of numbers, or says another size than it has.
    """
    match pickled.state:
        case (int(), tuple() as shape, _Number() as kind, bool() as by_columns, bytes() as data):
            pass
        case _:
            raise ValueError("an array without its shape, type and bytes")
    if kind.code not in _FORMATS or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"an array of the type {kind.code[:20]!r} and the shape {str(shape)[:40]}")
    dtype = np.dtype(kind.order + kind.code)
    if prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of {list(shape)} {kind.code} in {len(data)} bytes")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")
    return array.astype(dtype.newbyteorder("="))


NUMBERS: Allowed = [
    (_number, "numpy.core.multiarray.scalar"),  # NumPy 1
    (_number, "numpy._core.multiarray.scalar"),  # NumPy 2
    (_Number, "numpy.dtype"),
    (_Number, "numpy.dtypes.Float64DType"),
    (_Int64, "numpy.dtypes.Int64DType"),
]
"""Single numbers, which many programs leave beside tensors."""
ARRAYS: Allowed = [
    (_reconstruct, "numpy.core.multiarray._reconstruct"),
    (_reconstruct, "numpy._core.multiarray._reconstruct"),
    (PickledArray, "numpy.ndarray"),
]
"""Arrays, which only FKD's label files are made of."""


def names_of(allowed: Allowed) -> set[str]:
    """Return the names that are stood in for."""
    return {item[1] for item in allowed if isinstance(item, tuple)}
