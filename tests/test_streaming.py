"""Streams: the contract in every edition and from anywhere, faults of transport and of data, memory, threads."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from making import label, make_distilled
from serving import Server, serve

import ladd_data as ladd
from ladd_data import writer
from ladd_data.convert import convert, prepare
from ladd_data.dataset import Dataset
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.export import export_dataset
from ladd_data.labeling.label import BoxDraw, LabelPlan, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.loaders.reading.remote import Patience, open_source
from ladd_data.loaders.reading.source import SourceError
from ladd_data.loaders.streaming import stream as streaming
from ladd_data.loaders.streaming.block_order import BlockShuffle
from ladd_data.loaders.streaming.stream import StreamingLoader
from ladd_data.manifest import Boxes
from ladd_data.shards import plan
from ladd_data.testing import check_loader
from ladd_data.types import Batch, Edition

EDITIONS: list[Edition] = ["parquet", "webdataset", "arrow"]
COUNT = 30
QUICK = Patience(attempts=3, timeout=20, pause=0)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of 4 records, shards of 11: what holds for gigabytes is seen with 30 records."""
    make_groups_small(monkeypatch)


def make_groups_small(patch: pytest.MonkeyPatch) -> None:
    size = 32 * 32 * 3 + 64 + 25 * (3 * 2 + 4)
    patch.setattr(plan, "ROW_GROUP_BYTES", 4 * size + 100)
    patch.setattr(writer, "plan_shards", partial(plan.plan_shards, shard_bytes=11 * size))


@pytest.fixture(scope="module")
def many(home: Path, labeler: Path) -> Path:
    """30 labelled images in several shards of several row groups; each edition in a folder of its name."""
    with pytest.MonkeyPatch.context() as patch:
        make_groups_small(patch)
        convert(prepare(make_distilled(COUNT), "many"), home / "many-plain")
        label(home / "many-plain", labeler, home / "many" / "parquet")
        for edition in EDITIONS[1:]:
            export_dataset(ladd.load(home / "many" / "parquet"), edition, home / "many" / edition)
    assert len(list((home / "many" / "parquet" / "data").iterdir())) > 2
    return home / "many"


@pytest.fixture
def server(many: Path) -> Iterator[Server]:
    with serve(many) as running:
        yield running


def contents(loader: Any) -> list[tuple[Any, ...]]:
    """Return all that a pass yields."""
    return [
        (number, batch.image[row].numpy().tobytes(), int(batch.label[row]), batch.dense[row].numpy().tobytes())
        for batch in loader
        for row, number in enumerate(batch.index.tolist())
    ]


def expected(many: Path) -> list[tuple[Any, ...]]:
    return contents(ladd.load(many / "parquet").loader(7, placement="resident"))


# The contract


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_stream_keeps_the_contract_of_loaders_in_every_edition(many: Path, edition: Edition) -> None:
    dataset = ladd.load(many / edition)

    check_loader(lambda **options: dataset.loader(placement="streaming", **options), dataset)


@pytest.mark.parametrize("which", ["unlabelled", "jpegs", "labelled"])
def test_streams_of_other_kinds_keep_the_contract(which: str, unlabelled: Path, jpegs: Path, labelled: Path) -> None:
    path = {"unlabelled": unlabelled, "jpegs": jpegs, "labelled": labelled}[which]

    check_loader(lambda **options: ladd.stream(path, **options), ladd.load(path))


def test_every_edition_streams_in_the_same_order_and_resumes_in_another(many: Path) -> None:
    streams = [ladd.stream(many / edition, 7, shuffle=True, seed=3) for edition in EDITIONS]
    first, second, third = (contents(stream) for stream in streams)
    assert first == second == third

    batches = iter(ladd.stream(many / "parquet", 7, shuffle=True, seed=3))
    done = [int(number) for number in next(batches).index]
    del batches
    stopped = ladd.stream(many / "parquet", 7, shuffle=True, seed=3)
    for _ in stopped:
        break
    state = json.loads(json.dumps(stopped.state_dict()))
    rest: list[int] = []
    ranks = [ladd.stream(many / "arrow", 2, shuffle=True, seed=3, rank=rank, world=3) for rank in range(3)]
    for rank in ranks:
        rank.load_state_dict(state)
    for batches_of_ranks in zip(*ranks, strict=True):
        rest += [int(number) for batch in batches_of_ranks for number in counted(batch)]
    assert done + rest == [row[0] for row in first]


def counted(batch: Batch) -> torch.Tensor:
    return batch.index if batch.mask is None else batch.index[batch.mask]


