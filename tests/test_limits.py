"""Tar, Arrow and Parquet shards that claim more than they are: refused before they cost memory."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaging import restate, spawn
from overclaiming import ARROW, TAR, members_of, put, share_text

import ladd_data as ladd
from ladd_data.export import export_dataset
from ladd_data.shards.tar import END, tar_header

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
    (folder / "croissant.json").unlink(missing_ok=True)
    with shard_of(folder).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stated = {"bytes": shard_of(folder).stat().st_size, "sha256": digest}
    path = folder / SHARDS
    path.write_bytes(restate(lambda document: document["shards"][0].update(stated))(path.read_bytes()))


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
