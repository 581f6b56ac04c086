"""Relabel runs of LPQLD and EDC, and those of a teacher of ImageNet's 1,000 classes: replayed, or refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fkd_kin import KinRun
from fkd_runs import MEAN, STD
from ladd_converters.fkd import FkdConverter

import ladd_data as ladd
from ladd_data import Answers, Classes, ConvertError, LaddError, Normalization, UsageError
from ladd_data.convert import prepare
from ladd_data.convert_run import convert_run
from ladd_data.labeling.labeler import LabelerDescription, LoadedLabeler
from ladd_data.manifest import Network, Opaque
from ladd_data.testing import check_converter

FED = Normalization(mean=MEAN, std=STD)
CLASSES = Classes(names=("a", "b", "c", "d"))
FIRST_FOUR = Classes(names=("n01440764", "n01443537", "n01484850", "n01491361"))
"""The WordNet ids of ImageNet's classes 0 to 3."""


def said(pictures: Path, classes: Classes = CLASSES) -> Answers:
    return Answers(images=pictures, classes=classes, normalization=FED)


def differences(folder: Path, run: KinRun, outputs: slice = slice(None)) -> float:
    """Return how far stored logits are from what the teachers say of the views, as a loader yields both."""
    dataset = ladd.load(folder, labels="fkd")
    worst, seen = 0.0, 0
    for part in dataset.loader(3, shuffle=True, seed=1, space="logits"):
        views = part.views()
        with torch.no_grad():
            answers = torch.stack([teacher(views.pixels.flatten(0, 1)) for teacher in run.teachers()]).mean(0)[
                :, outputs
            ]
        there = part.present if part.present is not None else torch.ones(views.dense.shape[:2], dtype=torch.bool)
        answers, stored = answers.reshape(views.dense.shape)[there], views.dense[there]
        if run.top is not None:
            kept = stored.topk(run.top, -1).indices
            assert torch.equal(kept[:, 0], answers.argmax(-1))
            answers, stored = answers.gather(1, kept), stored.gather(1, kept)
        worst, seen = max(worst, float((answers - stored).abs().max())), seen + len(stored)
    assert seen > 0
    return worst


@pytest.mark.parametrize(
    ("run", "tolerance"),
    [
        pytest.param(KinRun(top=2), 5e-3, id="lpqld, two of four"),
        pytest.param(KinRun(top=2, half=True, mix="mixup"), 5e-3, id="lpqld, float16, MixUp"),
        pytest.param(KinRun(top=4), 1e-4, id="lpqld, all classes kept"),
        pytest.param(KinRun(half=True), 5e-3, id="lpqld, not quantised"),
        pytest.param(KinRun(top=2, prune=0.5, epochs=6), 5e-3, id="lpqld, pruned"),
        pytest.param(KinRun("edc"), 1e-4, id="edc, CutMix"),
        pytest.param(KinRun("edc", mix="mixup"), 1e-4, id="edc, MixUp"),
        pytest.param(KinRun("edc", mix="none", size=45), 1e-4, id="edc, not mixed"),
        pytest.param(KinRun("sre2l", mix="mixup"), 1e-4, id="sre2l, MixUp"),
    ],
)
def test_labels_replay(tmp_path: Path, run: KinRun, tolerance: float) -> None:
    pictures, labels = run.write(tmp_path / "source")

    check_converter(FkdConverter(), labels, said(pictures), tmp_path)

    assert differences(tmp_path / "dataset", run) < tolerance


def test_views_of_a_pruned_run_in_one_folder_are_counted_by_picture(tmp_path: Path) -> None:
    pictures, labels = KinRun(top=2, prune=0.5, epochs=6).write(tmp_path)

    distilled = FkdConverter().read(labels, said(pictures))

    places = [
        place for places in json.loads((labels / "sampler_indices_batch.json").read_text()).values() for place in places
    ]
    wanted = np.bincount(places, minlength=12)
    assert distilled.view_labels is not None and distilled.view_labels.present is not None
    np.testing.assert_array_equal(distilled.view_labels.present.sum(1), wanted)
    assert any("views are missing" in note for note in distilled.notes)


def test_labels_of_random_augmentation_are_kept_without_views(tmp_path: Path) -> None:
    pictures, labels = KinRun(top=2, rand_augment=True).write(tmp_path / "source")

    check_converter(FkdConverter(), labels, said(pictures), tmp_path)

    dataset = ladd.load(tmp_path / "dataset", labels="fkd")
    assert isinstance(dataset.view_spec, Opaque) and "RandAugment" in dataset.view_spec.reason
    with pytest.raises(UsageError, match="cannot be cut again: the pictures went through RandAugment"):
        next(iter(dataset.loader(2))).views()