def test_a_state_of_another_window_is_refused(many: Path) -> None:
    state = ladd.stream(many / "parquet", 7, shuffle=True, window=2).state_dict()

    with pytest.raises(ladd.UsageError, match=r"order is 'strands-2-.*' in the state and 'strands-4-"):
        ladd.stream(many / "parquet", 7, shuffle=True).load_state_dict(state)


def test_views_with_boxes_of_their_own_are_those_of_the_dataset(many: Path, labeler: Path, tmp_path: Path) -> None:
    boxed = make_boxed(many / "parquet", labeler, tmp_path / "boxed")
    dataset = ladd.load(boxed)

    for batch in ladd.stream(boxed, 7, shuffle=True):
        assert torch.equal(batch.views().pixels, dataset.views(batch.image, index=batch.index))


def make_boxed(source: Path, labeler: Path, target: Path) -> Path:
    views, draw = Boxes(count=3, flip=True), BoxDraw(seed=3, least=0.3)
    how = LabelPlan(load_labeler(labeler), views, ENCODINGS["float16"], torch.device("cpu"), boxes=draw)
    label_dataset(ladd.load(source), how, target)
    return target


def test_label_columns_that_a_space_does_not_need_are_not_read(many: Path) -> None:
    plain, logits = ladd.stream(many / "parquet", 7), ladd.stream(many / "parquet", 7, space="logits")

    for loader, needed in ((plain, False), (logits, True)):
        assert len(list(loader)) == len(loader)
        assert ("dense_logz" in loader._buffers) == needed
    assert "dense_log_probs" in plain._buffers


# Order


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_block_order_visits_each_record_once_and_holds_a_part_of_the_window(
    sizes: list[int], window: int, seed: int
) -> None:
    order = BlockShuffle(sizes, seed, window)(epoch=1)

    assert sorted(order.tolist()) == list(range(sum(sizes)))
    block_of = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    read = [0] * len(sizes)
    for come, record in enumerate(order.tolist()):
        block = block_of[record]
        read[block] = max(read[block], record - int(starts[block]) + 1)  # blocks are read from their beginning on
        assert sum(read) - come <= 2 * max(1, max(sizes) * window // 4)


def test_a_batch_mixes_as_many_blocks_as_the_window_has() -> None:
    order = BlockShuffle([100] * 50, 3, 4)(0)

    blocks = [len(set(part.tolist())) for part in np.split(order // 100, 100)]
    assert min(blocks) >= 3 and max(blocks) <= 7
    assert not (np.diff(order) == 1).sum() > len(order) / 20  # neighbours do not come one behind the other


def test_few_blocks_are_shuffled_fully() -> None:
    first = [int(BlockShuffle([10, 10], 0)(epoch)[0]) for epoch in range(400)]

    assert set(first) == set(range(20))


def test_block_order_is_frozen() -> None:
    order = BlockShuffle([3, 3, 3, 2], 7, 2)

    assert order(0).tolist() == [3, 6, 4, 5, 7, 9, 8, 0, 10, 1, 2]
    assert order(1).tolist() != order(0).tolist()


# Memory, threads


@pytest.mark.parametrize("edition", EDITIONS)
def test_memory_holds_a_few_blocks_whatever_the_number(
    many: Path, edition: Edition, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    take = streaming._Pass.take

    def watch(self: Any, step: int) -> Any:
        held.append(len(self._filling._drafts))
        return take(self, step)

    monkeypatch.setattr(streaming._Pass, "take", watch)
    loader = ladd.stream(many / edition, 2, shuffle=True, window=2)

    for _ in range(2):
        for _ in loader:
            pass

    assert 2 <= max(held) <= 2 * 4  # records of 4 blocks at most, of 4 records, in batches of 2
    assert len(loader._buffers["image"]._kept) <= 10


def test_nothing_stays_of_a_pass_that_is_left(many: Path) -> None:
    before = set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))

    for edition in EDITIONS:
        for _ in ladd.stream(many / edition, 2, shuffle=True):
            break

    assert (set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))) == before


def test_only_the_blocks_that_are_needed_are_read_after_a_resume(many: Path, server: Server) -> None:
    loader = ladd.stream(f"{server.address}/parquet", 10, patience=QUICK)
    loader.load_state_dict({**loader.state_dict(), "done": 20})
    server.log.clear()

    assert [row[0] for row in contents(loader)] == list(range(20, 30))
    assert not any("00000-of" in path for path, _, _ in server.log)


