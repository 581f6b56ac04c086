"""Every loader keeps one contract; placements, cache, ranks and schedule."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ladd_data as ladd
from ladd_data.encodings.coding import decode_logits
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.loaders import batches, placement
from ladd_data.loaders.caching import cached
from ladd_data.loaders.loader import Loader, PlacementName
from ladd_data.loaders.placement import choose_placement
from ladd_data.loaders.schedule import Schedule, Slots
from ladd_data.manifest import Coding
from ladd_data.testing import check_loader

PLACEMENTS: list[PlacementName] = ["resident", "pinned", "cached"]

CODINGS = {
    **{name: ENCODINGS[name] for name in ("float16", "q8", "q4")},
    "topk": Coding(encoding="topk", k=2),
    "probs": Coding(space="probs", dtype="float32"),
    "bfloat16": Coding(dtype="bfloat16", logz=True),
    "logits": Coding(space="logits"),
}


@pytest.fixture(scope="module")
def coded(unlabelled: Path, labeler: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return six images labelled in a coding."""
    home = tmp_path_factory.mktemp("coded")

    def make(name: str) -> Path:
        if not (home / name).exists():
            plan = LabelPlan(load_labeler(labeler), ladd.grid(5, "5/8"), CODINGS[name], torch.device("cpu"))
            label_dataset(ladd.load(unlabelled), plan, home / name)
        return home / name

    return make


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("LADD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["few", "many"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether columns are small enough to be joined and labels to be decoded early."""
    if request.param == "many":
        monkeypatch.setattr(cached, "_JOINED_BYTES", 0)
        monkeypatch.setattr(batches, "are_few", lambda labels, pixels: False)
    return str(request.param)


@pytest.mark.parametrize("where", PLACEMENTS)
@pytest.mark.parametrize("which", ["labelled", "unlabelled", "jpegs"])
def test_every_placement_keeps_the_contract(
    which: str, where: PlacementName, sizes: str, request: pytest.FixtureRequest
) -> None:
    dataset = ladd.load(request.getfixturevalue(which))

    check_loader(lambda **options: dataset.loader(placement=where, **options), dataset)


@pytest.mark.parametrize("name", CODINGS)
def test_every_coding_comes_out_of_the_cache_as_out_of_memory(
    name: str, coded: Callable[[str], Path], sizes: str
) -> None:
    dataset = ladd.load(coded(name))

    pairs = zip(dataset.loader(4, placement="resident"), dataset.loader(4, placement="cached"), strict=True)

    for left, right in pairs:
        assert left.dense is not None and right.dense is not None
        assert torch.equal(left.dense, right.dense) and torch.equal(left.image, right.image)


# Schedules


@settings(deadline=None, max_examples=150)
@given(
    count=st.integers(1, 40),
    before=st.tuples(st.integers(1, 7), st.integers(1, 4)),
    after=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 4)), min_size=1, max_size=3),
    last=st.sampled_from(["short", "wrap"]),
    data=st.data(),
)
def test_what_remains_after_any_stops_is_exactly_what_was_not_done(
    count: int, before: tuple[int, int], after: list[tuple[int, int]], last: Any, data: st.DataObject
) -> None:
    order = Schedule(count, 1, shuffle=True, seed=9).order(2).tolist()
    seen: list[int] = []
    state: dict[str, Any] | None = None
    runs = [before, *after]
    for number, (batch_size, world) in enumerate(runs):
        ranks = [
            Schedule(count, batch_size, shuffle=True, seed=9, last=last, rank=r, world=world) for r in range(world)
        ]
        epoch, done = (2, 0) if state is None else ranks[0].parse_state(state, "d")
        if epoch == 3:
            break
        steps = [list(rank.walk(epoch, done)) for rank in ranks]
        assert len({len(mine) for mine in steps}) == 1
        stop = len(steps[0]) if number == len(runs) - 1 else data.draw(st.integers(0, len(steps[0])))
        for step in range(stop):
            seen += [index for mine in steps for index in counted(mine[step])]
        done = steps[0][stop - 1].stop if stop else done
        state = json.loads(json.dumps(ranks[-1].dump_state("d", epoch, done)))
        assert seen == order[:done]

    assert seen == order


