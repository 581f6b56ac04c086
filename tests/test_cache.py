"""The cache of decoded datasets: made once, verified, safe with several processes, cleared by command."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from making import label

import ladd_data as ladd
from ladd_data.loaders.caching import cache, cached
from ladd_data.shards.plan import ShardPlan
from ladd_data.testing import check_loader


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("LADD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry_files(home: Path) -> list[Path]:
    return sorted(file for file in home.rglob("*") if file.is_file() and not file.name.startswith("."))


def test_the_cache_is_made_once_and_nothing_else_is_left_in_it(labelled: Path, cache_home: Path) -> None:
    ladd.load(labelled).loader(4, placement="cached")
    first = {file: file.stat().st_mtime_ns for file in entry_files(cache_home)}

    ladd.load(labelled).loader(4, placement="cached")

    assert {file: file.stat().st_mtime_ns for file in entry_files(cache_home)} == first
    assert [item.name.split("-")[0] for item in cache_home.iterdir()] == [ladd.load(labelled).manifest.digest]


def test_a_cached_dataset_is_opened_without_reading_its_files(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copytree(labelled, tmp_path / "set"))
    first = list(ladd.load(source).loader(4, placement="cached"))
    monkeypatch.setattr("ladd_data.shards.folder.sha256_file", lambda path: pytest.fail(f"{path} was hashed"))

    again = list(ladd.load(source).loader(4, placement="cached"))

    assert all(torch.equal(left.image, right.image) for left, right in zip(first, again, strict=True))


def test_files_that_changed_since_they_were_cached_are_hashed_again(labelled: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(labelled, tmp_path / "set"))
    ladd.load(source).loader(4, placement="cached")
    shard = next((source / "data").iterdir())
    stat = shard.stat()
    flip(shard, stat.st_size // 2)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    with pytest.raises(ladd.DatasetError, match=r"train-00000.*sha256"):
        ladd.load(source)


def test_what_the_cache_spared_is_verified_when_it_is_read(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copytree(labelled, tmp_path / "set"))
    ladd.load(source).loader(4, placement="cached")
    flip(next((source / "data").iterdir()), 2000)
    monkeypatch.setattr("ladd_data.dataset.is_vouched", lambda folder: True)  # as if no time had changed
    dataset = ladd.load(source)

    for read in (lambda: dataset[0], lambda: dataset.loader(2, placement="resident")):
        with pytest.raises(ladd.DatasetError, match=r"train-00000.*sha256"):
            read()
    assert len(list(dataset.loader(2, placement="cached"))) == 3


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_a_flipped_pixel_in_the_cache_is_named_with_file_and_record(
    labelled: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "_JOINED_BYTES", 0)
    dataset = ladd.load(labelled)
    dataset.loader(2, placement="cached")
    (shard,) = cache_home.glob("*/dataset/data/*.arrow")
    flip(shard, shard.read_bytes().index(dataset.arrays.images[4].tobytes()) + 100)
    loader = dataset.loader(2, placement="cached")

    with pytest.raises(
        ladd.DatasetError, match=r'train-00000.*row 4 \(id "000004"\), image.*xxh3.*cache clear'
    ) as error:
        list(loader)
    assert error.value.problems[0].row == 4
    for batch in loader:
        assert 4 not in batch.index.tolist()
        break


@pytest.mark.parametrize("damage", ["cut", "flip", "manifest", "no checks"])
def test_a_cache_found_damaged_on_opening_is_made_again(damage: str, labelled: Path, cache_home: Path) -> None:
    dataset = ladd.load(labelled)
    dataset.loader(2, placement="cached")
    (shard,) = cache_home.glob("*/dataset/data/*.arrow")
    if damage == "cut":
        os.truncate(shard, 1000)
    elif damage == "flip":
        flip(shard, shard.read_bytes().index(dataset.arrays.images[4].tobytes()) + 100)
    elif damage == "manifest":
        flip(shard.parents[1] / "meta" / "ladd.json", 50)
    else:
        (shard.parents[2] / "checks.json").unlink()

    check_loader(lambda **options: dataset.loader(placement="cached", **options), dataset)


def test_the_same_records_in_another_order_are_another_entry(labelled: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(labelled, tmp_path / "set"))
    text = (other / "meta" / "shards.json").read_text()
    (other / "meta" / "shards.json").write_text(text.replace('"rows": 6', '"rows": 5'))
    first, second = ladd.load(labelled)._folder, ladd.load(labelled)._folder
    moved = type(second)(other, second.manifest, second.layout, second.edition, second.shards, second.content)

    assert cache.key_of(first) != cache.key_of(moved)


def test_a_cache_of_several_shards_and_pieces_is_the_dataset(
    labelled: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "_JOINED_BYTES", 0)
    monkeypatch.setattr("ladd_data.writer.plan_shards", lambda count, size: ShardPlan(count, 2, 3, 2))
    dataset = ladd.load(labelled)

    check_loader(lambda **options: dataset.loader(placement="cached", **options), dataset)
    assert len(list(cache_home.glob("*/dataset/data/*.arrow"))) == 2


class Stop(BaseException):
    """What Ctrl-C is to a program."""


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_nothing_stays_in_the_cache_when_its_making_is_stopped(
    error: type[BaseException], labelled: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ladd.load(labelled)

    def stop(*_: object) -> int:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(cached, "hash_row", stop)
        with pytest.raises(error):
            dataset.loader(2, placement="cached")

    assert list(cache_home.iterdir()) == []
    assert len(dataset.loader(2, placement="cached")) == 3


def test_a_full_disk_is_said_with_a_way_out(labelled: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device", str(cache_home))

    monkeypatch.setattr(cached, "write_synced", refuse)

    with pytest.raises(ladd.LaddError, match=r"No space left.*LADD_CACHE"):
        ladd.load(labelled).loader(2, placement="cached")
    assert list(cache_home.iterdir()) == []


def test_a_dataset_opens_where_there_is_no_place_for_a_cache(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("LADD_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", refuse)

    dataset = ladd.load(labelled)

    assert len(dataset.loader(2)) == 3
    with pytest.raises(ladd.UsageError, match="LADD_CACHE"):
        dataset.loader(2, placement="cached")


def test_a_cache_that_cannot_be_written_is_said_with_a_way_out(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LADD_CACHE", str(tmp_path / "file"))

    with pytest.raises(ladd.LaddError, match=r"file: .*set LADD_CACHE"):
        ladd.load(labelled).loader(2, placement="cached")


def open_cached_set(path: str, made: Any) -> None:
    original = cached._make
    cached._make = lambda *arguments: (made.put(1), original(*arguments))[-1]
    made.put(len(list(ladd.load(path).loader(2, placement="cached"))))


def test_several_processes_make_an_entry_once(labelled: Path) -> None:
    context = multiprocessing.get_context("spawn")
    made = context.Queue()
    processes = [context.Process(target=open_cached_set, args=(str(labelled), made)) for _ in range(2)]
    for process in processes:
        process.start()
    results = sorted(made.get(timeout=120) for _ in range(3))
    for process in processes:
        process.join(60)

    assert results == [1, 3, 3] and [process.exitcode for process in processes] == [0, 0]


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_root() == tmp_path / "cache"
    monkeypatch.delenv("LADD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / "ladd-data"


def test_the_cache_is_listed_and_cleared_by_command(
    labelled: Path, unlabelled: Path, cache_home: Path, run_cli: Callable[..., tuple[int, str]]
) -> None:
    digests = []
    for path in (labelled, unlabelled):
        dataset = ladd.load(path)
        dataset.loader(2, placement="cached")
        digests.append(dataset.manifest.digest)
    (cache_home / f".{'a' * 64}-{'b' * 16}.partial").mkdir()
    (cache_home / "my-photos").mkdir()

    listed = json.loads(run_cli("cache", "list", "--json")[1])
    assert {entry["digest"] for entry in listed["entries"]} == set(digests)
    assert "2 datasets" in run_cli("cache", "list")[1]
    assert run_cli("cache", "clear", "zz")[0] == 2
    assert run_cli("cache", "clear", digests[0][:12])[1].startswith("removed 1 datasets")
    assert [entry.digest for entry in cache.list_entries()] == digests[1:]
    assert run_cli("cache", "clear")[0] == 0
    assert [item.name for item in cache_home.iterdir()] == ["my-photos"]


@pytest.fixture
def run_cli() -> Callable[..., tuple[int, str]]:
    """Run the command line here, and return exit code and output."""
    from typer.testing import CliRunner

    from ladd_data.cli import app

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, words)
        code = getattr(result.exception, "exit_code", result.exit_code)
        return code, result.stdout

    return run


def test_the_cached_loader_cuts_views_without_the_dataset_in_memory(
    labelled: Path, labeler: Path, unlabelled: Path, tmp_path: Path
) -> None:
    dataset = ladd.load(label(unlabelled, labeler, tmp_path / "set", n=2))

    assert next(iter(dataset.loader(2, placement="cached"))).views().pixels.shape == (2, 4, 3, 32, 32)
    assert "arrays" not in vars(dataset)
