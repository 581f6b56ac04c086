"""What can happen to a dataset on disk, and what follows: damage, kills, a full disk, two runs at once."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from damaging import (
    Built,
    CutShort,
    Series,
    build,
    call,
    command,
    content,
    cut_short,
    names,
    restate,
    rewrite,
    spawn,
    swap,
)

import ladd_data as ladd
from ladd_data.files import new_folder
from ladd_data.shards.layout import Records

SHARD, MANIFEST, SHARDS = "data/train-00000-of-00001.parquet", "meta/ladd.json", "meta/shards.json"
Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.timeout(1200)  # one fixture runs every command up to each of its disk steps


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("damage"))


@pytest.fixture
def folder(built: Built, tmp_path: Path) -> Path:
    """A labelled dataset that a test may damage."""
    return Path(shutil.copytree(built.labelled, tmp_path / "set"))


def identity(folder: Path) -> tuple[str, str]:
    """Return the digest and the edition of a dataset, which must be valid."""
    assert ladd.validate(folder).problems == ()
    dataset = ladd.load(folder)
    return dataset.manifest.digest, dataset.folder.edition


def assert_noticed(folder: Path, named: str, capsys: Capture) -> None:
    """Check that loading, validating and the command line each say which file is wrong."""
    with pytest.raises(ladd.DatasetError) as error:
        ladd.load(folder)
    assert named in str(error.value)
    assert any(named in str(problem) for problem in ladd.validate(folder).problems)
    assert call("validate", folder) == 1
    assert named in capsys.readouterr().out


# Damage on disk


def test_one_byte_changed_anywhere_in_a_shard_is_noticed(folder: Path, capsys: Capture) -> None:
    data = (folder / SHARD).read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # Parquet: ..., footer, its length, "PAR1"
    positions = {0, footer, footer + 1, len(data) - 8, len(data) - 1, *range(0, len(data), len(data) // 58)}

    assert len(positions) >= 60
    for position in sorted(positions):
        changed = bytearray(data)
        changed[position] ^= 1
        (folder / SHARD).write_bytes(changed)
        assert_noticed(folder, SHARD, capsys)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes] | None]] = {  # None: the file is missing
    "shard missing": (SHARD, None),
    "shard a byte shorter": (SHARD, lambda data: data[:-1]),
    "shard cut in half": (SHARD, lambda data: data[: len(data) // 2]),
    "shard empty": (SHARD, lambda data: b""),
    "shard a byte longer": (SHARD, lambda data: data + b"\0"),
    "manifest: name": (MANIFEST, swap(b'"tiny"', b'"tidy"')),
    "manifest: class": (MANIFEST, swap(b'"bee"', b'"fly"')),
    "manifest: count": (MANIFEST, swap(b'"count": 6', b'"count": 7')),
    "manifest: no labels": (MANIFEST, restate(lambda manifest: manifest.update(labels=None))),
    "manifest: blank line": (MANIFEST, swap(b"{\n", b"{\n\n")),
    "manifest: one line": (MANIFEST, lambda data: json.dumps(json.loads(data)).encode()),
    "manifest: no final newline": (MANIFEST, lambda data: data[:-1]),
    "manifest: requires no list": (MANIFEST, swap(b'"requires": []', b'"requires": 5')),
    "manifest: infinity": (MANIFEST, swap(b'"tiny"', b"1e999")),
    "manifest: half a character": (MANIFEST, swap(b'"tiny"', b'"\\ud800"')),
    "manifest: endless version": (MANIFEST, swap(b'"1.0"', b'"%s.0"' % (b"9" * 5000))),
    "manifest: cut": (MANIFEST, lambda data: data[:1000]),
    "manifest: missing": (MANIFEST, None),
    "shard list: rows": (SHARDS, swap(b'"rows": 6', b'"rows": 5')),
    "shard list: bytes": (SHARDS, restate(lambda document: document["shards"][0].update(bytes=5))),
    "shard list: sha256": (SHARDS, restate(lambda document: document["shards"][0].update(sha256="0" * 64))),
    "shard list: path": (SHARDS, swap(b"train-00000", b"train-00001")),
    "shard list: version": (SHARDS, swap(b'"1.0"', b'"1.9"')),
    "shard list: blank line": (SHARDS, swap(b"{\n", b"{\n\n")),
    "shard list: missing": (SHARDS, None),
}


def damage(folder: Path, name: str) -> str:
    """Do one of DAMAGES and return the file it is done to."""
    file, change = DAMAGES[name]
    before = (folder / file).read_bytes()
    (folder / file).unlink()
    if change is not None:
        assert change(before) != before
        (folder / file).write_bytes(change(before))
    return file


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_noticed_and_the_file_named(folder: Path, name: str, capsys: Capture) -> None:
    file = damage(folder, name)

    assert_noticed(folder, file, capsys)


def test_a_shard_of_another_dataset_is_noticed(built: Built, folder: Path, capsys: Capture) -> None:
    shutil.copy(built.plain / SHARD, folder / SHARD)

    assert_noticed(folder, SHARD, capsys)


@pytest.mark.parametrize("name", ["train-copy.parquet", ".hidden"])
def test_a_file_too_many_is_noticed(folder: Path, name: str, capsys: Capture) -> None:
    shutil.copy(folder / SHARD, folder / "data" / name)

    assert_noticed(folder, f"data/{name}", capsys)


def test_the_report_of_a_damaged_dataset_is_one_json_document(folder: Path, capsys: Capture) -> None:
    file = damage(folder, "shard missing")

    assert call("validate", folder, "--json") == 1

    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["valid"], report["path"], err) == (False, str(folder), "")
    assert {problem["where"] for problem in report["problems"]} == {file}


@pytest.mark.parametrize("name", ["shard cut in half", "manifest: name"])
def test_the_process_that_finds_damage_exits_with_1(folder: Path, name: str) -> None:
    file = damage(folder, name)

    process = spawn("-m", "ladd_data", "validate", folder)
    out, err = process.communicate()

    assert (process.returncode, err, file in out) == (1, "", True)


# Wrong content under right checksums


def keep(_: object) -> None:
    """Change nothing."""


def exchange_images(records: Records) -> None:
    first, second, third, *rest = records.images
    records.images = [first, third, second, *rest]


def put(column: str, place: tuple[int, ...], value: float) -> Callable[[Records], object]:
    return lambda records: records.dense[column].__setitem__(place, value)


def golden(number: int, **values: object) -> Callable[[Any], object]:
    return lambda manifest: manifest["labels"]["golden"][number].update(values)


WRONG: dict[str, tuple[Callable[[Records], object], Callable[[Any], object], set[str], str]] = {
    "nothing": (keep, keep, set(), ""),
    "label too large": (lambda records: records.labels.__setitem__(4, 3), keep, {"LADD-023"}, '"000004"'),
    "label below 0": (lambda records: records.labels.__setitem__(4, -1), keep, {"LADD-023"}, '"000004"'),
    "id of another record": (lambda records: records.ids.__setitem__(1, "000002"), keep, {"LADD-022"}, "row 2"),
    "NaN": (put("dense_log_probs", (2, 7, 1), np.nan), keep, {"LADD-031"}, '"000002"), dense_log_probs'),
    "infinite logz": (put("dense_logz", (2, 7), np.inf), keep, {"LADD-031"}, '"000002"), dense_logz'),
    "sum above 1": (put("dense_log_probs", (2, 7, 1), 0.5), keep, {"LADD-032"}, '"000002"), dense_log_probs, view 7'),
    "sum below 1": (put("dense_log_probs", (2, 7), -3.0), keep, {"LADD-032"}, '"000002"), dense_log_probs, view 7'),
    "golden pixels": (keep, golden(1, pixels="0" * 64), {"LADD-042"}, '"000003"'),
    "golden id": (keep, golden(1, id="none"), {"LADD-042"}, MANIFEST),
    "golden label": (keep, golden(0, top_prob=0.01), {"LADD-043"}, '"000000"'),
    "images.digest": (keep, lambda manifest: manifest["images"].update(digest="0" * 64), {"LADD-025"}, MANIFEST),
    "labels.digest": (keep, lambda manifest: manifest["labels"].update(digest="0" * 64), {"LADD-034"}, MANIFEST),
    "digest": (keep, lambda manifest: manifest.update(digest="0" * 64), {"LADD-026"}, MANIFEST),
    "images of other records": (exchange_images, keep, {"LADD-025", "LADD-026"}, MANIFEST),
}


@pytest.mark.parametrize("name", WRONG)
def test_full_validation_finds_wrong_content_under_right_checksums(built: Built, tmp_path: Path, name: str) -> None:
    change, state, clauses, where = WRONG[name]
    rewrite(built.labelled, tmp_path / "set", change, state)

    report = ladd.validate(tmp_path / "set")

    assert {problem.clause for problem in report.problems} == clauses
    assert all(where in problem.where for problem in report.problems)
    assert call("validate", tmp_path / "set") == bool(clauses)
    assert ladd.validate(tmp_path / "set", "structure").valid  # that level reads no record


# Kills and full disks

RUNS: dict[str, tuple[str, str | None]] = {  # what runs, and what it finds at its target
    "convert": ("convert", None),
    "convert again": ("convert", "labelled"),
    "label in place": ("label in place", "plain"),
    "reencode": ("reencode", "labelled"),
    "parquet to webdataset": ("to webdataset", None),
    "webdataset to arrow": ("to arrow in place", "tar"),
    "arrow to parquet": ("to parquet in place", "arrow"),
}
Steps = dict[tuple[str, str], list[CutShort]]


@pytest.fixture(scope="module")
def steps(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """Each of RUNS, killed at every step and told at every step that the disk is full; in two processes."""

    def plan(name: str, mode: Literal["kill", "full"]) -> Series:
        verb, old = RUNS[name]
        line = [*command(verb, built, "TARGET"), *(["--overwrite"] if old else [])]
        return Series(tmp_path_factory.mktemp("steps"), getattr(built, old) if old else None, mode, line)

    modes: tuple[Literal["kill", "full"], ...] = ("kill", "full")
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(cut_short, [[plan(name, mode) for name in RUNS] for mode in modes])
        return {
            (name, mode): cuts
            for mode, all_cuts in zip(modes, done, strict=True)
            for name, cuts in zip(RUNS, all_cuts, strict=True)
        }


def assert_recovers(target: Path, built: Built, verb: str, old: Path | None) -> None:
    """Check what a kill left: nothing, the old dataset or the new one; and that the same run now finishes."""
    found = identity(target) if target.exists() else None
    more = ["--overwrite"] if old or found else []
    assert call(*command(verb, built, target), *more) == 0, sorted(target.parent.iterdir())
    assert found in {None, identity(target), identity(old) if old else None}
    assert names(target.parent) == ["set"]


@pytest.mark.parametrize("name", RUNS)
def test_after_a_kill_at_any_step_the_dataset_is_whole_or_absent_and_the_next_run_finishes(
    built: Built, steps: Steps, name: str
) -> None:
    (verb, old), seen = RUNS[name], list[dict[str, bytes | None]]()

    assert {code for _, code, _ in steps[name, "kill"]} == {-9} and len(steps[name, "kill"]) > 25
    for parent, _, _ in steps[name, "kill"]:
        if (left := content(parent, folders=True)) not in seen:  # many steps leave the disk as the one before did
            seen.append(left)
            assert_recovers(parent / "set", built, verb, getattr(built, old) if old else None)
    assert len(seen) > 8


@pytest.mark.parametrize("name", RUNS)
def test_a_disk_that_is_full_at_any_step_is_a_clear_error_and_leaves_the_target_as_it_was(
    built: Built, steps: Steps, name: str
) -> None:
    old = RUNS[name][1]
    before = content(getattr(built, old)) if old else {}

    for parent, code, error in steps[name, "full"]:
        if code == 0:  # a step that a run can do without, such as sweeping up at the end
            assert identity(parent / "set")
            assert content(parent / "set") != before
        else:
            assert (code, error[:7], "No space left on device" in error) == (1, "error: ", True), (parent, error)
            assert (parent / "set").exists() == bool(old), (parent, error)
            assert content(parent) == {f"set/{path}": data for path, data in before.items()}, error

    assert len(steps[name, "full"]) > 25


@pytest.mark.parametrize("limit", [0, 5000])
def test_a_file_that_the_system_does_not_let_grow_leaves_the_target_as_it_was(
    built: Built, folder: Path, limit: int, capsys: Capture
) -> None:
    before, (soft, hard) = content(folder.parent), resource.getrlimit(resource.RLIMIT_FSIZE)

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        code = call(*command("label", built, folder), "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert (code, f"{folder} was not changed" in capsys.readouterr().err) == (1, True)
    assert content(folder.parent) == before


@pytest.mark.parametrize("verb", ["convert", "label"])
def test_after_a_kill_at_any_moment_the_dataset_is_whole_or_absent_and_the_next_run_finishes(
    built: Built, tmp_path: Path, verb: str
) -> None:
    old = built.labelled if verb == "convert" else built.plain

    def start_and_kill(moment: tuple[bool, float]) -> Path:
        """Kill a run some time after its start, or after the first thing it wrote."""
        after_first_write, delay = moment
        target = tmp_path / f"{after_first_write}-{delay}" / "set"
        shutil.copytree(old, target)
        process = spawn("-m", "ladd_data", *command(verb, built, target), "--overwrite")
        while after_first_write and process.poll() is None and names(target.parent) == ["set"]:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.communicate()
        return target

    with ThreadPoolExecutor() as pool:
        moments = [(False, 0.3), (False, 1.2), (True, 0.0), (True, 0.02), (True, 0.1)]
        for target in pool.map(start_and_kill, moments):
            assert_recovers(target, built, verb, old)


# Two runs at once, and what is there already


def test_at_no_moment_can_a_second_run_write_where_a_first_one_writes(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    target, sync, second = tmp_path / "in" / "set", os.fsync, list[tuple[int, str]]()

    def run_a_second(handle: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        second.append((call(*command("convert", built, target)), capsys.readouterr().err))
        monkeypatch.setattr(os, "fsync", run_a_second)
        sync(handle)

    monkeypatch.setattr(os, "fsync", run_a_second)

    assert call(*command("convert", built, target)) == 0
    assert {code for code, _ in second} == {2} and len(second) > 3
    assert f"{target}: another run is writing it now" in second[0][1]
    assert identity(target) == identity(built.plain) and names(target.parent) == ["set"]


def test_a_second_process_is_told_that_another_run_is_writing(built: Built, tmp_path: Path) -> None:
    target = tmp_path / "set"

    with new_folder(target) as partial:
        (partial / "mine").write_text("still here")
        process = spawn("-m", "ladd_data", *command("convert", built, target))
        _, error = process.communicate()

    assert (process.returncode, f"error: {target}: another run is writing it now" in error) == (2, True)
    assert content(tmp_path) == {"set/mine": b"still here"}


@pytest.mark.parametrize("verb", ["convert", "label", "label in place"])
def test_a_dataset_that_exists_is_refused_and_untouched(built: Built, folder: Path, verb: str, capsys: Capture) -> None:
    before = content(folder.parent)

    assert call(*command(verb, built, folder)) == 2

    assert f"{folder}: exists already" in capsys.readouterr().err
    assert content(folder.parent) == before


@pytest.mark.parametrize("verb", ["convert", "label"])
@pytest.mark.parametrize("file", ["thesis", "thesis/chapter"])
def test_overwrite_does_not_replace_what_is_no_dataset(
    built: Built, tmp_path: Path, verb: str, file: str, capsys: Capture
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("years of work")

    assert call(*command(verb, built, tmp_path / "thesis"), "--overwrite") == 2

    assert f"{tmp_path / 'thesis'}: " in capsys.readouterr().err
    assert content(tmp_path) == {file: b"years of work"}
