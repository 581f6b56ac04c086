"""A tar shard taken apart into headers and contents, changed, and put together again under right checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from building import Plan
from cases import Case, Where, edit_list

BLOCK = 512
END = bytes(2 * BLOCK)
TAR = "data/train-00000-of-00001.tar"
PLAIN_TAR = Plan(edition="webdataset", count=2)


@dataclass
class Member:
    """A member of a tar: its header block and its content."""

    header: bytes
    content: bytes

    @property
    def name(self) -> str:
        """The name in the header."""
        return self.header[:100].rstrip(b"\0").decode()


Members = list[Member]
"""The global header first."""
Change = Callable[[Members], object]


def place(folder: Path, data: bytes) -> None:
    """Put bytes in the shard's place, under right size and checksum."""
    (folder / TAR).write_bytes(data)
    stated = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_list(lambda document: document["shards"][0].update(stated))(folder)


def take_apart(data: bytes) -> Members:
    """Return the members of a tar that our writer wrote."""
    members, at = [], 0
    while data[at : at + BLOCK] != END[:BLOCK]:
        size = int(data[at + 124 : at + 135], 8)
        members.append(Member(data[at : at + BLOCK], data[at + BLOCK : at + BLOCK + size]))
        at += BLOCK - (-size // BLOCK) * BLOCK
    return members


def put_together(members: Members) -> bytes:
    """Return the tar of some members."""
    return b"".join(m.header + m.content + bytes(-len(m.content) % BLOCK) for m in members) + END


def set_header(member: Member, start: int, value: bytes) -> None:
    """Change a header's bytes from `start` on, and its checksum with them."""
    block = bytearray(member.header)
    block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    member.header = bytes(block)


def name(number: int, new: str) -> Change:
    """Return a change: a member's name."""
    return lambda members: set_header(members[number], 0, new.encode().ljust(100, b"\0"))


def header(number: int, start: int, value: bytes) -> Change:
    """Return a change: some bytes of a member's header, under a right header checksum."""
    return lambda members: set_header(members[number], start, value)


def content(number: int, change: Callable[[bytes], bytes]) -> Change:
    """Return a change: a member's content, with the size that it has then."""

    def edit(members: Members) -> None:
        members[number].content = change(members[number].content)
        set_header(members[number], 124, b"%011o" % len(members[number].content))

    return edit


def insert(number: int, new: str, data: bytes = b"", kind: bytes = b"0", link: str = "") -> Change:
    """Return a change: one member more, before the one of that number."""

    def edit(members: Members) -> None:
        member = Member(members[1].header, data)
        set_header(member, 0, new.encode().ljust(100, b"\0"))
        set_header(member, 124, b"%011o" % len(data))
        set_header(member, 156, kind + link.encode().ljust(100, b"\0"))
        members.insert(number, member)

    return edit


def members_changed(change: Change) -> Callable[[Path], None]:
    """Return a change of a folder: the members of its tar."""

    def edit(folder: Path) -> None:
        members = take_apart((folder / TAR).read_bytes())
        change(members)
        place(folder, put_together(members))

    return edit


def bytes_changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a change of a folder: the bytes of its tar."""
    return lambda folder: place(folder, change((folder / TAR).read_bytes()))


def wrong(
    name: str,
    clause: str,
    about: str,
    after: Callable[[Path], object],
    plan: Plan = PLAIN_TAR,
    where: Where | None = None,
) -> Case:
    """Return a case of a tar that was harmed after it was written."""
    return Case(f"tar-{name}", about, plan, after=after, problems=((clause, where or {"file": TAR}),))