# From afar


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_http_gives_what_a_folder_gives(many: Path, server: Server, edition: Edition, shuffle: bool) -> None:
    found = contents(ladd.stream(f"{server.address}/{edition}", 7, shuffle=shuffle, patience=QUICK))

    assert found == contents(ladd.stream(many / edition, 7, shuffle=shuffle))


@pytest.mark.parametrize("edition", EDITIONS)
def test_any_file_system_of_fsspec_will_do(many: Path, edition: Edition) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(many / edition), "/sets/one", recursive=True)
    try:
        assert contents(ladd.stream("memory://sets/one", 7)) == expected(many)
    finally:
        memory.rm("/sets", recursive=True)


def test_hub_addresses_are_pinned_to_a_commit_and_secrets_stay_with_the_hub(
    many: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = f"http://localhost:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", hub)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    server.fault = lambda path, before: b'{"sha": "c0ffee"}' if path.startswith("api/") else None
    server.redirect = ("datasets/me/set/resolve/c0ffee", f"{server.address}/parquet")

    assert contents(ladd.stream("hf://datasets/me/set@v1", 7, patience=QUICK)) == expected(many)

    assert server.log[0] == ("api/datasets/me/set/revision/v1", None, "Bearer hf_secret")
    secrets = {path.split("/")[0]: secret for path, _, secret in server.log}
    assert secrets == {"api": "Bearer hf_secret", "datasets": "Bearer hf_secret", "parquet": None}


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("hf://models/me/set", "expected hf://datasets/USER/NAME"),
        ("hf://datasets/me/set", "HF_HUB_OFFLINE is set"),
        ("nosuch://place/set", "nosuch"),
        ("SERVER/nothing", "not a ladd dataset"),
        ("/nothing/here", "no such folder"),
    ],
)
def test_addresses_without_a_dataset_are_refused(server: Server, address: str, named: str) -> None:
    with pytest.raises(ladd.UsageError, match=named):
        ladd.stream(address.replace("SERVER", server.address), patience=QUICK)


def test_a_server_without_ranges_is_refused_before_it_sends_everything(many: Path) -> None:
    with serve(many, ranges=False) as server, pytest.raises(ladd.UsageError, match="needs ranges"):
        list(ladd.stream(f"{server.address}/parquet", patience=QUICK))


# Faults of transport


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("fault", [500, 503, 429, "die", "cut"])
def test_faults_that_pass_are_recovered_from(many: Path, server: Server, edition: Edition, fault: Any) -> None:
    server.fault = lambda path, before: fault if before < 2 else None

    assert contents(ladd.stream(f"{server.address}/{edition}", 7, patience=QUICK)) == expected(many)


@pytest.mark.parametrize(
    ("fault", "named"),
    [(500, "3: status 500"), ("die", "3 attempts"), ("cut", "a body that ends after")],
)
def test_a_server_that_does_not_recover_is_a_named_error(server: Server, fault: Any, named: str) -> None:
    loader = ladd.stream(f"{server.address}/parquet", 7, patience=QUICK)
    server.fault = lambda path, before: fault if "00001-of" in path else None

    with pytest.raises(SourceError, match=named) as caught:
        list(loader)

    assert "data/train-00001-of" in str(caught.value) and server.address in str(caught.value)


def test_a_server_that_hangs_is_a_named_error(server: Server) -> None:
    loader = ladd.stream(f"{server.address}/parquet", 7, patience=Patience(attempts=2, timeout=0.2, pause=0))
    server.fault = lambda path, before: "hang" if "data/" in path else None

    with pytest.raises(SourceError, match=r"2 attempts.*time"):
        list(loader)


def test_leaving_a_loop_does_not_wait_for_a_server_that_hangs(server: Server, many: Path) -> None:
    hung = threading.Event()
    loader = ladd.stream(f"{server.address}/parquet", 4, patience=Patience(timeout=3600))
    first = pq.ParquetFile(sorted((many / "parquet" / "data").iterdir())[0]).metadata.num_rows

    def fault(path: str, before: int) -> Any:
        if "00001-of" not in path:
            return None
        hung.set()
        return "hang"

    server.fault = fault
    for number, _ in enumerate(loader, 1):
        if number == first // 4:  # the last batch that needs no other shard; the next one is being made
            assert hung.wait(60)
            break

    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("ladd-pre", "ladd-read"))]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_answers_are_not_asked_for_again(server: Server, status: int) -> None:
    loader = ladd.stream(f"{server.address}/parquet", 7, patience=QUICK)
    server.fault = lambda path, before: status if "00001-of" in path else None

    with pytest.raises(SourceError, match=str(status)):
        list(loader)

    assert max(count for path, count in server.asked.items() if "00001-of" in path) == 1


