"""What may happen to a dataset on disk, and that it is noticed: damage, kills, a full disk, two runs at once."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import ladd_data as ladd
from ladd_data.cli import main
from ladd_data.convert import Distilled, convert, prepare
from ladd_data.digests import Digests
from ladd_data.files import new_folder
from ladd_data.labeling.labeler import LabelerDescription, save_labeler
from ladd_data.manifest import Classes, Manifest, Network, Normalization
from ladd_data.models import build_network
from ladd_data.shards.layout import Records
from ladd_data.shards.writer import new_dataset

CLASSES = Classes(names=("ant", "bee", "cat"))
HALF = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SHARD, MANIFEST, SHARDS = "data/train-00000-of-00001.parquet", "meta/ladd.json", "meta/shards.json"

# Runs the command line once per step on the disk, each time in a fork that is killed, or told that the
# disk is full, just before that step. Prints the exit codes; ends when a run came through untouched.
AT_EVERY_STEP = """
import errno, itertools, json, os, shutil, signal, sys, traceback
from pathlib import Path
import pyarrow.parquet as pq
import ladd_converters.mtt, ladd_data.convert, ladd_data.labeling.label
from ladd_data.cli import main

base, old, mode, *arguments = sys.argv[1:]
fired = False

def arm(root, fatal):
    steps = 0
    def step(event, values):
        global fired
        nonlocal steps
        inside = bool(values) and root in str(values[0])
        moves = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "ladd.step") and (inside or steps)
        if not moves and not (event == "open" and inside):
            return
        steps += 1
        if steps != fatal:
            return
        fired = True
        if mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, "No space left on device", str(values[0]) if values else None)
    sys.addaudithook(step)

def announce(owner, name):
    real = getattr(owner, name)
    setattr(owner, name, lambda *args, **options: (sys.audit("ladd.step"), real(*args, **options))[1])

