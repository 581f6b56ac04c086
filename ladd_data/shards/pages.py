"""A page of picture files, taken apart without copying them.

Source: https://parquet.apache.org/docs/file-format/data-pages/encodings/ (RLE, PLAIN); data page, version 1.
"""

from __future__ import annotations

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
    size = int.from_bytes(page[:4], "little")
    if len(page) < 4 + size or not _are_defined(bytes(page[4 : 4 + size]), count):
        raise ShardError("LADD-020", 'null in column "image.bytes", or definition levels that cannot be read')
    values = page[4 + size :]
    length = int.from_bytes(values[:4], "little")
    if count and len(values) == count * (4 + length):
        table = np.frombuffer(values, np.uint8).reshape(count, 4 + length)
        if table[:, :4].tobytes() == table[0, :4].tobytes() * count:
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
