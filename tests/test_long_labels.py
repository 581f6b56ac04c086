"""Long rows of labels, and images that come early: put into batches page by page, wherever pages end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_distilled

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.loaders.reading import blocks
from ladd_data.loaders.streaming import draft
from ladd_data.manifest import Coding
from ladd_data.png import PngKind
from ladd_data.shards import parquet, plan
from ladd_data.shards.limits import read_groups, walk_pages
from ladd_data.views.geometry import grid

COUNT, ROWS = 48, 20


@pytest.fixture(autouse=True)
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """All dense labels are long: what holds for a thousand classes is seen with three."""
    monkeypatch.setattr(blocks, "LONG_BYTES", 1)


def make(home: Path, labeler: Path, coding: str, png: PngKind = "stored") -> Path:
    """Label 48 PNGs, in row groups of 20, each column in several pages that end anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROW_GROUP_BYTES", ROWS * (32 * 97 + 64 + 25 * (3 * 2 + 4)) + 100)
        patch.setattr(parquet, "_CHUNKS", {"min_chunk_size": 128, "max_chunk_size": 512, "norm_level": 0})
        convert(prepare(make_distilled(COUNT), "set", png=png), home / "plain")
        stored = Coding(encoding="topk", logz=True, k=2) if coding == "topk" else ENCODINGS[coding]
        how = LabelPlan(load_labeler(labeler), grid(5, "5/8"), stored, torch.device("cpu"))
        label_dataset(ladd.load(home / "plain"), how, home / "set")
    return home / "set"


def contents(loader: Any) -> dict[int, tuple[bytes, int, bytes]]:
    """Return what a pass yields of each record, which is the same wherever it is repeated."""
    found: dict[int, tuple[bytes, int, bytes]] = {}
    for batch in loader:
        for row, number in enumerate(batch.index.tolist()):
            one = batch.image[row].numpy().tobytes(), int(batch.label[row]), batch.dense[row].numpy().tobytes()
            assert found.setdefault(number, one) == one
    return found


@pytest.mark.parametrize(
    ("coding", "png", "lands"),
    [
        *((coding, "stored", True) for coding in sorted(ENCODINGS)),
        ("float16", "small", True),
        ("float16", "stored", False),
    ],
)
def test_long_labels_are_those_of_the_dataset(
    coding: str, png: PngKind, lands: bool, labeler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether images land where they belong, are decoded, or copied: none shares memory with labels that come along."""
    folder = make(tmp_path, labeler, coding, png)
    expected = contents(ladd.load(folder).loader(7, placement="resident"))
    if not lands:
        monkeypatch.setattr(draft, "find_form", lambda shape: None)

    for shuffle in (False, True):
        for batch_size in (3, 17, 64):
            loader = ladd.stream(folder, batch_size, shuffle=shuffle, last="wrap")
            assert contents(loader) == expected
            assert not any(name.startswith("block dense_") for name in loader._buffers)
    ranks = [contents(ladd.stream(folder, 4, shuffle=True, rank=rank, world=3, last="wrap")) for rank in range(3)]
    assert {**ranks[0], **ranks[1], **ranks[2]} == expected


def test_no_flipped_byte_of_long_labels_or_of_a_header_becomes_a_wrong_tensor(labeler: Path, tmp_path: Path) -> None:
    folder = make(tmp_path, labeler, "float16")
    expected = contents(ladd.load(folder).loader(7, placement="resident"))
    shard = min((folder / "data").iterdir())
    data = shard.read_bytes()
    chunk = next(one for one in read_groups(shard)[1].chunks if one.path.startswith("dense_log_probs"))
    pages = list(walk_pages("", lambda at, size: data[at : at + size], chunk, len(data)))
    assert len(pages) > 2
    images = read_groups(shard)[1].chunks[0]
    assert images.path == "image.bytes"
    caught = 0
    places = [(place, 0xFF) for place in range(chunk.start, chunk.start + chunk.stored, 37)]
    places += [(place, 1 << bit) for place in range(images.start, images.start + 40) for bit in (1, 5, 6)]
    for place, bits in places:
        harmed = bytearray(data)
        harmed[place] ^= bits
        shard.write_bytes(harmed)
        try:
            assert contents(ladd.stream(folder, 15, shuffle=True)) == expected, place
        except ladd.DatasetError as error:
            assert "column dense_log_probs" in str(error) or place < images.start + 40, error
            caught += 1

    assert caught > 30


def test_images_that_come_early_wait_in_little_memory(labeler: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make(tmp_path, labeler, "float16"), tmp_path / "copy"))
    expected = contents(ladd.load(folder).loader(7, placement="resident"))
    loader = ladd.stream(folder, 24, shuffle=True)

    for epoch in range(4):
        loader.set_epoch(epoch)
        assert contents(loader) == expected
    early = loader._buffers["early image"]
    assert {len(memory) for memory, _ in early._kept} == {3}  # an eighth of a batch
    assert np.prod(early._kept[0][0].shape[1:]) >= 32 * 97
