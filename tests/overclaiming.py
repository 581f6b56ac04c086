"""Changes of Arrow and tar shards after which they claim to be more than they are, and the clause each breaks."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pyarrow as pa

from ladd_data.shards.tar import BLOCK, tar_header


def write_arrow(data: bytes, table: Callable[[pa.Table], pa.Table] = lambda table: table, rows: int = 2) -> bytes:
    """Write an Arrow file again, in batches of `rows`, with its schema's metadata."""
    with pa.ipc.open_file(pa.py_buffer(data)) as reader:
        old = reader.read_all()
    new = table(old)
    metadata = {**old.schema.metadata, **(new.schema.metadata or {})}
    out = io.BytesIO()
    with pa.ipc.new_file(out, new.schema.with_metadata(metadata)) as writer:
        writer.write_table(new.replace_schema_metadata(metadata), max_chunksize=rows)
    return out.getvalue()


def blocks_of(data: bytes) -> list[int]:
    """Return where the blocks of an Arrow file stand in its footer, 24 bytes each."""
    count = pa.ipc.open_file(pa.py_buffer(data)).num_record_batches
    length = int.from_bytes(data[-10:-6], "little")
    footer = len(data) - 10 - length
    for start in range(footer, len(data) - 24 * count, 4):
        places = [start + 4 + 24 * number for number in range(count)]
        firsts = [struct.unpack_from("<q", data, place)[0] for place in places]
        if data[start : start + 4] == struct.pack("<I", count) and all(
            0 < first < footer and data[first : first + 4] == b"\xff\xff\xff\xff" for first in firsts
        ):
            return places
    raise AssertionError("no blocks")


def put(data: bytes, start: int, new: bytes) -> bytes:
    return data[:start] + new + data[start + len(new) :]


def message(data: bytes, number: int = 0) -> tuple[int, int]:
    """Return where the message of an Arrow batch is: its first byte, and the first byte of its body."""
    start, length = struct.unpack_from("<qi", data, blocks_of(data)[number])
    return start, start + length


def change_number(old: bytes, new: int) -> Callable[[bytes], bytes]:
    """Return a change of the first batch's message: the last place that holds `old` gets another number."""

    def changed(data: bytes) -> bytes:
        data = write_arrow(data)
        start, stop = message(data)
        place = data.rindex(old, start, stop)
        return put(data, place, struct.pack("<q", new))

    return changed


def compressed(data: bytes) -> bytes:
    """Return an Arrow file whose buffers each claim to be 8 GiB."""
    with pa.ipc.open_file(pa.py_buffer(data)) as reader:
        table = reader.read_all()
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    result = out.getvalue()
    _, body = message(result)
    assert 0 < struct.unpack_from("<q", result, body)[0] < 2**20
    return put(result, body, struct.pack("<q", 2**33))


def one_batch_twice(data: bytes) -> bytes:
    data = write_arrow(data)
    first, second = blocks_of(data)[:2]
    return put(data, second, data[first : first + 24])


def deep_column(levels: int) -> Callable[[bytes], bytes]:
    def change(table: pa.Table) -> pa.Table:
        kind: pa.DataType = pa.uint8()
        for _ in range(levels):
            kind = pa.list_(kind)
        return table.append_column("more", pa.nulls(len(table), kind))

    return lambda data: write_arrow(data, change)


def deep_key(data: bytes) -> bytes:
    deep = b'{"manifest":' + b"[" * 10**6
    return write_arrow(data, lambda table: table.replace_schema_metadata({b"ladd": deep}))


def share_text(text: int, times: int) -> bytes:
    """Return an Arrow schema in a message, whose metadata are so many times one pair with a text of so many bytes."""
    out = bytearray(4)

    def table(forms: list[str]) -> list[int]:
        """Append a table with these fields and return where it is, and where they are."""
        places, end = [], 4
        for form in forms:
            end += -end % struct.calcsize(form)
            places.append(end)
            end += struct.calcsize(form)
        fields = len(out)
        out.extend(struct.pack(f"<{2 + len(forms)}H", 4 + 2 * len(forms), end, *places))
        out.extend(bytes(-len(out) % 8))
        start = len(out)
        out.extend(struct.pack("<i", start - fields) + bytes(end - 4 + -end % 8))
        return [start, *(start + place for place in places)]

    def point(place: int, target: int) -> None:
        out[place : place + 4] = struct.pack("<I", target - place)

    start, version, kind, header, _ = table(["<h", "<B", "<I", "<q"])
    point(0, start)
    out[version], out[kind] = 4, 1
    schema, _, fields, pairs = table(["<h", "<I", "<I"])
    point(header, schema)
    point(fields, len(out))
    out.extend(bytes(8))
    point(pairs, len(out))
    first = len(out) + 4
    out.extend(struct.pack("<I", times) + bytes(4 * times + -(4 + 4 * times) % 8))
    pair, key, value = table(["<I", "<I"])
    for number in range(times):
        point(first + 4 * number, pair)
    for place, size in ((key, 1), (value, text)):
        point(place, len(out))
        out.extend(struct.pack("<I", size) + b"x" * size + bytes(8 - size % 8 + 4))
    out.extend(bytes(-len(out) % 8))
    return b"\xff\xff\xff\xff" + struct.pack("<i", len(out)) + bytes(out)


