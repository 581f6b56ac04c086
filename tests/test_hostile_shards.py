"""Damaged and hostile tar and Arrow shards: named, refused, and never followed."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from damaging import call, restate

import ladd_data as ladd
from ladd_data.export import export_dataset
from ladd_data.shards.tar import BLOCK, END, tar_header
from ladd_data.types import Edition
from ladd_data.validation import Report

SHARD = {"webdataset": "data/train-00000-of-00001.tar", "arrow": "data/train-00000-of-00001.arrow"}
SHARDS = "meta/shards.json"
Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture(scope="module")
def built(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("hostile")
    for edition in ("webdataset", "arrow"):
        export_dataset(ladd.load(labelled), edition, home / edition)
    return home


def replace_shard(folder: Path, edition: Edition, data: bytes) -> None:
    """Put other bytes in the shard's place, under right checksums."""
    (folder / SHARD[edition]).write_bytes(data)
    stated = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path = folder / SHARDS
    path.write_bytes(restate(lambda document: document["shards"][0].update(stated))(path.read_bytes()))


def clauses(report: Report) -> set[str]:
    return {problem.clause for problem in report.problems}


@pytest.mark.parametrize("edition", SHARD)
def test_one_byte_changed_anywhere_is_noticed_and_the_shard_named(
    built: Path, tmp_path: Path, edition: Edition, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = Path(shutil.copytree(built / edition, tmp_path / "set")), SHARD[edition]
    data = (folder / name).read_bytes()
    positions = sorted({0, len(data) - 1, *range(0, len(data), len(data) // 40)})

    assert len(positions) >= 40
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(ladd.DatasetError, match=name):
            ladd.load(folder)
        assert any(name in str(problem) for problem in ladd.validate(folder).problems)
    assert call("validate", folder) == 1
    assert name in capsys.readouterr().out


def test_no_byte_of_a_tars_members_can_change_under_right_checksums(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built / "webdataset", tmp_path / "set"))
    data = (folder / SHARD["webdataset"]).read_bytes()
    first = BLOCK + len(data[BLOCK:].split(b"\n", 1)[0])  # where the global header's content ends
    pixels = ladd.load(folder).arrays.images
    for position in [*range(0, BLOCK, 97), *range(first, first + 5000, 61), *range(first, len(data), 1499)]:
        changed = bytearray(data)
        changed[position] ^= 1
        replace_shard(folder, "webdataset", bytes(changed))

        if ladd.validate(folder).valid:  # only where Pillow ignores a byte of a PNG, such as a checksum
            assert data.rfind(b"\x89PNG", 0, position) > data.rfind(b".cls\0", 0, position), position
            assert np.array_equal(ladd.load(folder).arrays.images, pixels)


def test_flips_in_arrow_under_right_checksums_are_found_or_change_nothing(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built / "arrow", tmp_path / "set"))
    arrays = ladd.load(folder).arrays
    data = (folder / SHARD["arrow"]).read_bytes()
    for position in range(0, len(data), len(data) // 150):
        changed = bytearray(data)
        changed[position] ^= 1
        replace_shard(folder, "arrow", bytes(changed))

        if ladd.validate(folder).valid:
            found = ladd.load(folder).arrays
            assert found.ids == arrays.ids and np.array_equal(found.images, arrays.images), position


@pytest.mark.parametrize("edition", SHARD)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_shard_that_breaks_off_is_refused_under_right_checksums(
    built: Path, tmp_path: Path, edition: Edition, share: float
) -> None:
    folder = Path(shutil.copytree(built / edition, tmp_path / "set"))
    data = (folder / SHARD[edition]).read_bytes()
    replace_shard(folder, edition, data[: int(len(data) * share)])

    report = ladd.validate(folder)

    assert report.problems and all(problem.where.startswith(SHARD[edition]) for problem in report.problems)


def add(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[list[Member]], None]:
    """Return a change of the members: one more before the others."""

    def change(members: list[Member]) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, len(data)
        members.insert(0, (info, data))

    return change


def rename(number: int, name: str) -> Callable[[list[Member]], None]:
    return lambda members: setattr(members[number][0], "name", name)


def refill(number: int, data: bytes) -> Callable[[list[Member]], None]:
    def change(members: list[Member]) -> None:
        members[number] = (members[number][0], data)

    return change


def npy(array: object, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)  # type: ignore[arg-type]
    return file.getvalue()


def named(name: str) -> Member:
    return tarfile.TarInfo(name), b"x"


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('the pickle ran')",))


FORTRAN = np.asfortranarray(np.zeros((25, 3), np.float16))
HOSTILE: dict[str, tuple[Callable[[list[Member]], object], str]] = {
    "nothing": (lambda members: None, ""),
    "pickle member": (add("000000.pickle", pickle.dumps(Evil())), "LADD-061"),
    "pickle in place": (rename(2, "000000.dense_log_probs.pkl"), "LADD-061"),
    "npy with a pickle": (refill(2, npy(np.array([Evil()] * 8, object), allow_pickle=True)), "LADD-063"),
    "npy in Fortran order": (refill(2, npy(FORTRAN)), "LADD-063"),
    "npy of another type": (refill(2, npy(np.zeros((25, 3), np.int16))), "LADD-063"),
    "parent folder": (rename(0, "../000000.png"), "LADD-061"),
    "absolute path": (rename(0, "/tmp/000000.png"), "LADD-061"),
    "folder": (rename(0, "a/000000.png"), "LADD-061"),
    "symbolic link": (add("000000.png", b"", tarfile.SYMTYPE, "/etc/passwd"), "LADD-060"),
    "hard link": (add("000000.png", b"", tarfile.LNKTYPE, "/etc/passwd"), "LADD-060"),
    "device": (add("000000.png", b"", tarfile.CHRTYPE), "LADD-060"),
    "directory": (add("000000.png", b"", tarfile.DIRTYPE), "LADD-061"),
    "unknown member": (add("000000.txt"), "LADD-061"),
    "unknown column": (add("000000.dense_surprise.npy"), "LADD-062"),
    "a dot in the id": (rename(0, "0000.00.png"), "LADD-061"),
    "two underscores": (rename(0, "__0.png"), "LADD-061"),
    "upper case": (rename(0, "000000.PNG"), "LADD-061"),
    "one more at the end": (lambda members: members.append(named("000005.dense_more.npy")), "LADD-062"),
    "order": (lambda members: members.insert(0, members.pop(1)), "LADD-062"),
    "missing member": (lambda members: members.pop(2), "LADD-062"),
    "missing last member": (lambda members: members.pop(), "LADD-062"),
    "member twice": (lambda members: members.insert(0, members[0]), "LADD-062"),
    "members of two records": (rename(1, "000009.cls"), "LADD-062"),
    "no records": (lambda members: members.clear(), "LADD-062"),
    "a record too few": (lambda members: members.__delitem__(slice(-4, None)), "LADD-021"),
    "class as text": (refill(1, b"ant"), "LADD-063"),
    "class with zeros": (refill(1, b"00"), "LADD-063"),
    "class of many digits": (refill(1, b"9" * 5000), "LADD-063"),
    "image of many bytes": (refill(0, bytes(10**6)), "LADD-063"),
    "empty image": (refill(0, b""), "LADD-063"),
    "other mode": (lambda members: setattr(members[0][0], "mode", 0o777), "LADD-060"),
    "other owner": (lambda members: setattr(members[0][0], "uname", "root"), "LADD-060"),
    "time": (lambda members: setattr(members[0][0], "mtime", 1), "LADD-060"),
}


def pack(members: list[Member], meta: bytes) -> bytes:
    """Write a tar as this format's writer does, except for what Python's tarfile does in its own way."""
    out = io.BytesIO()
    out.write(meta)
    for info, data in members:
        info.size = len(data)
        block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
        block[329:345] = bytes(16)  # device numbers of what is no device
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        out.write(bytes(block) + data + bytes(-len(data) % BLOCK))
    return out.getvalue() + END


def unpack(data: bytes) -> tuple[list[Member], bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar.getmembers()]  # type: ignore[union-attr]
        start = min(info.offset for info, _ in members)
    size = int(data[124:135], 8)
    assert start in (0, BLOCK + size + -size % BLOCK)
    return members, data[: BLOCK + size + -size % BLOCK]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_refused_under_right_checksums(built: Path, tmp_path: Path, name: str) -> None:
    change, clause = HOSTILE[name]
    folder = Path(shutil.copytree(built / "webdataset", tmp_path / "set"))
    members, meta = unpack((folder / SHARD["webdataset"]).read_bytes())
    members = [(plain(info), data) for info, data in members]
    change(members)
    replace_shard(folder, "webdataset", pack(members, meta))

    report = ladd.validate(folder)

    assert clause in clauses(report) if clause else report.valid
    assert all(problem.where.startswith((SHARD["webdataset"], "meta/")) for problem in report.problems)
    if clause and name not in READ_LATER:
        with pytest.raises(ladd.DatasetError, match=clause):
            ladd.load(folder)


READ_LATER = {"npy with a pickle", "npy in Fortran order", "npy of another type", "class as text", "class with zeros"}
"""What opening does not see, because it reads headers and not contents; reading does."""


def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member's description without what the global header added to it."""
    copy = tarfile.TarInfo(info.name)
    copy.size = info.size
    return copy


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "bytes behind the end": (lambda data: data + b"x", "LADD-060"),
    "blocks behind the end": (lambda data: data + END, "LADD-060"),
    "one block of zeros": (lambda data: data[:-BLOCK], "LADD-060"),
    "no end": (lambda data: data[:-BLOCK] + b"\1" * BLOCK, "LADD-060"),
    "no global header": (lambda data: data[unpack_start(data) :], "LADD-064"),
    "huge global header": (lambda data: tar_header("././@PaxHeader", 2**33 - 1, b"g") + data[BLOCK:], "LADD-064"),
    "huge member": (lambda data: resize(data, 2**33 - 1), "LADD-060"),
    "gzip": (lambda data: __import__("gzip").compress(data), "LADD-060"),
}


def unpack_start(data: bytes) -> int:
    return len(unpack(data)[1])


def resize(data: bytes, size: int) -> bytes:
    start = unpack_start(data)
    return data[:start] + tar_header("000000.png", size) + data[start + BLOCK :]


@pytest.mark.parametrize("name", BYTES)
def test_a_malformed_tar_is_refused_under_right_checksums(built: Path, tmp_path: Path, name: str) -> None:
    change, clause = BYTES[name]
    folder = Path(shutil.copytree(built / "webdataset", tmp_path / "set"))
    replace_shard(folder, "webdataset", change((folder / SHARD["webdataset"]).read_bytes()))

    assert clauses(ladd.validate(folder)) == {clause}
    with pytest.raises(ladd.DatasetError, match=clause):
        ladd.load(folder)


def rewrite_arrow(data: bytes, change: Callable[[pa.Table], pa.Table], **options: object) -> bytes:
    """Write an Arrow file again, with its schema's metadata."""
    with pa.ipc.open_file(pa.py_buffer(data)) as reader:
        table = reader.read_all()
    changed = change(table).replace_schema_metadata(table.schema.metadata)
    out = io.BytesIO()
    with pa.ipc.new_file(out, changed.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(changed)
    return out.getvalue()


def cast(column: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(column), column, table[column].cast(kind))


def null(column: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        kind = table.schema.field(column).type
        values = pa.array([None, *table[column].to_pylist()[1:]], kind)
        return table.set_column(table.schema.get_field_index(column), column, values)

    return change


ARROWS: dict[str, tuple[Callable[[pa.Table], pa.Table], dict[str, object], str]] = {
    "nothing": (lambda table: table, {}, ""),
    "compressed": (lambda table: table, {"compression": "zstd"}, "LADD-072"),
    "another type": (cast("label", pa.int32()), {}, "LADD-071"),
    "dictionary": (lambda table: cast("id", pa.dictionary(pa.int32(), pa.string()))(table), {}, "LADD-071"),
    "a column too few": (lambda table: table.drop_columns(["dense_logz"]), {}, "LADD-071"),
    "a column too many": (lambda table: table.append_column("more", table["label"]), {}, "LADD-071"),
    "null label": (null("label"), {}, "LADD-020"),
    "null image": (null("image"), {}, "LADD-020"),
    "null dense labels": (null("dense_log_probs"), {}, "LADD-020"),
    "a record too few": (lambda table: table.slice(1), {}, "LADD-021"),
}


@pytest.mark.parametrize("name", ARROWS)
def test_an_arrow_file_that_others_wrote_is_refused_under_right_checksums(
    built: Path, tmp_path: Path, name: str
) -> None:
    change, options, clause = ARROWS[name]
    folder = Path(shutil.copytree(built / "arrow", tmp_path / "set"))
    data = (folder / SHARD["arrow"]).read_bytes()
    replace_shard(folder, "arrow", rewrite_arrow(data, change, **options))

    report = ladd.validate(folder)

    assert clause in clauses(report) if clause else report.valid
    assert all(problem.where.startswith((SHARD["arrow"], "meta/")) for problem in report.problems)


@pytest.mark.parametrize("edition", SHARD)
def test_the_shard_list_states_the_edition_of_its_shards(built: Path, tmp_path: Path, edition: Edition) -> None:
    folder = Path(shutil.copytree(built / edition, tmp_path / "set"))
    path = folder / SHARDS
    path.write_bytes(path.read_bytes().replace(f'"{edition}"'.encode(), b'"parquet"'))

    assert list(json.loads(path.read_bytes())) == ["spec_version", "edition", "shards"]
    assert "LADD-004" in clauses(ladd.validate(folder, "structure"))
    path.write_bytes(path.read_bytes().replace(b'"parquet"', b'"zip"'))
    with pytest.raises(ladd.DatasetError, match=r"edition = 'zip'.*LADD-004"):
        ladd.load(folder)
