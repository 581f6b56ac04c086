"""Down the ladder from a float32 parent: fewer bytes, the error measured, the parent named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import make_distilled, make_labeler
from torch import device

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.ledger import count_ledger
from ladd_data.manifest import Coding
from ladd_data.reencode import reencode_dataset
from ladd_data.shards.folder import open_folder

LADDER = {name: coding if name != "topk" else coding.model_copy(update={"k": 1}) for name, coding in ENCODINGS.items()}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images labelled in float32 with logz."""
    home = tmp_path_factory.mktemp("ladder")
    convert(prepare(make_distilled(), "ladder"), home / "set")
    labeler = load_labeler(make_labeler(home / "labeler.safetensors"))
    plan = LabelPlan(labeler, ladd.grid(5, "5/8"), ENCODINGS["float32"], device("cpu"))
    label_dataset(ladd.load(home / "set"), plan, home / "parent")
    return home / "parent"


def dense(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    dataset = ladd.load(path)
    return np.stack([np.asarray(dataset[index].dense_labels, np.float64) for index in range(len(dataset))])


@pytest.mark.parametrize("name", LADDER)
def test_every_rung_is_valid_and_states_its_error_against_the_parent(tmp_path: Path, parent: Path, name: str) -> None:
    manifest = reencode_dataset(ladd.load(parent), LADDER[name], tmp_path / "out")

    assert ladd.validate(tmp_path / "out").problems == ()
    old, labels = ladd.load(parent).manifest, manifest.labels
    assert labels is not None and old.labels is not None
    assert labels.parent == old.labels.digest and labels.coding == LADDER[name]
    assert manifest.images == old.images
    tv = np.abs(dense(parent) - dense(tmp_path / "out")).sum(-1) / 2
    assert labels.certificate.mean_tv == pytest.approx(tv.mean(), abs=1e-6)
    assert labels.certificate.max_tv == pytest.approx(tv.max(), abs=1e-6)


def test_each_rung_takes_fewer_bytes(tmp_path: Path, parent: Path) -> None:
    sizes = []
    for name in ("float32", "float16", "q8", "q4"):
        coding = LADDER[name].model_copy(update={"logz": False})
        reencode_dataset(ladd.load(parent), coding, tmp_path / name)
        sizes.append(count_ledger(open_folder(tmp_path / name)).raw.dense_labels)

    assert sizes == [6 * 25 * size for size in (12, 6, 5, 4)]


def test_labeling_in_an_encoding_equals_labeling_in_float32_and_re_encoding(tmp_path: Path, parent: Path) -> None:
    labeler = load_labeler(make_labeler(tmp_path / "labeler.safetensors"))
    plan = LabelPlan(labeler, ladd.grid(5, "5/8"), LADDER["float16"], device("cpu"))
    label_dataset(ladd.load(parent), plan, tmp_path / "straight")

    reencode_dataset(ladd.load(parent), LADDER["float16"], tmp_path / "ladder")

    assert np.abs(dense(tmp_path / "straight") - dense(tmp_path / "ladder")).max() < 1e-3


def test_a_parent_that_is_not_float32_is_refused(tmp_path: Path, labelled: Path, unlabelled: Path) -> None:
    with pytest.raises(ladd.UsageError, match="stored as float16"):
        reencode_dataset(ladd.load(labelled), LADDER["q8"], tmp_path / "out")
    with pytest.raises(ladd.UsageError, match="ladd label"):
        reencode_dataset(ladd.load(unlabelled), LADDER["q8"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_probabilities_can_go_down_the_ladder_but_not_to_logits(tmp_path: Path, paper: Path) -> None:
    with pytest.raises(ladd.UsageError, match="--no-logz"):
        reencode_dataset(ladd.load(paper), Coding(encoding="q8", logz=True), tmp_path / "out")

    manifest = reencode_dataset(ladd.load(paper), Coding(encoding="q8"), tmp_path / "out")

    assert manifest.labels is not None and manifest.labels.certificate.mean_kl < 1e-4
    assert ladd.validate(tmp_path / "out").valid


def test_every_loader_batch_decodes_the_compact_encodings(tmp_path: Path, parent: Path) -> None:
    for name in ("q4", "topk"):
        reencode_dataset(ladd.load(parent), LADDER[name], tmp_path / name)
        dataset = ladd.load(tmp_path / name)
        for batch in dataset.loader(4, shuffle=True):
            assert batch.dense is not None and batch.dense.shape[1:] == (25, 3)
            for row, index in enumerate(batch.index.tolist()):
                assert np.allclose(batch.dense[row], np.asarray(dataset[index].dense_labels), atol=1e-7)
