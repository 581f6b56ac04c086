"""Tar, Arrow and Parquet shards that claim more than they are: refused before they cost memory."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaging import restate, spawn

import ladd_data as ladd
from ladd_data.export import export_dataset
from ladd_data.shards.tar import BLOCK, END, tar_header

VALID = Path(__file__).parents[1] / "spec" / "examples" / "valid"
SHARDS = "meta/shards.json"
MEASURE = """
import re, resource, sys
from pathlib import Path
from ladd_data.validation import validate
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
clauses = sorted({problem.clause for problem in validate(sys.argv[1]).problems})
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # ru_maxrss would be the parent's
print(peak // 1024, *clauses)
"""
PEAK_MIB = 300
"""Of which Python, numpy and pyarrow take 80 before they have read a byte."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("limits")
    shutil.copytree(VALID / "several-row-groups" / "set", home / "parquet")
    for edition in ("webdataset", "arrow"):
        export_dataset(ladd.load(home / "parquet"), edition, home / edition)
    return home


def shard_of(folder: Path) -> Path:
    return next((folder / "data").iterdir())


def replace_shard(folder: Path, data: bytes) -> None:
    """Put other bytes in the first shard's place, under right checksums."""
    shard_of(folder).write_bytes(data)
    seal(folder)


def seal(folder: Path) -> None:
    with shard_of(folder).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stated = {"bytes": shard_of(folder).stat().st_size, "sha256": digest}
    path = folder / SHARDS
    path.write_bytes(restate(lambda document: document["shards"][0].update(stated))(path.read_bytes()))


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


def measure(folder: Path) -> tuple[int, set[str]]:
    """Return the peak of memory of validating in MiB, and the clauses reported."""
    process = spawn("-c", MEASURE, folder)
    out, error = process.communicate()
    assert process.returncode == 0, error
    peak, *clauses = out.split()
    return int(peak), set(clauses)


def refused(built: Path, folder: Path, edition: str, change: Callable[[bytes], bytes], clause: str) -> None:
    """Check that a changed shard is refused for its cause, cheaply, and that loading refuses it, too."""
    shutil.copytree(built / edition, folder)
    replace_shard(folder, change(shard_of(folder).read_bytes()))

    peak, clauses = measure(folder)

    assert peak < PEAK_MIB
    assert clauses == ({clause} if clause else set())
    if clause:
        with pytest.raises(ladd.DatasetError, match=clause):
            _ = ladd.load(folder, verify=False).arrays


@pytest.mark.parametrize("name", ARROW)
def test_an_arrow_shard_that_claims_more_than_it_is_costs_no_memory(built: Path, tmp_path: Path, name: str) -> None:
    refused(built, tmp_path / "set", "arrow", *ARROW[name])


@pytest.mark.parametrize("name", TAR)
def test_a_tar_that_claims_more_than_it_is_costs_no_memory(built: Path, tmp_path: Path, name: str) -> None:
    refused(built, tmp_path / "set", "webdataset", *TAR[name])


def test_a_member_that_is_as_large_as_it_claims_is_not_read(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built / "webdataset", tmp_path / "set"))
    data, size = shard_of(folder).read_bytes(), 2**30
    with shard_of(folder).open("wb") as file:
        file.write(data[: members_of(data)] + tar_header("000000.png", size))
        file.truncate(file.tell() + size)  # a hole: the file takes no room on the disk
        file.seek(0, 2)
        file.write(END)
    seal(folder)

    peak, clauses = measure(folder)

    assert peak < PEAK_MIB and clauses == {"LADD-063"}


def test_the_tars_that_hide_sizes_are_what_other_readers_believe(built: Path) -> None:
    data = TAR["a pax size of 10 GiB"][0](shard_of(built / "webdataset").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        first = tar.next()

    assert first is not None and first.size == 10 * 2**30


def test_a_parquet_footer_with_an_arrow_schema_of_gigabytes_costs_no_memory(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built / "parquet", tmp_path / "set"))
    with pq.ParquetFile(shard_of(folder)) as file:
        table, keys = file.read(), dict(file.metadata.metadata)
    keys[b"ARROW:schema"] = base64.b64encode(share_text(10**6, 5000))
    options = {"use_dictionary": False, "write_page_checksum": True, "store_schema": False}
    with pq.ParquetWriter(shard_of(folder), table.schema.remove_metadata(), **options) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata(keys)
    seal(folder)

    peak, clauses = measure(folder)

    assert peak < PEAK_MIB and clauses == {"LADD-082"}


