"""The order of an epoch: a pure function of (seed, epoch, index), the same on every machine and release.

Each index gets a 64-bit key by SplitMix64 and the epoch visits the indices by ascending key. No random
generator of torch or numpy is involved, because theirs may change between releases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ladd_data.types import F64, I64

U64 = NDArray[np.uint64]


def epoch_order(count: int, seed: int, epoch: int) -> I64:
    """Return a permutation of 0 .. count-1, int64 [count].

    Args:
        count: records in the dataset.
        seed: any integer from 0 to 2**32 - 1.
        epoch: 0, 1, 2, ...
    """
    stream = _mix(_mix(np.array([seed], np.uint64)) ^ np.array([epoch], np.uint64))
    keys = _mix(np.arange(count, dtype=np.uint64) + stream)
    return np.argsort(keys, kind="stable").astype(np.int64)


def draw_views(count: int, k: int, seed: int, epoch: int, slot: int) -> tuple[int, ...]:
    """Return k of `count` view numbers, ascending; each set of k is equally likely.

    Args:
        count: views there are.
        k: how many to draw, 1 .. count.
        seed: of the loader.
        epoch: of the pass.
        slot: the first of the global batch, so that every rank draws the same.
    """
    stream = _mix(_mix(_mix(np.array([seed], np.uint64)) ^ np.array([epoch], np.uint64)) ^ np.array([slot], np.uint64))
    keys = _mix(np.arange(count, dtype=np.uint64) + stream)
    return tuple(sorted(np.argsort(keys, kind="stable")[:k].tolist()))


def draw_uniform(count: int, *key: int) -> F64:
    """Return numbers from [0, 1) that depend on the key alone, float64 [count], multiples of 2**-53.

    Args:
        count: how many.
        key: any integers from 0 to 2**64 - 1, such as seed and step; another key is another stream.
    """
    stream = np.zeros(1, np.uint64)
    for part in key:
        stream = _mix(stream ^ np.array([part], np.uint64))
    bits = _mix(np.arange(count, dtype=np.uint64) + stream) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _mix(value: U64) -> U64:
    """SplitMix64's output function (Steele, Lea, Flood 2014): a bijection of 64-bit integers."""
    with np.errstate(over="ignore"):
        value = value + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