# Faults of data


def damage(many: Path, edition: str, target: Path, change: Any) -> Path:
    """Return a copy whose second shard's bytes went through `change`."""
    path = Path(shutil.copytree(many / edition, target))
    shard = sorted((path / "data").iterdir())[1]
    shard.write_bytes(change(bytearray(shard.read_bytes())))
    return path


def flip(at: int | bytes) -> Any:
    def change(data: bytearray) -> bytearray:
        data[at if isinstance(at, int) else data.index(at) + len(at) + 2000] ^= 1
        return data

    return change


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize(("change", "named"), [(flip(6000), "found"), (lambda data: data[:-100], "bytes")])
def test_damaged_shards_are_named(
    many: Path, edition: Edition, far: bool, change: Any, named: str, tmp_path: Path
) -> None:
    path = damage(many, edition, tmp_path / "set", change)

    with serve(tmp_path) as server, pytest.raises(ladd.DatasetError, match="LADD-") as caught:
        list(ladd.stream(f"{server.address}/set" if far else path, 7, patience=QUICK))

    assert caught.value.problems[0].file.startswith("data/train-00001-of") and named in str(caught.value)


def test_a_flipped_pixel_names_the_record(many: Path, tmp_path: Path) -> None:
    names = [ladd.load(many / "parquet")[row].id for row in range(COUNT)]
    path = damage(many, "parquet", tmp_path / "set", flip(b"IDAT"))

    with pytest.raises(ladd.DatasetError, match=r"crc32 .* whose header states") as caught:
        list(ladd.stream(path, 7))

    problem = caught.value.problems[0]
    assert problem.row == 0 and problem.id == names[10], problem


def test_no_flipped_byte_of_a_parquet_shard_becomes_a_wrong_tensor(many: Path, tmp_path: Path) -> None:
    right = expected(many)
    path = Path(shutil.copytree(many / "parquet", tmp_path / "set"))
    shard = min((path / "data").iterdir())
    data = shard.read_bytes()
    places = [*range(0, len(data), 997), *range(len(data) - 600, len(data), 17)]
    caught = 0
    for place in places:
        harmed = bytearray(data)
        harmed[place] ^= 0xFF
        shard.write_bytes(harmed)
        try:
            assert contents(ladd.stream(path, 15)) == right, place
        except ladd.DatasetError:
            caught += 1

    assert caught > len(places) / 2


def test_shards_can_be_compared_with_their_sha256_too(many: Path, tmp_path: Path) -> None:
    path = damage(many, "parquet", tmp_path / "set", flip(-3000))

    with pytest.raises(ladd.DatasetError, match="sha256"):
        list(ladd.stream(path, 7, verify="shards"))
    with pytest.raises(ladd.UsageError, match="Known: pages, shards"):
        ladd.stream(path, 7, verify="never")  # type: ignore[arg-type]


def test_a_file_that_changes_between_epochs_is_verified_again(many: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(many / "parquet", tmp_path / "set"))
    loader: StreamingLoader = ladd.stream(path, 7)
    list(loader)
    shard = min((path / "data").iterdir())
    shard.write_bytes(flip(6000)(bytearray(shard.read_bytes())))

    with pytest.raises(ladd.DatasetError, match="crc32"):
        list(loader)


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_shard_that_is_harmed_while_it_is_streamed_is_a_named_error(many: Path, tmp_path: Path, harm: str) -> None:
    path = Path(shutil.copytree(many / "parquet", tmp_path / "set"))
    batches = iter(ladd.stream(path, 2))
    next(batches)
    for shard in (path / "data").iterdir():
        if harm == "cut":
            os.truncate(shard, 20)
        else:
            shard.unlink()

    with pytest.raises(ladd.LaddError, match=r"data/train-0000\d-of") as caught:
        list(batches)

    assert isinstance(caught.value, ladd.DatasetError | SourceError)


def test_the_dataset_streams_too(many: Path) -> None:
    dataset: Dataset = ladd.load(many / "parquet")

    loader = dataset.loader(7, placement="streaming")

    assert isinstance(loader, StreamingLoader) and loader.placement.name == "streaming"
    assert contents(loader) == expected(many)


def test_a_folder_gives_its_metadata_whole_and_none_for_what_is_not_there(unlabelled: Path) -> None:
    source = open_source(unlabelled, QUICK)

    assert source.read_all("meta/ladd.json") == (unlabelled / "meta" / "ladd.json").read_bytes()
    assert source.read_all("meta/none.json") is None