def as_labeler(run: KinRun) -> LoadedLabeler:
    described = Network(name="module:teacher", classes=run.outputs, channels=3, size=run.size)
    names = Classes(names=tuple(f"class {number}" for number in range(run.outputs)))
    return LoadedLabeler(
        run.teachers()[0],
        LabelerDescription(network=described, classes=names, normalization=FED, epochs_done=0),
        "0" * 64,
    )


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("outputs", [4, 1000])
def test_the_teacher_confirms_kept_classes_or_refuses(tmp_path: Path, swapped: bool, outputs: int) -> None:
    run = KinRun(top=3 if outputs == 4 else None, outputs=outputs, method="lpqld" if outputs == 4 else "sre2l")
    pictures, labels = run.write(tmp_path / "source")
    if swapped:
        first, last = pictures / "new000/class000_id000.jpg", pictures / "new003/class003_id002.jpg"
        held = first.read_bytes()
        first.write_bytes(last.read_bytes())
        last.write_bytes(held)
    conversion = prepare(FkdConverter().read(labels, said(pictures, CLASSES if outputs == 4 else FIRST_FOUR)), "x")

    if not swapped:
        convert_run(conversion, tmp_path / "set", teachers=[as_labeler(run)])
        return
    with pytest.raises(ConvertError, match="the teacher's answers differ"):
        convert_run(conversion, tmp_path / "set", teachers=[as_labeler(run)])


@pytest.mark.parametrize("method", ["sre2l", "edc"])
@pytest.mark.parametrize("names", [("n01440764", "n01443537", "n01484850", "n01491361"), ("0", "1", "2", "3")])
def test_a_teacher_of_imagenet_keeps_the_outputs_of_the_classes_given(
    tmp_path: Path, method: str, names: tuple[str, ...]
) -> None:
    run = KinRun(method, outputs=1000)  # type: ignore[arg-type]
    pictures, labels = run.write(tmp_path / "source")

    check_converter(FkdConverter(), labels, said(pictures, Classes(names=names)), tmp_path)

    manifest = ladd.load(tmp_path / "dataset").manifest
    assert manifest.distillation.read["fkd_teacher_classes"] == 1000
    assert differences(tmp_path / "dataset", run, slice(4)) < 1e-4


def test_a_teacher_of_imagenet_asks_which_classes_these_are(tmp_path: Path) -> None:
    pictures, labels = KinRun("sre2l", outputs=1000).write(tmp_path)

    with pytest.raises(UsageError, match=r"outputs of 1000 classes; the dataset has 4\. .* --classes with a preset"):
        FkdConverter().read(labels, said(pictures))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("no index", "found batches and no sampler_indices_batch.json"),
        ("index of others", "sampler_indices_batch.json: found something else"),
        ("picture gone", "expected 0 .. 10, the 11 pictures given"),
        ("picture more", "found places of all of 12 pictures; there are 13"),
        ("batch of another", "found 5 rows where sampler_indices_batch.json lists 4 pictures"),
        ("classes", "found class numbers"),
        ("kept", "found other kinds of fields than in the first batch"),
        ("wrapped", "it wrapped at 256"),
    ],
)
def test_damaged_runs_in_one_folder_are_refused(tmp_path: Path, damage: str, words: str) -> None:
    pictures, labels = KinRun(top=2).write(tmp_path)
    index, first = labels / "sampler_indices_batch.json", pictures / "new003/class003_id002.jpg"
    content = json.loads(index.read_text())
    batch = torch.load(labels / "batch_1.tar", weights_only=True)
    if damage == "no index":
        index.unlink()
    if damage == "index of others":
        index.write_text(json.dumps({"0": [1]}))
    if damage == "picture gone":
        first.unlink()
    if damage == "picture more":
        shutil.copy(first, first.with_name("class003_id003.jpg"))
    if damage == "batch of another":
        index.write_text(json.dumps(content | {"1": content["1"][:4]}))
    if damage == "classes":
        torch.save([*batch[:6], batch[6] + 3], labels / "batch_1.tar")
    if damage == "kept":
        torch.save([*batch[:5], batch[5][:, :1].clone(), batch[6][:, :1].clone()], labels / "batch_1.tar")
    if damage == "wrapped":
        many = [item.repeat(60, *[1] * (item.dim() - 1)) if torch.is_tensor(item) else item for item in batch]
        torch.save(many, labels / "batch_1.tar")

    with pytest.raises(LaddError) as caught:
        FkdConverter().read(labels, said(pictures))

    assert words in str(caught.value), str(caught.value)


def test_a_run_in_one_folder_is_recognised_and_takes_no_order(tmp_path: Path) -> None:
    pictures, labels = KinRun(top=2).write(tmp_path)

    assert "batch_0.tar in labels, as LPQLD" in (FkdConverter().detect(labels) or "")
    assert "batches in one folder" in FkdConverter().describe(labels).notes[0]
    with pytest.raises(UsageError, match="--seed: the order is stated by the index file"):
        FkdConverter().read(labels, replace(said(pictures), seed=42))
