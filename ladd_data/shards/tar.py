"""A tar in which every header has one allowed form, written and read.

The reader rebuilds each header from the name and size it states and compares: nothing is left for links,
devices, sparse files or other people's extensions to say, and no general tar parser sees a foreign byte.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; spec/ladd-1.0.md, section 8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ladd_data.files import MAX_JSON_BYTES
from ladd_data.shards.container import ShardError

BLOCK = 512
END = bytes(2 * BLOCK)
META_KEY = b"LADD.meta"
META_NAME = "././@PaxHeader"
"""The name that Python's tarfile gives a global header; readers ignore it."""
MAX_META_BYTES = MAX_JSON_BYTES + 4096
_NAME = re.compile(r"((?!__)[A-Za-z0-9_-]{1,64})\.(png|jpg|cls|[a-z0-9_]{1,30}\.npy)")
"""Other readers skip names that begin with two underscores (datasets, webdataset); a header has room for 100."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the tar: the record it belongs to, the column it holds, and where its content is."""

    record: str
    column: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """The member's name in the tar."""
        return f"{self.record}.{self.column}"

    @property
    def next(self) -> int:
        """Where the next header is."""
        return self.offset + padded(self.size)


def write_member(file: BinaryIO, name: str, content: bytes, kind: bytes = b"0") -> None:
    """Append a member: header, content, zeros up to a whole block."""
    file.write(tar_header(name, len(content), kind) + content + bytes(padded(len(content)) - len(content)))


def write_meta(file: BinaryIO, meta: bytes) -> None:
    """Write the PAX global header, one record `LENGTH LADD.meta=...` whose length counts its own digits."""
    rest = b" %s=%s\n" % (META_KEY, meta)
    size = len(rest)
    while size != len(rest) + len(str(size)):
        size = len(rest) + len(str(size))
    write_member(file, META_NAME, b"%d%s" % (size, rest), b"g")


def tar_header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """Return the one header block that a member of this name and size may have."""
    fields = [
        (name.encode("ascii"), 100),
        (b"0000644", 8),  # mode
        (b"0000000", 8),  # uid
        (b"0000000", 8),  # gid
        (b"%011o" % size, 12),
        (b"%011o" % 0, 12),  # mtime
        (b" " * 8, 8),  # the checksum counts itself as spaces
        (kind, 1),
        (b"", 100),  # no link
        (b"ustar\x0000", 8),
    ]
    block = b"".join(value.ljust(width, b"\0") for value, width in fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def open_tar(path: Path) -> BinaryIO:
    """Open a tar for reading.

    Raises:
        ShardError: it cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise ShardError("LADD-060", f"unreadable tar ({error})") from error


def read_meta(file: BinaryIO) -> tuple[bytes, int]:
    """Return the value of LADD.meta, and where the first member is.

    Raises:
        ShardError: the tar does not begin with that global header.
    """
    block = _read(file, 0, BLOCK)
    size = _size_of(block)
    if size > MAX_META_BYTES or block != tar_header(META_NAME, size, b"g"):
        raise ShardError("LADD-064", "no PAX global header of this format at the start: other tools wrote this file")
    content = _read(file, BLOCK, padded(size))
    head = b"%d %s=" % (size, META_KEY)
    if not content.startswith(head) or content[size - 1 :].rstrip(b"\0") != b"\n":
        raise ShardError("LADD-064", "a PAX global header that does not hold LADD.meta alone")
    return content[len(head) : size - 1], BLOCK + padded(size)


def walk_members(file: BinaryIO, at: int) -> Iterator[Member]:
    """Yield every member from the header at `at` on, reading headers only.

    Raises:
        ShardError: a header is not as it may be, or the tar does not end as it must.
    """
    length = file.seek(0, 2)
    while (member := read_member(file, at)) is not None:
        if member.next + len(END) > length:
            raise ShardError("LADD-060", f'member "{member.name}" of {member.size} bytes, more than the file has')
        yield member
        at = member.next
    if file.read(BLOCK + 1) != END[BLOCK:]:
        raise ShardError("LADD-060", "something other than two blocks of zeros at the end")


def read_member(file: BinaryIO, at: int) -> Member | None:
    """Return the member whose header stands at `at`; None at the end of the tar.

    Raises:
        ShardError: the header is not one that a member may have.
    """
    block = _read(file, at, BLOCK)
    if block == END[:BLOCK]:
        return None
    name = block[:100].rstrip(b"\0").decode("ascii", "backslashreplace")
    found = _NAME.fullmatch(name)
    if found is None:
        raise ShardError("LADD-061", f"a member of name {name!r}, which is not ID.png, ID.jpg, ID.cls or ID.COLUMN.npy")
    if block[156:157] != b"0":
        raise ShardError("LADD-060", f'member "{name}" of type {block[156:157]!r}, not a file')
    size = _size_of(block)
    if block != tar_header(name, size):
        raise ShardError("LADD-060", f'member "{name}" with another header than it may have')
    return Member(found[1], found[2], at + BLOCK, size)


def read_content(file: BinaryIO, member: Member) -> bytes:
    """Return a member's content.

    Raises:
        ShardError: the file breaks off, or what fills the last block is not zeros.
    """
    content = _read(file, member.offset, padded(member.size))
    if any(content[member.size :]):
        raise ShardError("LADD-060", f'bytes behind the end of member "{member.name}"')
    return content[: member.size]


def padded(size: int) -> int:
    """Return the bytes of the blocks that hold `size` bytes."""
    return -(-size // BLOCK) * BLOCK


def _size_of(block: bytes) -> int:
    digits = block[124:135]
    return int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else 0


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    try:
        file.seek(at)
        data = file.read(size)
    except OSError as error:
        raise ShardError("LADD-060", f"unreadable tar ({error})") from error
    if len(data) != size:
        raise ShardError("LADD-060", "a tar that breaks off")
    return data