def shared_text_first(data: bytes) -> bytes:
    """Return an Arrow file whose schema at the start would take 5 GB; its footer is in order."""
    return data[:8] + share_text(10**6, 5000) + bytes(8) + data[-10 - int.from_bytes(data[-10:-6], "little") :]


def many_columns(data: bytes) -> bytes:
    """Return an Arrow file with a hundred thousand columns of one name."""

    def change(table: pa.Table) -> pa.Table:
        fields = [*table.schema, *[pa.field("label", pa.int64())] * 100_000]
        return pa.schema(fields, metadata=table.schema.metadata).empty_table()

    return write_arrow(data, change)


PIXELS = 2 * 3 * 8 * 8
ARROW: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (write_arrow, ""),
    "compressed buffers that claim 8 GiB": (compressed, "LADD-072"),
    "a buffer of a TiB": (change_number(struct.pack("<q", PIXELS), 2**40), "LADD-082"),
    "a field of a trillion values": (change_number(struct.pack("<qq", PIXELS, 0), 2**40), "LADD-082"),
    "a negative buffer": (change_number(struct.pack("<q", PIXELS), -8), "LADD-082"),
    "one batch twice": (one_batch_twice, "LADD-082"),
    "a column of 20 levels": (deep_column(20), "LADD-071"),
    "a column of 60 levels": (deep_column(60), "LADD-082"),
    "a manifest of a million levels": (deep_key, "LADD-005"),
    "one text 5,000 times": (shared_text_first, "LADD-082"),
    "a hundred thousand columns": (many_columns, "LADD-082"),
    "a footer of 2 GiB": (lambda data: put(data, len(data) - 10, b"\xff\xff\xff\x7f"), "LADD-082"),
    "a message of 2 GiB": (
        lambda data: put(write_arrow(data), blocks_of(write_arrow(data))[0] + 8, b"\xf8\xff\xff\x7f"),
        "LADD-082",
    ),
    "a body of 2^62 bytes": (
        lambda data: put(write_arrow(data), blocks_of(write_arrow(data))[0] + 16, struct.pack("<q", 2**62)),
        "LADD-082",
    ),
}


def members_of(data: bytes) -> int:
    """Return where a tar's first member begins."""
    size = int(data[124:135], 8)
    return BLOCK + size + -size % BLOCK


def raw_header(name: str, size: bytes, kind: bytes) -> bytes:
    block = bytearray(tar_header(name, 0, kind))
    block[124:136] = size.ljust(12, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def before_members(more: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[: members_of(data)] + more + data[members_of(data) :]


def first_header(size: bytes, kind: bytes = b"0") -> Callable[[bytes], bytes]:
    """Return a change of the first member's header: another size and type."""

    def changed(data: bytes) -> bytes:
        start = members_of(data)
        return put(data, start, raw_header(data[start : start + 100].rstrip(b"\0").decode(), size, kind))

    return changed


def pax(record: bytes, kind: bytes = b"x") -> bytes:
    return raw_header("PaxHeaders/0", b"%011o" % len(record), kind) + record + bytes(-len(record) % BLOCK)


def huge_npy(data: bytes) -> bytes:
    start = data.index(b"\x93NUMPY")
    stop = start + 10 + int.from_bytes(data[start + 8 : start + 10], "little")
    text = data[start + 10 : stop]
    shape = text[text.index(b"(") : text.index(b")") + 1]
    wide = text.replace(shape, b"(99999999, 99999999)").rstrip().ljust(len(text) - 1) + b"\n"
    assert len(wide) == len(text)
    return put(data, start + 10, wide)


def huge_png(data: bytes) -> bytes:
    start = data.index(b"IHDR")
    header = b"IHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + data[start + 12 : start + 17]
    return put(data, start, header + struct.pack(">I", zlib.crc32(header)))


def global_size(data: bytes) -> bytes:
    """Return a tar whose global header also sets every member's size to 10 GiB, as pax may."""
    size = int(data[124:135], 8)
    content = data[BLOCK : BLOCK + size] + b"20 size=10737418240\n"
    header = tar_header("././@PaxHeader", len(content), b"g")
    return header + content + bytes(-len(content) % BLOCK) + data[members_of(data) :]


TEN_GIB = b"\x80" + (10 * 2**30).to_bytes(11, "big")
TAR: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda data: data, ""),
    "a member of 10 GiB, in GNU's way": (first_header(TEN_GIB), "LADD-060"),
    "a member of 8 GiB": (first_header(b"77777777777"), "LADD-060"),
    "a GNU sparse member": (first_header(b"00000001000", b"S"), "LADD-060"),
    "a pax size of 10 GiB": (before_members(pax(b"20 size=10737418240\n")), "LADD-061"),
    "a pax sparse map": (
        before_members(pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n32 GNU.sparse.realsize=99999999999\n")),
        "LADD-061",
    ),
    "a pax size for all members": (global_size, "LADD-064"),
    "a second global header": (before_members(pax(b"20 size=10737418240\n", b"g")), "LADD-061"),
    "an npy of 10^16 values": (huge_npy, "LADD-063"),
    "a PNG of 2^62 pixels": (huge_png, "LADD-024"),
}
