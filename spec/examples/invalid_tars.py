"""Invalid cases of the WebDataset edition: one mistake in a tar. Members: 0 global header, then png, cls, (npy ...)."""

from __future__ import annotations

import bz2
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from building import LABELLED
from cases import CARD, Case, at, remove, swap
from invalid_records import picture
from tars import (
    BLOCK,
    END,
    PLAIN_TAR,
    TAR,
    Members,
    bytes_changed,
    content,
    header,
    insert,
    members_changed,
    name,
    set_header,
    take_apart,
    wrong,
)

LABELLED_TAR = replace(LABELLED, edition="webdataset", count=2)
NPY = 3
"""The first record's dense_log_probs: [9, 3] of float16."""


def member(label: str, clause: str, about: str, change: Callable[[Members], object], npy: bool = False) -> Case:
    """Return a case of changed members."""
    return wrong(label, clause, about, members_changed(change), LABELLED_TAR if npy else PLAIN_TAR)


def record(label: str, clause: str, about: str, change: Callable[[Members], object], npy: bool = False) -> Case:
    """Return a case of changed members that only reading the first record finds."""
    return replace(member(label, clause, about, change, npy), problems=((clause, at(TAR, 0)),))


def raw(label: str, clause: str, about: str, change: Callable[[bytes], bytes]) -> Case:
    """Return a case of changed bytes."""
    return wrong(label, clause, about, bytes_changed(change))


def npy(
    array: np.ndarray[Any, Any], version: tuple[int, int] = (1, 0), allow_pickle: bool = False
) -> Callable[[bytes], bytes]:
    """Return a change of a member's content: another array, as numpy writes it."""

    def change(data: bytes) -> bytes:
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version)
        return file.getvalue()

    return change


def pickled(data: bytes) -> bytes:
    """Return an npy of objects, which are stored as a pickle."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (9, 3)})
    return (file.getvalue() + PICKLE).ljust(len(data), b"\0")


def values(data: bytes) -> np.ndarray[Any, Any]:
    """Return the array of the first record's log-probabilities."""
    return np.frombuffer(data, "<f2", 27, len(data) - 54).reshape(9, 3)


def meta(change: Callable[[bytes], bytes]) -> Callable[[Members], None]:
    """Return a change of the global header's record: its value, under a right length."""

    def edit(members: Members) -> None:
        key, value = members[0].content.split(b" ", 1)[1].rstrip(b"\n").split(b"=", 1)
        rest = b" %s=%s\n" % (key, change(value))
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        members[0].content = b"%d%s" % (length, rest)
        set_header(members[0], 124, b"%011o" % length)

    return edit


def pax_key(data: bytes) -> bytes:
    """Name the record of the global header otherwise, at the same length."""
    return data.replace(b"LADD.meta=", b"LADD.data=", 1)