def run(root, fatal):
    os.dup2(os.open(root / "stderr", os.O_CREAT | os.O_WRONLY), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    arm(str(root / "in"), fatal)
    sys.argv = ["ladd", *(argument.replace("TARGET", str(root / "in" / "set")) for argument in arguments)]
    try:
        main()
    except SystemExit as stop:
        return stop.code if fired else 99
    except BaseException:
        traceback.print_exc()
    return 70

for owner, name in ((os, "fsync"), (pq.ParquetWriter, "write_table"), (pq.ParquetWriter, "close")):
    announce(owner, name)
codes = []
for fatal in itertools.count(1):
    root = Path(base) / f"{fatal:03d}"
    (root / "in").mkdir(parents=True)
    if old:
        shutil.copytree(old, root / "in" / "set")
    if (child := os.fork()) == 0:
        os._exit(run(root, fatal))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 99:
        break
    codes.append(code)
print(json.dumps(codes))
"""


class Built(NamedTuple):
    """What the tests start from: a run of MTT, its dataset, a labeler, and the dataset with labels."""

    run: Path
    plain: Path
    labeler: Path
    labelled: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    home = tmp_path_factory.mktemp("damage")
    built = Built(home / "run", home / "plain", home / "labeler.safetensors", home / "labelled")
    images = np.random.default_rng(0).normal(0, 1, (6, 3, 16, 16)).astype(np.float32)
    labels = np.repeat(np.arange(3), 2)
    built.run.mkdir()
    torch.save(torch.from_numpy(images) / 2, built.run / "images_best.pt")
    torch.save(torch.from_numpy(labels), built.run / "labels_best.pt")
    convert(
        prepare(Distilled("MTT", "https://example.org", images, labels, CLASSES, HALF, "none", ()), "tiny"),
        home / "plain",
    )
    torch.manual_seed(0)
    network = Network(name="convnet-d3", width=8, classes=3, channels=3, size=16)
    about = LabelerDescription(network=network, classes=CLASSES, normalization=HALF, epochs_done=0)
    save_labeler(built.labeler, build_network(network), about)
    assert call(*command("label", built, built.labelled)) == 0
    return built


@pytest.fixture
def folder(built: Built, tmp_path: Path) -> Path:
    """A labelled dataset that a test may damage."""
    return Path(shutil.copytree(built.labelled, tmp_path / "set"))


def command(name: str, built: Built, target: Path | str) -> list[str]:
    """Return the arguments of a run that writes `target`; "relabel" labels a dataset in its own place."""
    if name == "convert":
        stated = ["--classes", "ant,bee,cat", "--normalization", "half", "--name", "tiny"]
        return ["convert", "mtt", str(built.run), "-o", str(target), *stated]
    source = target if name == "relabel" else built.plain
    return ["label", str(source), "--labeler", str(built.labeler), "-o", str(target), "--device", "cpu"]


def call(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["ladd", *map(str, arguments)])
        main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def spawn(*arguments: object) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, with one thread, so that several share the machine."""
    line = [sys.executable, "-m", "ladd_data", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def digest(folder: Path) -> str:
    """Return the identity of a dataset, which must be valid."""
    report = ladd.validate(folder)
    assert report.valid, report.problems
    return ladd.load(folder).manifest.digest


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def assert_noticed(folder: Path, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that loading, validating and the command line each say which file is wrong."""
    with pytest.raises(ladd.DatasetError) as error:
        ladd.load(folder)
    assert named in str(error.value)
    assert any(named in str(problem) for problem in ladd.validate(folder).problems)
    assert call("validate", folder) == 1
    assert named in capsys.readouterr().out


# Damage on disk


def test_one_byte_changed_anywhere_in_a_shard_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (folder / SHARD).read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # Parquet: ..., footer, its length, "PAR1"
    positions = {0, footer, footer + 1, len(data) - 8, len(data) - 1, *range(0, len(data), len(data) // 56)}

    assert len(positions) >= 60
    for position in sorted(positions):
        changed = bytearray(data)
        changed[position] ^= 1
        (folder / SHARD).write_bytes(changed)
        assert_noticed(folder, SHARD, capsys)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "shard missing": (lambda d: (d / SHARD).unlink(), SHARD),
    "all shards missing": (lambda d: shutil.rmtree(d / "data"), SHARD),
    "shard a byte shorter": (lambda d: os.truncate(d / SHARD, (d / SHARD).stat().st_size - 1), SHARD),
    "shard cut in half": (lambda d: os.truncate(d / SHARD, (d / SHARD).stat().st_size // 2), SHARD),
    "shard empty": (lambda d: os.truncate(d / SHARD, 0), SHARD),
    "shard a byte longer": (lambda d: (d / SHARD).write_bytes((d / SHARD).read_bytes() + b"\0"), SHARD),
    "shard of another dataset": (lambda d: shutil.copy(d.parent / "other" / SHARD, d / SHARD), SHARD),
    "file too many": (lambda d: shutil.copy(d / SHARD, d / "data" / "train-copy.parquet"), "data/train-copy.parquet"),
    "hidden file too many": (lambda d: (d / "data" / ".stray").touch(), "data/.stray"),
    "folder too many": (lambda d: (d / "data" / "more").mkdir(), "data/more"),
    "manifest: name": (lambda d: edit(d / MANIFEST, '"tiny"', '"tidy"'), MANIFEST),
    "manifest: class": (lambda d: edit(d / MANIFEST, '"bee"', '"fly"'), MANIFEST),
    "manifest: count": (lambda d: edit(d / MANIFEST, '"count": 6', '"count": 7'), MANIFEST),
    "manifest: no labels": (lambda d: restate(d / MANIFEST, lambda m: m.update(labels=None)), MANIFEST),
    "manifest: blank line": (lambda d: edit(d / MANIFEST, "{\n", "{\n\n"), MANIFEST),
    "manifest: indentation": (
        lambda d: (d / MANIFEST).write_text(json.dumps(json.loads((d / MANIFEST).read_text()))),
        MANIFEST,
    ),
    "manifest: no final newline": (lambda d: (d / MANIFEST).write_text((d / MANIFEST).read_text()[:-1]), MANIFEST),
    "manifest: cut": (lambda d: os.truncate(d / MANIFEST, 1000), MANIFEST),
    "manifest: missing": (lambda d: (d / MANIFEST).unlink(), MANIFEST),
    "shard list: rows": (lambda d: edit(d / SHARDS, '"rows": 6', '"rows": 5'), SHARDS),
    "shard list: bytes": (lambda d: restate(d / SHARDS, lambda s: s["shards"][0].update(bytes=5)), SHARDS),
    "shard list: sha256": (lambda d: restate(d / SHARDS, lambda s: s["shards"][0].update(sha256="0" * 64)), SHARDS),
    "shard list: path": (lambda d: edit(d / SHARDS, "train-00000", "train-00001"), SHARDS),
    "shard list: version": (lambda d: edit(d / SHARDS, '"1.0"', '"1.9"'), SHARDS),
    "shard list: blank line": (lambda d: edit(d / SHARDS, "{\n", "{\n\n"), SHARDS),
    "shard list: missing": (lambda d: (d / SHARDS).unlink(), SHARDS),
}


def restate(path: Path, change: Callable[[Any], object]) -> None:
    """Change a metadata file by value and write it as the writer would."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_noticed_and_the_file_named(
    built: Built, folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, named = DAMAGES[name]
    (folder.parent / "other").symlink_to(built.plain)

    damage(folder)

    assert_noticed(folder, named, capsys)


HOSTILE = ("null", "5", '"x"', "[]", "true", "1e999", '"\\ud800"', "-1.5", '{"a": 1}')


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of everything inside a JSON document."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _leaves(value[key])


@pytest.mark.parametrize("name", [MANIFEST, SHARDS])
def test_whatever_a_metadata_value_becomes_loading_names_the_file(folder: Path, name: str) -> None:
    text = (folder / name).read_text()
    document = json.loads(text)
    hostile, tried = itertools.cycle(HOSTILE), 0

    for (container, key), _ in itertools.product(list(_leaves(document)), range(2)):
        kept, container[key] = container[key], "@"
        changed = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").replace('"@"', next(hostile))
        container[key] = kept
        if changed != text:
            tried += 1
            (folder / name).write_text(changed)
            with pytest.raises(ladd.DatasetError, match=name):
                ladd.load(folder)

    assert tried > 5


@pytest.mark.parametrize(
    "value", ['"requires": 5', '"name": 1e999', '"name": "\\ud800"', f'"spec_version": "{"9" * 5000}.0"']
)
def test_a_manifest_with_an_absurd_value_is_refused_by_name(folder: Path, value: str) -> None:
    key = value.split(":")[0].strip('"')
    document = json.loads((folder / MANIFEST).read_text())
    rest = json.dumps({other: content for other, content in document.items() if other != key})

    (folder / MANIFEST).write_text("{" + value + ", " + rest[1:])

    with pytest.raises(ladd.DatasetError, match=MANIFEST):
        ladd.load(folder)
    assert [problem.where[: len(MANIFEST)] for problem in ladd.validate(folder).problems] == [MANIFEST]


def test_the_report_of_a_damaged_dataset_is_one_json_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / SHARD).unlink()

    assert call("validate", folder, "--json") == 1

    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["valid"], report["path"], err) == (False, str(folder), "")
    assert {problem["where"] for problem in report["problems"]} == {SHARD}


@pytest.mark.parametrize("name", ["shard cut in half", "manifest: name"])
def test_the_process_that_finds_damage_exits_with_1(folder: Path, name: str) -> None:
    damage, named = DAMAGES[name]
    damage(folder)

    process = spawn("validate", folder)
    out, err = process.communicate()

    assert (process.returncode, err) == (1, "")
    assert named in out


# Wrong content under right checksums


def rewrite(
    source: Path, target: Path, change: Callable[[Records], object], state: Callable[[Any], object] = lambda m: None
) -> None:
    """Write a dataset again through the package's own writer, with other records or another manifest."""
    dataset = ladd.load(source)
    old = dataset.manifest

    def describe(digests: Digests) -> Manifest:
        document = old.model_dump(mode="json")
        document["images"]["digest"], document["digest"] = digests.images, digests.dataset
        document["labels"]["digest"] = digests.labels
        state(document)
        return Manifest.model_validate_json(json.dumps(document))

    with new_dataset(target, old.classes, dataset.folder.layout, len(dataset), 4000) as writer:
        for _, _, records, pixels in dataset.decoded():
            dense = {name: values.copy() for name, values in records.dense.items()}
            copy = Records(list(records.ids), records.labels.copy(), list(records.images), dense)
            change(copy)
            writer.add(copy, pixels)
        writer.finish(describe)


def _set(column: str, place: tuple[int, ...], value: float) -> Callable[[Records], object]:
    return lambda records: records.dense[column].__setitem__(place, value)


def _keep(_: object) -> None: ...


def _swap_images(records: Records) -> None:
    records.images[1], records.images[2] = records.images[2], records.images[1]


WRONG: dict[str, tuple[Callable[[Records], object], Callable[[Any], object], set[str], str]] = {
    "label too large": (lambda r: r.labels.__setitem__(4, 3), _keep, {"LADD-023"}, '000004'),
    "label below 0": (lambda r: r.labels.__setitem__(4, -1), _keep, {"LADD-023"}, '000004'),
    "id of another record": (lambda r: r.ids.__setitem__(1, "000002"), _keep, {"LADD-022"}, '000002'),
    "NaN in a dense label": (_set("dense_log_probs", (2, 7, 1), np.nan), _keep, {"LADD-031"}, '000002'),
    "infinite logz": (_set("dense_logz", (2, 7), np.inf), _keep, {"LADD-031"}, "dense_logz"),
    "sum above 1": (_set("dense_log_probs", (2, 7, 1), 0.5), _keep, {"LADD-032"}, "view 7"),
    "sum below 1": (_set("dense_log_probs", (2, 7), -3.0), _keep, {"LADD-032"}, "view 7"),
    "golden pixels": (
        _keep, lambda m: m["labels"]["golden"][1].update(pixels="0" * 64), {"LADD-042"}, '000003'),
    "golden id": (_keep, lambda m: m["labels"]["golden"][1].update(id="none"), {"LADD-042"}, '"none"'),
    "golden label": (_keep, lambda m: m["labels"]["golden"][0].update(top_prob=0.01), {"LADD-043"}, '000000'),
    "golden view's labels": (
        lambda r: r.dense["dense_log_probs"].__setitem__((0, 0), r.dense["dense_log_probs"][0, 0, [1, 2, 0]]),
        _keep, {"LADD-043"}, '000000'),
    "images.digest": (_keep, lambda m: m["images"].update(digest="0" * 64), {"LADD-025"}, MANIFEST),
    "labels.digest": (_keep, lambda m: m["labels"].update(digest="0" * 64), {"LADD-034"}, MANIFEST),
    "digest": (_keep, lambda m: m.update(digest="0" * 64), {"LADD-026"}, MANIFEST),
    "images of other records": (_swap_images, _keep, {"LADD-025", "LADD-026"}, MANIFEST),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_under_right_checksums_is_found_by_full_validation(
    built: Built, tmp_path: Path, name: str
) -> None:
    change, state, clauses, where = WRONG[name]
    rewrite(built.labelled, tmp_path / "set", change, state)

    report = ladd.validate(tmp_path / "set")

    assert {problem.clause for problem in report.problems} == clauses
    assert all(where in problem.where + problem.found for problem in report.problems)
    assert call("validate", tmp_path / "set") == 1
    assert ladd.validate(tmp_path / "set", "structure").valid


def test_a_dataset_written_again_unchanged_is_valid(built: Built, tmp_path: Path) -> None:
    rewrite(built.labelled, tmp_path / "set", _keep)

    assert content(tmp_path / "set") == content(built.labelled)


# Kills and full disks


def at_every_step(base: Path, old: Path | None, mode: str, arguments: list[str]) -> Iterator[tuple[Path, int, str]]:
    """Run a command once per step and yield, for each, the target's parent, the exit code and stderr."""
    line = [sys.executable, "-c", AT_EVERY_STEP, str(base), str(old or ""), mode, *arguments]
    result = subprocess.run(line, capture_output=True, text=True, check=True)
    for number, code in enumerate(json.loads(result.stdout), 1):
        root = base / f"{number:03d}"
        yield root / "in", code, (root / "stderr").read_text()


OLD = {"convert": None, "label": None, "convert again": "labelled", "relabel": "plain"}


@pytest.mark.parametrize("name", OLD)
def test_a_kill_at_any_step_leaves_nothing_or_a_whole_dataset_and_the_next_run_finishes(
    built: Built, tmp_path: Path, name: str
) -> None:
    old: Path | None = getattr(built, OLD[name]) if OLD[name] else None
    more = ["--overwrite"] if old else []
    allowed = {digest(old)} if old else set()
    verb = name.removesuffix(" again")
    reached = 0

    for parent, code, _ in at_every_step(tmp_path, old, "kill", [*command(verb, built, "TARGET"), *more]):
        reached, target = reached + 1, parent / "set"
        found = digest(target) if target.exists() else None
        assert code == -9
        assert call(*command(verb, built, target), *(more or (["--overwrite"] if found else []))) == 0, parent
        assert found in {None, digest(target), *allowed}
        assert [path.name for path in parent.iterdir()] == ["set"]

    assert reached > 20


@pytest.mark.parametrize("name", OLD)
def test_a_disk_that_is_full_at_any_step_leaves_the_target_as_it_was(built: Built, tmp_path: Path, name: str) -> None:
    old: Path | None = getattr(built, OLD[name]) if OLD[name] else None
    more = ["--overwrite"] if old else []
    arguments = [*command(name.removesuffix(" again"), built, "TARGET"), *more]
    codes = []

    for parent, code, error in at_every_step(tmp_path, old, "full", arguments):
        codes.append(code)
        if code:  # else the step was one that a run can do without, such as sweeping up at the end
            assert (code, error[:7], "No space left on device" in error) == (1, "error: ", True), (parent, error)
            assert [path.name for path in parent.iterdir()] == (["set"] if old else []), (parent, error)
            assert old is None or content(parent / "set") == content(old)
        else:
            assert old is None or digest(parent / "set") != digest(old)

    assert codes.count(1) > 20


@pytest.mark.parametrize("limit", [0, 5000])
def test_a_file_that_the_system_refuses_to_let_grow_is_a_clear_error(
    built: Built, folder: Path, limit: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before, (soft, hard) = content(folder.parent), resource.getrlimit(resource.RLIMIT_FSIZE)

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        code = call(*command("label", built, folder), "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert code == 1
    assert f"{folder} was not changed" in capsys.readouterr().err
    assert content(folder.parent) == before


MOMENTS = ((False, 0.3), (False, 1.2), (True, 0.0), (True, 0.02), (True, 0.1))


@pytest.mark.parametrize("name", ["convert", "label"])
def test_a_process_killed_at_any_moment_leaves_a_whole_dataset_and_the_next_run_finishes(
    built: Built, tmp_path: Path, name: str
) -> None:
    old = built.labelled if name == "convert" else built.plain

    def start_and_kill(moment: tuple[bool, float]) -> Path:
        """Kill a run some time after its start, or after its first write."""
        after_first_write, delay = moment
        target = tmp_path / f"{after_first_write}-{delay}" / "set"
        shutil.copytree(old, target)
        process = spawn(*command(name, built, target), "--overwrite")
        while after_first_write and process.poll() is None and os.listdir(target.parent) == ["set"]:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.communicate()
        return target

    with ThreadPoolExecutor() as pool:
        for target in pool.map(start_and_kill, MOMENTS):
            found = digest(target) if target.exists() else None
            assert call(*command(name, built, target), "--overwrite") == 0
            assert found in {None, digest(old), digest(target)}
            assert os.listdir(target.parent) == ["set"]


# Two runs at once, and what is there already


def test_at_no_moment_can_a_second_run_write_what_a_first_one_is_writing(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, target, sync = command("convert", built, tmp_path / "in" / "set"), tmp_path / "in" / "set", os.fsync
    said: list[tuple[int, str]] = []
    inside = False

    def run_a_second(handle: int) -> None:
        nonlocal inside
        if not inside:
            inside = True
            said.append((call(*first), capsys.readouterr().err))
            inside = False
        sync(handle)

    monkeypatch.setattr(os, "fsync", run_a_second)

    assert call(*first) == 0
    assert {code for code, _ in said} == {2} and len(said) > 3
    assert f"{target}: another run is writing it now" in said[0][1]
    assert digest(target) and os.listdir(target.parent) == ["set"]


def test_a_second_process_is_told_that_another_run_is_writing(built: Built, tmp_path: Path) -> None:
    target = tmp_path / "set"

    with new_folder(target) as partial:
        (partial / "mine").write_text("still here")
        second = spawn(*command("convert", built, target))
        _, err = second.communicate()

    assert (second.returncode, err) == (
        2,
        f"error: {target}: another run is writing it now. Wait for it, or choose another -o.\n",
    )
    assert content(tmp_path) == {"set/mine": b"still here"}


@pytest.mark.parametrize("name", ["convert", "label", "relabel"])
def test_a_dataset_that_exists_is_refused_and_untouched(
    built: Built, folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder.parent)

    assert call(*command(name, built, folder)) == 2

    assert "--overwrite" in capsys.readouterr().err
    assert content(folder.parent) == before


@pytest.mark.parametrize("name", ["convert", "label"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_overwrite_does_not_replace_what_is_no_dataset(
    built: Built, tmp_path: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "thesis"
    (tmp_path / ("thesis/chapter" if kind == "folder" else "thesis")).parent.mkdir(exist_ok=True)
    (target / "chapter" if kind == "folder" else target).write_text("years of work")
    before = content(tmp_path)

    assert call(*command(name, built, target), "--overwrite") == 2

    assert f"{target}: " in capsys.readouterr().err
    assert content(tmp_path) == before