def counted(slots: Slots) -> list[int]:
    numbers: list[int] = (slots.index if slots.mask is None else slots.index[slots.mask]).tolist()
    return numbers


@settings(deadline=None)
@given(count=st.integers(1, 60), batch_size=st.integers(1, 9), world=st.integers(1, 5))
def test_ranks_share_a_short_last_batch_evenly_and_none_is_left_without(
    count: int, batch_size: int, world: int
) -> None:
    ranks = [Schedule(count, batch_size, rank=rank, world=world) for rank in range(world)]

    final = [rank.take(0, len(list(rank.walk(0))) - 1) for rank in ranks]
    shares = [len(counted(slots)) for slots in final]

    assert max(shares) - min(shares) <= 1 and all(len(slots.index) for slots in final)


def test_wrapping_repeats_the_first_slots_of_the_epoch_even_of_a_tiny_dataset() -> None:
    slots = Schedule(3, 4, last="wrap", rank=1, world=2).take(0, 0)

    assert slots.index.tolist() == [1, 2, 0, 1]
    assert slots.mask is not None and slots.mask.tolist() == [False] * 4


def test_dropping_after_a_resume_with_larger_batches_goes_on_with_the_next_epoch() -> None:
    schedule = Schedule(10, 4, last="drop")

    assert schedule.parse_state(schedule.dump_state("d", 5, 8), "d") == (6, 0)
    assert schedule.parse_state(Schedule(10, 2).dump_state("d", 5, 8), "d") == (6, 0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": True}, "batch_size True"),
        ({"seed": 2**32}, "seed 4294967296"),
        ({"rank": 2, "world": 2}, r"rank 2.*0 \.\. 1"),
        ({"rank": 1}, "belong together"),
        ({"last": "keep"}, "drop, short, wrap"),
        ({"placement": "disk"}, "resident"),
        ({"space": "probs"}, "log_probabilities"),
    ],
)
def test_options_out_of_range_are_refused(labelled: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ladd.UsageError, match=named):
        ladd.load(labelled).loader(**options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"done": 7}, r"done 7.*0 \.\. 6"),
        ({"epoch": -1}, "epoch -1"),
        ({"format": 2}, "format is 2"),
        ({"x": 1}, "keys"),
    ],
)
def test_a_damaged_state_is_refused(labelled: Path, change: dict[str, Any], named: str) -> None:
    loader = ladd.load(labelled).loader(2)

    with pytest.raises(ladd.UsageError, match=named):
        loader.load_state_dict({**loader.state_dict(), **change})


# Label spaces


@pytest.mark.parametrize("name", CODINGS)
def test_label_spaces_agree_with_each_other_and_with_the_reference_decoder(
    name: str, coded: Callable[[str], Path]
) -> None:
    dataset = ladd.load(coded(name))
    assert dataset.manifest.labels is not None
    coding = dataset.manifest.labels.coding

    probs = dense_of(dataset.loader(6))
    logs = dense_of(dataset.loader(6, space="log_probabilities"))

    assert torch.allclose(logs.exp(), probs, atol=1e-6) and torch.allclose(probs.sum(-1), torch.ones(6, 25))
    if coding.logz or coding.space == "logits":
        logits = dense_of(dataset.loader(6, space="logits"))
        expected = decode_logits(dataset.arrays.dense, coding, 3)
        assert np.allclose(logits.numpy(), expected, rtol=1e-5, atol=1e-4)
    else:
        with pytest.raises(ladd.UsageError, match=r'without logz.*"log_probabilities".*label again'):
            dataset.loader(6, space="logits")


def dense_of(loader: Loader) -> torch.Tensor:
    batch = next(iter(loader))
    assert batch.dense is not None and batch.dense.dtype == torch.float32
    return batch.dense