def without_global_header(data: bytes) -> bytes:
    """Return the tar from its first member on."""
    first = take_apart(data)[0]
    return data[BLOCK - (-len(first.content) // BLOCK) * BLOCK :]


def huge(members: Members) -> None:
    """State 8 GiB in the header of the first picture."""
    set_header(members[1], 124, b"%011o" % (2**33 - 1))


def other_index(value: bytes) -> bytes:
    """State another shard's number."""
    document = json.loads(value)
    document["shard"] = {"index": 1, "count": 2}
    return json.dumps(document, separators=(",", ":")).encode()


def fill(data: bytes) -> bytes:
    """Write a byte behind the first label, inside its block."""
    place = data.index(b"000000.cls\0") + BLOCK + 1
    return data[:place] + b"x" + data[place + 1 :]


def interleave(members: Members) -> None:
    """Put the second record's picture between the first record's members."""
    members.insert(2, members.pop(3))


def flip(mark: bytes, offset: int) -> Callable[[bytes], bytes]:
    """Return a change of bytes: one bit, so far behind the first `mark`."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[data.index(mark) + offset] ^= 1
        return bytes(changed)

    return change


def spoil(folder: Path) -> None:
    """Turn a bit of a picture and leave the shard list as it is."""
    (folder / TAR).write_bytes(flip(b"IDAT", 40)((folder / TAR).read_bytes()))


PICKLE = b"cio\nopen\n(S'pickle-was-run'\nS'w'\ntR."
"""Would make a file where a reader unpickled it; bytes, as what `pickle` writes depends on the Python version."""
TYPE = 156
HEADERS = [
    member("mtime", "LADD-060", "A time of writing.", header(1, 136, b"%011o" % 1)),
    member("mode", "LADD-060", "An executable picture.", header(1, 100, b"0000755")),
    member("owner", "LADD-060", "A user's number.", header(2, 108, b"0001750")),
    member("owner-named", "LADD-060", "A user's name.", header(2, 265, b"root")),
    member("gnu", "LADD-060", "GNU's magic instead of ustar's.", header(1, 257, b"ustar  \0")),
    member("of-old-type", "LADD-060", "Type NUL, as before POSIX.", header(1, TYPE, b"\0")),
    member("size-in-base-256", "LADD-060", "A size as GNU writes large ones.", header(1, 124, b"\x80" + bytes(11))),
    member("symbolic-link", "LADD-060", "A link out of the folder.", insert(1, "x.png", b"", b"2", "/etc/passwd")),
    member("hard-link", "LADD-060", "A hard link.", insert(3, "000001.png", b"", b"1", "000000.png")),
    member("device", "LADD-060", "A device.", insert(1, "x.png", b"", b"3")),
    raw("header-checksum", "LADD-060", "A header of another checksum.", flip(b"000000.cls", 153)),
    raw("filled-up-with-letters", "LADD-060", "A byte behind a label, inside its block.", fill),
    raw("bytes-behind-the-end", "LADD-060", "A byte behind the blocks of zeros.", lambda data: data + b"x"),
    raw(
        "blocks-behind-the-end", "LADD-060", "Filled up to 10 KiB, as tar does.", lambda data: data + bytes(10 * BLOCK)
    ),
    raw("one-block-at-the-end", "LADD-060", "One block of zeros at the end.", lambda data: data[:-BLOCK]),
    raw("without-end", "LADD-060", "No blocks of zeros at the end.", lambda data: data[: -len(END)]),
    raw("cut-short", "LADD-060", "The last 1500 bytes are missing.", lambda data: data[:-1500]),
    member("member-of-8-gibibytes", "LADD-060", "A member that claims 8 GiB.", huge),
    raw("empty", "LADD-060", "No bytes.", lambda data: b""),
    raw("compressed", "LADD-060", "bzip2 around the tar.", bz2.compress),
]

NAMES = [
    member("parent-folder", "LADD-061", "A name that leads out of the folder.", name(1, "../000000.png")),
    member("absolute-path", "LADD-061", "A name that begins at the root.", name(1, "/tmp/000000.png")),
    member("folder", "LADD-061", "Records in a folder.", name(1, "a/000000.png")),
    member("folder-member", "LADD-061", "A folder as a member.", insert(1, "a/", b"", b"5")),
    member("id-with-a-dot", "LADD-061", "A dot in an id: readers would cut it there.", name(1, "0000.00.png")),
    member("id-of-65-letters", "LADD-061", "An id of 65 letters.", name(1, "a" * 65 + ".png")),
    member("id-empty", "LADD-061", "No id.", name(1, ".png")),
    member("id-of-two-underscores", "LADD-061", "An id that readers skip.", name(1, "__0.png")),
    member("upper-case", "LADD-061", "PNG in capitals.", name(1, "000000.PNG")),
    member("jpeg", "LADD-062", "A JPEG file's name.", name(1, "000000.jpg")),
    member("pickle", "LADD-061", "A pickle.", insert(3, "000000.pickle", PICKLE)),
    member("json", "LADD-061", "A member of one's own.", insert(3, "000000.json", b"{}")),
]

ORDER = [
    member("order", "LADD-062", "The label before the picture.", lambda m: m.insert(1, m.pop(2))),
    member("npy-order", "LADD-062", "dense_logz before dense_log_probs.", lambda m: m.insert(3, m.pop(4)), npy=True),
    member("member-missing", "LADD-062", "A record without a label.", lambda m: m.pop(4)),
    member("picture-missing", "LADD-062", "A record without a picture.", lambda m: m.pop(3)),
    member("npy-missing", "LADD-062", "A record without soft labels.", lambda m: m.pop(7), npy=True),
    member("last-npy-missing", "LADD-062", "The last member is missing.", lambda m: m.pop(), npy=True),
    member("member-twice", "LADD-062", "A picture twice.", lambda m: m.insert(1, m[1])),
    member("column-unknown", "LADD-062", "A column of one's own.", insert(3, "000000.notes.npy", b"x")),
    member("records-mixed", "LADD-062", "Another record's picture in between.", interleave),
    member("label-of-another-record", "LADD-062", "A label of a record that has no picture.", name(2, "000009.cls")),
    member("without-records", "LADD-062", "No records.", lambda m: m.__delitem__(slice(1, None))),
    wrong(
        "record-missing",
        "LADD-021",
        "One record of two.",
        members_changed(lambda m: m.__delitem__(slice(3, None))),
    ),
]

CONTENTS = [
    record("label-in-words", "LADD-063", "A label in words.", content(2, lambda data: b"ant")),
    record("label-with-zeros", "LADD-063", "A label with a leading zero.", content(2, lambda data: b"00")),
    record("label-with-a-newline", "LADD-063", "A label and a newline.", content(2, lambda data: b"0\n")),
    member("label-empty", "LADD-063", "No label.", content(2, lambda data: b"")),
    member("picture-empty", "LADD-063", "A picture of no bytes.", content(1, lambda data: b"")),
    member("npy-in-float32", "LADD-063", "float32.", content(NPY, lambda d: npy(values(d).astype("<f4"))(d)), npy=True),
    record("npy-in-int16", "LADD-063", "int16.", content(NPY, lambda d: npy(values(d).view("<i2"))(d)), npy=True),
    record(
        "npy-big-endian",
        "LADD-063",
        "Big-endian numbers.",
        content(NPY, lambda d: npy(values(d).astype(">f2"))(d)),
        npy=True,
    ),
    record(
        "npy-in-fortran-order",
        "LADD-063",
        "Columns before rows.",
        content(NPY, lambda d: npy(np.asfortranarray(values(d)))(d)),
        npy=True,
    ),
    record(
        "npy-transposed",
        "LADD-063",
        "[classes, views].",
        content(NPY, lambda d: npy(np.ascontiguousarray(values(d).T))(d)),
        npy=True,
    ),
    record("npy-flat", "LADD-063", "[27].", content(NPY, lambda d: npy(values(d).reshape(27))(d)), npy=True),
    member(
        "npy-of-fewer-views",
        "LADD-063",
        "One view less.",
        content(NPY, lambda d: npy(values(d)[:8])(d)),
        npy=True,
    ),
    record("npy-version-2", "LADD-063", "npy 2.0.", content(NPY, lambda d: npy(values(d), (2, 0))(d)), npy=True),
    record("npy-pickled", "LADD-063", "Pickled objects.", content(NPY, pickled), npy=True),
    member("npy-cut-short", "LADD-063", "Two bytes less.", content(NPY, lambda data: data[:-2]), npy=True),
    record(
        "npy-header-spaced",
        "LADD-063",
        "A header of the same meaning.",
        content(NPY, lambda data: data.replace(b"(9, 3), } ", b"(9,3,) , }", 1)),
        npy=True,
    ),
    member("npy-text", "LADD-063", "Text.", content(NPY, lambda data: b"0.1 " * 46), npy=True),
]

GLOBAL = [
    raw("without-global-header", "LADD-064", "No global header, as other tools write.", without_global_header),
    member("global-header-last", "LADD-064", "The global header at the end.", lambda m: m.append(m.pop(0))),
    member("global-header-of-another-key", "LADD-064", "No LADD.meta.", content(0, pax_key)),
    member(
        "global-header-of-two-records",
        "LADD-064",
        "A comment beside LADD.meta.",
        content(0, lambda data: data + b"13 comment=a\n"),
    ),
    member("global-header-of-another-name", "LADD-064", "pax_global_header, as git.", name(0, "pax_global_header")),
    member("global-header-length", "LADD-064", "A record of a wrong length.", content(0, lambda d: b"9" + d[1:])),
    member(
        "global-header-too-large",
        "LADD-064",
        "A global header that claims 8 GiB.",
        header(0, 124, b"%011o" % (2**33 - 1)),
    ),
    member("meta-not-json", "LADD-005", "LADD.meta holds no JSON.", meta(lambda value: b"?")),
    member("of-another-shard", "LADD-005", "Shard 1 of 2, of one.", meta(other_index)),
    wrong(
        "of-another-manifest",
        "LADD-005",
        "The shard's manifest is not that of the folder.",
        members_changed(meta(lambda value: value.replace(b'"name":"example"', b'"name":"sample"'))),
    ),
]

FOLDERS = [
    wrong("unlisted-checksum", "LADD-003", "One bit, under the old checksum.", spoil),
    wrong(
        "rewritten",
        "LADD-003",
        "Written again by a tool that drops our header, under the old checksum.",
        lambda folder: (folder / TAR).write_bytes(without_global_header((folder / TAR).read_bytes())),
    ),
    wrong("missing", "LADD-002", "The shard is missing.", remove(TAR)),
    wrong(
        "card-of-parquet",
        "LADD-051",
        "The card has Parquet's column names.",
        swap(CARD, "name: png", "name: image"),
        where=at(CARD),
    ),
    Case(
        "tar-picture-with-alpha",
        "An RGBA image.",
        PLAIN_TAR,
        change=picture(1, "RGBA"),
        problems=(("LADD-024", at(TAR, 1)),),
    ),
]
CASES = [*HEADERS, *NAMES, *ORDER, *CONTENTS, *GLOBAL, *FOLDERS]