def test_a_parquet_shard_of_tens_of_thousands_of_columns_is_refused_quickly(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(VALID / "unlabelled" / "set", tmp_path / "set"))
    with pq.ParquetFile(shard_of(folder)) as file:
        keys, fields = dict(file.metadata.metadata), [*file.schema_arrow, *[pa.field("label", pa.int64())] * 30_000]
    with pq.ParquetWriter(shard_of(folder), pa.schema(fields), store_schema=False) as writer:
        writer.add_key_value_metadata({key: value for key, value in keys.items() if key != b"ARROW:schema"})
    seal(folder)

    peak, clauses = measure(folder)

    assert peak < PEAK_MIB and clauses == {"LADD-020"}


def varint(number: int) -> bytes:
    """Return a number as Thrift's compact encoding has it."""
    left, out = number << 1, bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    return bytes([*out, left])


def test_row_groups_of_parquet_that_share_their_bytes_are_refused(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built / "parquet", tmp_path / "set"))
    with pq.ParquetFile(shard_of(folder)) as file:
        table = file.read()
    options = {"use_dictionary": False, "write_page_checksum": True, "compression": "none", "write_statistics": False}
    one = table.slice(0, 1).replace_schema_metadata(table.schema.metadata)
    pq.write_table(pa.concat_tables([one, one]), shard_of(folder), row_group_size=1, **options)
    metadata, data = pq.read_metadata(shard_of(folder)), shard_of(folder).read_bytes()
    first, second = (varint(metadata.row_group(group).column(0).data_page_offset) for group in (0, 1))
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    longer = first[:-1] + bytes([first[-1] | 128]) + b"\x80" * (len(second) - len(first) - 1) + b"\0"
    replace_shard(folder, data[:footer] + data[footer:].replace(second, first if len(first) == len(second) else longer))

    problems = ladd.validate(folder).problems

    assert [problem.clause for problem in problems] == ["LADD-082"] and "share bytes" in problems[0].found


@pytest.mark.parametrize("edition", ["parquet", "webdataset", "arrow"])
def test_unverified_loading_of_a_damaged_shard_ends_in_an_error_of_ours(
    built: Path, tmp_path: Path, edition: str
) -> None:
    folder = Path(shutil.copytree(built / edition, tmp_path / "set"))
    data = shard_of(folder).read_bytes()
    refusals = 0
    for position in range(0, len(data), max(1, len(data) // 300)):
        changed = bytearray(data)
        changed[position] ^= 0x55
        shard_of(folder).write_bytes(changed)
        try:
            _ = ladd.load(folder, verify=False).arrays
        except ladd.DatasetError as error:
            assert "data/" in str(error) or "meta/" in str(error)
            refusals += 1

    assert refusals > 50


def test_unverified_loading_looks_at_the_headers_of_the_pages_it_reads(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built / "parquet", tmp_path / "set"))
    metadata = pq.read_metadata(shard_of(folder))
    column = metadata.row_group(metadata.num_row_groups - 1).column(2)
    assert column.path_in_schema == "label"
    data = shard_of(folder).read_bytes()
    start = column.data_page_offset
    assert data[start : start + 3] == b"\x15\x00\x15"  # field 1, a data page; field 2, what it unpacks to
    assert data[start + 3] < 0x40
    shard_of(folder).write_bytes(put(data, start + 3, bytes([data[start + 3] | 0x40])))

    dataset = ladd.load(folder, verify=False)

    assert np.array_equal(dataset[0].image.shape, (3, 8, 8))
    with pytest.raises(ladd.DatasetError, match="LADD-082"):
        _ = dataset[len(dataset) - 1]
