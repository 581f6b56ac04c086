"""A labeling run that is cut short goes on where it was, and its result is that of a run in one go."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_distilled, make_labeler
from running import content, run_alone, write_script

import ladd_data as ladd
from ladd_data import writer
from ladd_data.convert import convert, prepare
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.journal import Progress
from ladd_data.labeling.label import LabelPlan, Reports, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.labeling.shards import ShardLabeler
from ladd_data.shards.plan import ShardPlan
from ladd_data.views.geometry import grid

COUNT = 12


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two records a shard."""
    monkeypatch.setattr(writer, "plan_shards", lambda count, size: ShardPlan(count, -(-count // 2), 2, 2))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("resume") / "plain"
    convert(prepare(make_distilled(COUNT), "tiny"), target)
    return target


def run(plain: Path, labeler: Path, target: Path, restart: bool = False, **changes: Any) -> list[str]:
    """Label, and return what was said of resuming."""
    said: list[str] = []
    given: dict[str, Any] = {
        "views": grid(2, "5/8"),
        "coding": ENCODINGS["float16"],
        "device": torch.device("cpu"),
        **changes,
    }
    plan = LabelPlan(load_labeler(labeler), **given)
    label_dataset(ladd.load(plain), plan, target, restart=restart, reports=Reports(on_note=said.append))
    return said


def cut_short(plain: Path, labeler: Path, target: Path, monkeypatch: pytest.MonkeyPatch, after: int = 3) -> None:
    """Run until some shards are saved, then fail."""
    real, saved = Progress.save, list[object]()

    def save(self: Progress, part: object) -> None:
        if len(saved) == after:
            raise KeyboardInterrupt
        saved.append(part)
        real(self, part)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "save", save)
        run(plain, labeler, target)


def count_labelled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that will hold the numbers of the shards that are labelled from now on."""
    numbers: list[int] = []
    real = ShardLabeler.run

    def note(self: ShardLabeler, shards: list[int], *rest: object) -> None:
        numbers.extend(shards)
        real(self, shards, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ShardLabeler, "run", note)
    return numbers


def test_a_run_cut_short_goes_on_with_the_shards_that_are_missing(
    plain: Path, labeler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plain, labeler, tmp_path / "straight")
    cut_short(plain, labeler, tmp_path / "set", monkeypatch)
    assert not (tmp_path / "set").exists()
    numbers = count_labelled(monkeypatch)

    said = run(plain, labeler, tmp_path / "set")

    assert numbers == [3, 4, 5] and "3 of 6 shards are done" in said[0]
    assert content(tmp_path / "set") == content(tmp_path / "straight")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "straight"]
    assert ladd.validate(tmp_path / "set").problems == ()


@pytest.mark.parametrize("name", ["part-00001.labels", "part-00001.json"])
def test_a_part_that_was_damaged_is_labelled_again(
    name: str, plain: Path, labeler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plain, labeler, tmp_path / "straight")
    cut_short(plain, labeler, tmp_path / "set", monkeypatch)
    file = tmp_path / ".set.progress" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    numbers = count_labelled(monkeypatch)

    run(plain, labeler, tmp_path / "set")

    assert numbers == [1, 3, 4, 5]
    assert content(tmp_path / "set") == content(tmp_path / "straight")


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "views": ({"views": grid(2, "1/2")}, "views: "),
    "encoding": ({"coding": ENCODINGS["q8"]}, "encoding: "),
    "precision": ({"precision": "bf16"}, "precision: float32 then, bf16 now"),
    "layout": ({"channels_last": True}, "channels_last: False then, True now"),
    "batch": ({"batch": 3}, "batch: "),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_that_would_give_other_bytes_refuses_to_resume_and_says_why(
    name: str, plain: Path, labeler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, message = CHANGES[name]
    cut_short(plain, labeler, tmp_path / "set", monkeypatch)
    before = content(tmp_path)

    with pytest.raises(ladd.UsageError, match=r"3 of 6 shards .*--restart") as error:
        run(plain, labeler, tmp_path / "set", **changes)

    assert f"differs from this one in {message}" in str(error.value)
    assert content(tmp_path) == before
    run(plain, labeler, tmp_path / "set", restart=True, **changes)
    assert ladd.validate(tmp_path / "set").valid and not (tmp_path / ".set.progress").exists()


def test_another_labeler_or_dataset_refuses_to_resume(
    plain: Path, labeler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, changed = make_labeler(tmp_path / "other.safetensors", seed=1), tmp_path / "changed"
    convert(prepare(make_distilled(COUNT, seed=1), "tiny"), changed)
    cut_short(plain, labeler, tmp_path / "set", monkeypatch)

    with pytest.raises(ladd.UsageError, match=r"differs from this one in labeler: [0-9a-f]+\.\.\. then"):
        run(plain, other, tmp_path / "set")
    with pytest.raises(ladd.UsageError, match="differs from this one in dataset: "):
        run(changed, labeler, tmp_path / "set")


def test_memory_that_has_become_scarce_does_not_change_the_batch_of_a_run_that_goes_on(
    plain: Path, labeler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plain, labeler, tmp_path / "straight")
    cut_short(plain, labeler, tmp_path / "set", monkeypatch)

    monkeypatch.setattr("ladd_data.labeling.pipeline.free_memory", lambda device: 900_000)
    run(plain, labeler, tmp_path / "set")
    run(plain, labeler, tmp_path / "scarce")

    assert content(tmp_path / "set") == content(tmp_path / "straight")
    scarce, labels = ladd.load(tmp_path / "scarce").manifest.labels, ladd.load(tmp_path / "set").manifest.labels
    assert scarce is not None and scarce.labeler is not None and labels is not None and labels.labeler is not None
    assert (scarce.labeler.batch or 0) < (labels.labeler.batch or 0)


def test_killed_again_and_again_at_any_moment_the_result_is_that_of_a_run_in_one_go(
    labeler: Path, tmp_path: Path
) -> None:
    draw = random.Random(0)
    moments = [("pass", 1 + draw.randrange(3)) for _ in range(5)]
    moments += [("part", 1), ("part", 3), ("shard", 2), ("seal", 1), ("shard", 1)]
    convert(prepare(make_distilled(45), "tiny"), tmp_path / "plain")
    arguments = ("label", tmp_path / "plain", "--labeler", labeler, "--device", "cpu")
    straight = run_alone(write_script(tmp_path / "ladd.py"), *arguments, "-o", tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr

    for number, (moment, count) in enumerate(moments):
        script = write_script(tmp_path / f"{number}.py", moment=moment, number=count)
        killed = run_alone(script, *arguments, "-o", tmp_path / "set")
        assert killed.returncode == -9, (moment, count, killed.stderr)
        assert not (tmp_path / "set").exists()
    last = run_alone(tmp_path / "ladd.py", *arguments, "-o", tmp_path / "set")

    assert last.returncode == 0 and "going on where an earlier run was cut short" in last.stderr
    assert content(tmp_path / "set") == content(tmp_path / "straight")
    assert not list(tmp_path.glob(".set*"))


def test_what_a_finished_run_could_not_sweep_up_is_no_progress(plain: Path, labeler: Path, tmp_path: Path) -> None:
    target = Path(shutil.copytree(plain, tmp_path / "set"))
    label_in_place = {"overwrite": True, "target": target}

    def again() -> None:
        plan = LabelPlan(load_labeler(labeler), grid(2, "5/8"), ENCODINGS["float16"], torch.device("cpu"))
        label_dataset(ladd.load(target), plan, **label_in_place)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "discard", lambda self: None)
        again()
    assert (tmp_path / ".set.progress").exists()
    again()
    assert not (tmp_path / ".set.progress").exists()