def test_an_unlabelled_dataset_has_no_other_space_and_no_views(unlabelled: Path) -> None:
    dataset = ladd.load(unlabelled)

    with pytest.raises(ladd.UsageError, match="ladd label"):
        dataset.loader(space="logits")
    with pytest.raises(ladd.UsageError, match="ladd label"):
        next(iter(dataset.loader())).views()


def test_drawn_views_are_unbiased_and_refused_out_of_range(labelled: Path) -> None:
    loader = ladd.load(labelled).loader(6)
    drawn = []
    for epoch in range(200):
        loader.set_epoch(epoch)
        drawn += [next(iter(loader)).views(5).numbers]

    share = np.bincount(np.concatenate(drawn), minlength=25) / 200
    assert abs(share - 0.2).max() < 0.1 and len(set(drawn)) > 190
    for k in (0, 26, True):
        with pytest.raises(ladd.UsageError, match=r"1 \.\. 25"):
            next(iter(loader)).views(k)


# Placement


@pytest.mark.parametrize(
    ("size", "memory", "disk", "chosen"),
    [(100, 400, 0, "resident"), (101, 400, 202, "cached"), (101, 400, 201, "streaming")],
)
def test_auto_goes_by_size(size: int, memory: int, disk: int, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "available_memory", lambda: memory)
    monkeypatch.setattr(placement, "free_disk", lambda path: disk)

    assert choose_placement("auto", size, torch.device("cpu"), lambda: False).name == chosen


def test_processes_on_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "available_memory", lambda: 400)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

    assert choose_placement("auto", 100, torch.device("cpu"), lambda: True).name == "cached"


def test_the_placement_is_said_in_one_line(labelled: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "ladd_data"):
        loader = ladd.load(labelled).loader(4)

    assert str(loader.placement) in caplog.text and "resident, batches on cpu" in caplog.text
    assert loader.placement.bytes == 6 * (3 * 32 * 32 + 8 + 25 * 3 * 2 + 25 * 4)


# Ranks

RANKS = """
import json, sys, torch, ladd_data as ladd
torch.distributed.init_process_group("gloo")
loader = ladd.load(sys.argv[1]).loader(2, shuffle=True, seed=5, placement=sys.argv[2])
seen = [[int(i) for b in loader for i in (b.index if b.mask is None else b.index[b.mask])] for _ in range(2)]
out = [None, None]
torch.distributed.all_gather_object(out, (len(loader), seen, loader.state_dict()))
if torch.distributed.get_rank() == 0:
    open(sys.argv[3], "w").write(json.dumps(out))
torch.distributed.destroy_process_group()
"""


def test_two_ranks_of_torchrun_see_each_record_once_an_epoch(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(tmp_path / "ranks.py"), str(labelled), "cached", str(tmp_path / "out.json")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert result.returncode == 0, result.stderr[-3000:]
    (length, first, state), (other_length, second, other_state) = json.loads((tmp_path / "out.json").read_text())

    assert length == other_length == 2 and state == other_state and state["epoch"] == 2
    for epoch in range(2):
        assert sorted(first[epoch] + second[epoch]) == list(range(6))
    assert first[0] != first[1]


def test_ranks_come_from_torchruns_environment(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert [batch.index.tolist() for batch in ladd.load(labelled).loader(3)] == [[3, 4, 5]]
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ladd.UsageError, match="RANK 'one'"):
        ladd.load(labelled).loader(3)


def test_a_batch_that_is_kept_is_not_written_again(labelled: Path) -> None:
    loader = ladd.load(labelled).loader(1, placement="resident")
    kept = [batch.image for epoch in range(3) for batch in loader]

    assert all(torch.equal(kept[place], kept[place % 6]) for place in range(18))
    assert len({image.data_ptr() for image in kept}) == 18


def test_memory_of_batches_that_are_gone_is_used_again(labelled: Path) -> None:
    loader = ladd.load(labelled).loader(1, placement="cached")

    assert len({batch.image.data_ptr() for epoch in range(3) for batch in loader}) <= 4
