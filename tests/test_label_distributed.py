"""Labeling by several ranks under torchrun gives the bytes of one process, whatever happens to a rank."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from making import make_distilled, make_labeler
from running import content, run_alone, run_ranks, write_script

from ladd_data.convert import convert, prepare


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine shards or so."""
    target = tmp_path_factory.mktemp("ranks") / "plain"
    convert(prepare(make_distilled(20), "tiny"), target)
    return target


@pytest.fixture(scope="module")
def alone(plain: Path, labeler: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The dataset as one process labels it."""
    home = tmp_path_factory.mktemp("alone")
    done = run_alone(write_script(home / "ladd.py"), *arguments(plain, labeler, home / "set"))
    assert done.returncode == 0, done.stderr
    found = content(home / "set")
    assert len(found) > 3 + 4
    return found


def arguments(plain: Path, labeler: Path, target: Path) -> list[str]:
    return ["label", str(plain), "--labeler", str(labeler), "-o", str(target), "--device", "cpu"]


def test_two_ranks_give_the_bytes_of_one_process_and_speak_with_one_voice(
    plain: Path, labeler: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    done = run_ranks(write_script(tmp_path / "ladd.py"), *arguments(plain, labeler, tmp_path / "set"))

    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "set") == alone
    assert done.stdout.count("wrote ") == 1
    assert not list(tmp_path.glob(".set*"))


def test_a_rank_that_is_killed_is_started_again_by_torchrun_and_changes_no_byte(
    plain: Path, labeler: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    script = write_script(tmp_path / "dies.py", moment="part", number=2, rank="1", once=str(tmp_path / "once"))

    done = run_ranks(script, *arguments(plain, labeler, tmp_path / "set"), restarts=2)

    assert done.returncode == 0 and (tmp_path / "once").exists(), done.stderr
    assert content(tmp_path / "set") == alone


@pytest.mark.parametrize("rank", ["0", "1"])
def test_after_a_rank_was_killed_one_process_goes_on_with_what_both_have_done(
    plain: Path, labeler: Path, alone: dict[str, bytes], tmp_path: Path, rank: str
) -> None:
    script = write_script(tmp_path / "dies.py", moment="part", number=3, rank=rank)

    killed = run_ranks(script, *arguments(plain, labeler, tmp_path / "set"))
    left = len(list((tmp_path / ".set.progress").glob("part-*.json")))
    done = run_alone(write_script(tmp_path / "ladd.py"), *arguments(plain, labeler, tmp_path / "set"))

    assert killed.returncode != 0 and left >= 2
    assert done.returncode == 0 and f"{left} of " in done.stderr, done.stderr
    assert content(tmp_path / "set") == alone


def test_what_one_rank_refuses_all_refuse_with_one_message(plain: Path, tmp_path: Path) -> None:
    wrong = make_labeler(tmp_path / "wrong.safetensors", size=64)

    done = run_ranks(write_script(tmp_path / "ladd.py"), *arguments(plain, wrong, tmp_path / "set"))

    assert done.returncode != 0 and done.stderr.count("error: the labeler takes images of 3x64x64") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ladd.py", "wrong.safetensors"]


def test_a_label_set_by_two_ranks_one_of_which_was_killed_has_the_bytes_of_one_process(
    plain: Path, labeler: Path, tmp_path: Path
) -> None:
    for name in ("straight", "set"):
        shutil.copytree(plain, tmp_path / name)
    line = ["--labeler", str(labeler), "--as", "more", "--device", "cpu"]
    script = write_script(tmp_path / "ladd.py")
    assert run_alone(script, "label", tmp_path / "straight", *line).returncode == 0
    dying = write_script(tmp_path / "dies.py", moment="part", number=2, rank="1")

    killed = run_ranks(dying, "label", tmp_path / "set", *line)
    left = len(list((tmp_path / "set" / "labels" / ".more.progress").glob("part-*.json")))
    done = run_ranks(script, "label", tmp_path / "set", *line)

    assert killed.returncode != 0 and left >= 1
    assert done.returncode == 0 and f"{left} of " in done.stderr, done.stderr
    assert content(tmp_path / "set") == content(tmp_path / "straight")
    assert len(list((tmp_path / "set" / "labels" / "more").glob("*.parquet"))) > 3
