"""Hostile datasets: small files that would cost a careless reader its memory, its time or its life."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases import CARD, MANIFEST, SHARD, SHARDS, put, rewrite, swap
from damaging import call, spawn
from invalid_files import replace_shard
from PIL import Image

import ladd_data as ladd
from ladd_data.files import MAX_JSON_BYTES, LimitError, parse_json_strictly
from ladd_data.png import decode_png, encode_png
from ladd_data.shards.thrift import BudgetError, CompactReader

ROOT = Path(__file__).parents[1]
VALID = ROOT / "spec" / "examples" / "valid"

MEASURE = """
import re, sys
from pathlib import Path
from ladd_data.validation import validate
report = validate(sys.argv[1])
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # ru_maxrss would be the parent's
print(peak // 1024, *sorted({p.clause for p in report.problems}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(VALID / "labels-float16" / "set", tmp_path / "set"))


def clauses(folder: Path) -> set[str]:
    """Return the clauses that validating reports, where loading refuses, too."""
    found = {problem.clause for problem in ladd.validate(folder).problems}
    try:
        _ = ladd.load(folder).arrays
    except ladd.LaddError:
        return found
    assert {problem.file for problem in ladd.validate(folder).problems} == {CARD}  # of which `load` reads nothing
    return found


def footer_of(values: bytes) -> bytes:
    """Return a Parquet file of nothing but a footer."""
    return b"PAR1" + values + struct.pack("<I", len(values)) + b"PAR1"


def null_rows(folder: Path) -> None:
    """Make a shard of millions of nulls, in several row groups, and say so everywhere."""
    rows = 5_000_000
    with pq.ParquetFile(folder / SHARD) as file:
        schema, keys = file.schema_arrow, dict(file.metadata.metadata)
    keys.pop(b"ARROW:schema", None)
    columns = [pa.nulls(rows, field.type) for field in list(schema)[:3]]
    table = pa.table(columns, schema=pa.schema(list(schema)[:3], metadata=keys))
    options = {"use_dictionary": False, "write_page_checksum": True}
    pq.write_table(table, folder / SHARD, compression="ZSTD", row_group_size=rows, **options)
    replace_shard(folder, (folder / SHARD).read_bytes())


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "manifest of 17 MiB": (put(MANIFEST, b" " * (MAX_JSON_BYTES + 1)), "LADD-080"),
    "manifest of 5 million lists": (put(MANIFEST, b"[" + b"[]," * 5_000_000 + b"[]]"), "LADD-080"),
    "manifest of 390,000 wrong classes": (
        swap(MANIFEST, '"names": [', '"names": [' + "1," * 390_000),
        "LADD-010",
    ),
    "manifest of a million digits": (swap(MANIFEST, '"count": 4', '"count": ' + "9" * 1_000_000), "LADD-010"),
    "manifest of 100,000 levels": (put(MANIFEST, b'{"a":' * 100_000), "LADD-080"),
    "list of 390,000 wrong shards": (swap(SHARDS, '"shards": [', '"shards": [' + "1," * 390_000), "LADD-004"),
    "card of half a million levels": (swap(CARD, "pretty_name: example", "pretty_name: " + "[" * 500_000), "LADD-080"),
    "card of block levels": (swap(CARD, "pretty_name: example", "pretty_name:\n  " + "- " * 500_000 + "a"), "LADD-080"),
    "card of 5 MiB": (swap(CARD, "pretty_name: example", "pretty_name: " + "a" * 5_000_000), "LADD-080"),
    "footer of a million structs": (
        lambda folder: replace_shard(folder, footer_of(b"\x49\xfc\x80\x80\x80\x08" + b"\0" * 2**21)),
        "LADD-082",
    ),
    "footer that states its own size wrongly": (
        lambda folder: replace_shard(folder, b"PAR1" + b"\0" * 8 + struct.pack("<I", 2**31 - 1) + b"PAR1"),
        "LADD-082",
    ),
    "footer of nothing": (lambda folder: replace_shard(folder, footer_of(b"")), "LADD-020"),
    "5 million nulls": (null_rows, "LADD-030"),
    "dictionary of one entry": (rewrite(use_dictionary=True), "LADD-083"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_dataset_is_refused_in_seconds(folder: Path, name: str) -> None:
    harm, clause = HOSTILE[name]
    harm(folder)
    began = time.monotonic()

    assert clause in clauses(folder)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "name", ["manifest of 390,000 wrong classes", "list of 390,000 wrong shards", "5 million nulls"]
)
def test_refusing_takes_less_than_a_gibibyte(folder: Path, name: str) -> None:
    HOSTILE[name][0](folder)
    process = spawn("-c", MEASURE, folder)
    out, error = process.communicate()

    assert process.returncode == 0, error
    assert int(out.split()[0]) < 1024 and HOSTILE[name][1] in out, out


def test_single_changed_bytes_are_reported_or_without_effect() -> None:
    process = spawn(ROOT / "benchmarks" / "fuzz.py", "--changes", "50", "--seed", "1")
    out, error = process.communicate()

    assert process.returncode == 0, out + error
    assert int(out.split("peak memory ")[1].split()[0]) < 1024


@pytest.mark.parametrize("file", [CARD, MANIFEST, SHARD])
def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(folder: Path, file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)

    assert clauses(folder) == {"LADD-085"}


def test_a_key_twice_among_many_is_found_quickly() -> None:
    keys = ",".join(f'"{number}":1' for number in range(200_000))

    with pytest.raises(ValueError, match='"199999" appears twice'):
        parse_json_strictly(f'{{{keys},"199999":1}}'.encode())


@pytest.mark.parametrize("depth", [64, 65])
def test_the_limit_of_nesting_is_exact(depth: int) -> None:
    data = b"[" * depth + b"]" * depth

    if depth > 64:
        with pytest.raises(LimitError):
            parse_json_strictly(data)
    else:
        assert parse_json_strictly(data)


def test_thrift_of_random_bytes_is_an_error_of_one_kind() -> None:
    choose = random.Random(0)
    for _ in range(3000):
        data = choose.randbytes(choose.randrange(1, 60))
        try:
            assert isinstance(CompactReader(data, 100).read_struct(), dict)
        except ValueError as error:
            assert str(error)


def test_thrift_of_too_many_values_is_refused_before_they_are_made() -> None:
    with pytest.raises(BudgetError):
        CompactReader(b"\x19\xfc\xff\xff\xff\xff\x07", 1000).read_struct()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_a_png_that_inflates_to_more_than_it_states_costs_no_memory() -> None:
    bomb = zlib.compress(bytes(25_000_000), 9)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    end = chunk(b"IEND", b"")

    assert decode_png(start + chunk(b"IDAT", bomb) + end, 3, 8, 8).sum() == 0
    with pytest.raises(ValueError, match="PNG"):
        decode_png(start + chunk(b"zTXt", b"note\0\0" + bomb) + chunk(b"IDAT", bomb) + end, 3, 8, 8)


def test_a_png_with_a_colour_profile_is_read() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "PNG", icc_profile=bytes(3000))

    assert decode_png(buffer.getvalue(), 3, 8, 8)[:, 0, 0].tolist() == [1, 2, 3]


