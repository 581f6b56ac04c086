"""A page of picture files, taken apart without copying them.

Source: https://parquet.apache.org/docs/file-format/data-pages/encodings/ (RLE, PLAIN); data page, version 1.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ladd_data.shards.container import ShardError
from ladd_data.types import U8

_DEFINED = 2
"""The definition level of image.bytes where neither it nor the struct around it is null; 2 bits each."""
_FULL_BYTE = 0b10101010
"""Four such levels, bit-packed."""


def read_files(page: memoryview, count: int) -> U8 | list[memoryview]:
    """Return the files of an uncompressed PLAIN page of the column image.bytes, as parts of it.

    Args:
        page: its content: definition levels, then each file behind its length.
        count: values that the page's header states.

    Returns:
        A table, uint8 [count, bytes], where all are of one length, as stored PNGs of one size are.

    Raises:
        ShardError: there is a null, or the lengths do not add up to the page.
    """
    values = page[4 + int.from_bytes(page[:4], "little") :]
    if not are_defined(bytes(page[: len(page) - len(values)]), count):
        raise ShardError("LADD-020", 'null in column "image.bytes", or definition levels that cannot be read')
    length = bytes(values[:4])
    row = 4 + int.from_bytes(length, "little")
    if count and len(values) == count * row:
        table: U8 = np.ndarray((count, row), np.uint8, values)
        if table[:, :4].tobytes() == length * count:
            return table[:, 4:]
    files, at = [], 0
    for _ in range(count):
        start = at + 4
        at = start + int.from_bytes(values[at:start], "little")
        if start > len(values) or at > len(values):
            raise ShardError("LADD-020", "a file that reaches beyond its page")
        files.append(values[start:at])
    if at != len(values):
        raise ShardError("LADD-020", "bytes behind the last file of a page")
    return files


def are_defined(head: bytes, count: int) -> bool:
    """Say whether the head of a page, definition levels behind their length, says that no value is null."""
    return head == _usual_head(count) or (
        head[:4] == (len(head) - 4).to_bytes(4, "little", signed=True) and _are_defined(head[4:], count)
    )


@lru_cache(maxsize=4096)
def _usual_head(count: int) -> bytes:
    """Return the head of a page of `count` values with all levels in one run, as those of eight values and more are."""
    run, rest = b"", count << 1
    while rest > 127:
        run, rest = run + bytes([rest & 127 | 128]), rest >> 7
    run += bytes([rest, _DEFINED])
    return len(run).to_bytes(4, "little") + run


def _are_defined(levels: bytes, count: int) -> bool:
    """Say whether `count` levels, in runs and bit-packed groups of 8, are all _DEFINED."""
    at = done = 0
    while done < count:
        head = shift = 0
        while True:
            if at >= len(levels) or shift > 28:
                return False
            head |= (levels[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if levels[at - 1] < 128:
                break
        if head & 1:  # groups of 8 levels in 2 bytes; what fills up the last group is not looked at
            size = 2 * (head >> 1)
            whole, rest = divmod(min(count - done, 4 * size), 4)
            part = levels[at : at + size]
            if not size or len(part) < -(-(4 * whole + rest) // 4) or part[:whole] != bytes([_FULL_BYTE]) * whole:
                return False
            if rest and (part[whole] ^ _FULL_BYTE) & ((1 << 2 * rest) - 1):
                return False
            at, done = at + size, done + 4 * size
        else:
            if not head or levels[at : at + 1] != bytes([_DEFINED]):
                return False
            at, done = at + 1, done + (head >> 1)
    return True