def test_random_bytes_of_a_png_never_raise_anything_else() -> None:
    choose = random.Random(0)
    image = decode_png(encode_png(decode_png(plain_png(), 3, 8, 8), "small"), 3, 8, 8)
    data = encode_png(image, "small")
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(3):
            changed[choose.randrange(len(data))] = choose.randrange(256)
        try:
            assert decode_png(bytes(changed), 3, 8, 8).shape == (3, 8, 8)
        except ValueError as error:
            assert "PNG" in str(error)


def plain_png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_dataset_that_datasets_mapped_and_wrote_says_who_did_it(folder: Path, tmp_path: Path) -> None:
    import datasets

    train = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    train.map(lambda record: {"label": (record["label"] + 1) % 3}).to_parquet(folder / SHARD)

    report = ladd.validate(folder)

    assert [(problem.clause, problem.file) for problem in report.problems] == [("LADD-005", SHARD)]
    assert "other tools" in str(report.problems[0])


def test_the_report_ends_with_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / CARD).unlink()

    assert call("validate", folder) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "What to do: Download or write the dataset again."
    assert call("validate", "--json", folder) == 1
    problem = json.loads(capsys.readouterr().out)["problems"][0]
    assert {"clause", "where", "file", "row", "id", "found", "expected", "fix"} == set(problem)
