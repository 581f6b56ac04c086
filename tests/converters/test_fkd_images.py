"""FKD's own label files become label sets whose views are the teacher's, bit by bit; others are refused."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fkd_runs import MEAN, STD, genuine_teacher, make_teacher
from ladd_converters.fkd import FkdConverter
from originals_runs import FkdImages

import ladd_data as ladd
from ladd_data import Answers, Classes, ConvertError, LaddError, Normalization, UsageError
from ladd_data.convert import prepare
from ladd_data.convert_run import convert_run
from ladd_data.labeling.labeler import LabelerDescription, LoadedLabeler
from ladd_data.manifest import Boxes, Network
from ladd_data.testing import check_converter

UPSTREAM = Path(__file__).parents[3] / "shared" / "upstream" / "fkd" / "digits10"
genuine = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"no genuine runs: {UPSTREAM} is absent")
FED = Normalization(mean=MEAN, std=STD)


def said(pictures: Path, **more: Any) -> Answers:
    return Answers(images=pictures, normalization=FED, **{"view_size": 24, "pillow": 13, **more})


def differences(folder: Path, network: torch.nn.Module, kept: int) -> float:
    """Return how far the stored probabilities of the classes kept are from what a network says of the views."""
    worst = 0.0
    for part in ladd.load(folder, labels="fkd").loader(3, shuffle=True, seed=1):
        views = part.views()
        with torch.no_grad():
            probs = torch.softmax(network(views.pixels.flatten(0, 1)), 1).reshape(views.dense.shape)
        ids = views.dense.topk(kept, -1).indices
        worst = max(worst, float((probs.gather(-1, ids) - views.dense.gather(-1, ids)).abs().max()))
    return worst


@pytest.mark.parametrize(
    "run", [FkdImages(), FkdImages(half=True), FkdImages("smoothing"), FkdImages(sizes=((50, 50),) * 3)]
)
def test_labels_replay(tmp_path: Path, run: FkdImages) -> None:
    pictures, labels = run.write(tmp_path / "source")

    manifest = check_converter(FkdConverter(), labels, said(pictures), tmp_path)

    stated = ladd.load(tmp_path / "dataset", labels="fkd").manifest.labels
    assert stated is not None and stated.views == Boxes(count=4, flip=True, size=24, resample="pillow13-bicubic")
    one_size = len(set(run.sizes)) == 1
    assert (manifest.images.encoding, manifest.images.height) == (("jpeg", 50) if one_size else ("png", 56))
    kept = run.kept if run.kind == "marginal" else 1
    assert differences(tmp_path / "dataset", make_teacher(4), kept) < (1e-3 if run.half else 1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_hard_labels_are_whole_probabilities(tmp_path: Path, half: bool) -> None:
    pictures, labels = FkdImages("hard", half=half).write(tmp_path / "source")

    check_converter(FkdConverter(), labels, said(pictures), tmp_path)

    dataset = ladd.load(tmp_path / "dataset", labels="fkd")
    for part in dataset.loader(3):
        views = part.views()
        with torch.no_grad():
            answers = make_teacher(4)(views.pixels.flatten(0, 1)).argmax(1)
        assert (
            torch.equal(views.dense.argmax(-1).flatten(), answers) and float(views.dense.max(-1).values.min()) > 0.999
        )


def test_what_is_left_goes_evenly_to_the_other_classes(tmp_path: Path) -> None:
    pictures, labels = FkdImages(kept=2).write(tmp_path)
    content = torch.load(next(labels.rglob("n01440764_0.tar")), weights_only=False)

    found = FkdConverter().read(labels, said(pictures)).view_labels

    ids, kept = content[2][0, 0].astype(int), content[2][0, 1]
    wanted = np.full(4, (1 - kept.sum()) / 2)
    wanted[ids] = kept
    assert found is not None
    np.testing.assert_allclose(found.values[0, 0], wanted, atol=1e-6)


def test_pictures_of_several_sizes_keep_every_pixel(tmp_path: Path) -> None:
    from PIL import Image

    pictures, labels = FkdImages().write(tmp_path / "source")

    check_converter(FkdConverter(), labels, said(pictures), tmp_path)

    first = ladd.load(tmp_path / "dataset").arrays.images[0]
    picture = np.asarray(Image.open(pictures / "train/n01440764/n01440764_0.JPEG")).transpose(2, 0, 1)
    assert np.array_equal(first[:, :56, :40], picture)
    assert first.shape == (3, 56, 90) and not first[:, :, 40:].any()


def as_labeler(seed: int) -> LoadedLabeler:
    described = Network(name="module:teacher", classes=4, channels=3, size=24)
    names = Classes(names=("a", "b", "c", "d"))
    about = LabelerDescription(network=described, classes=names, normalization=FED, epochs_done=0)
    return LoadedLabeler(make_teacher(4, seed), about, "0" * 64)


@pytest.mark.parametrize("run", [FkdImages(), FkdImages("hard"), FkdImages("smoothing", half=True)])
def test_the_teacher_confirms_what_it_said(tmp_path: Path, run: FkdImages) -> None:
    pictures, labels = run.write(tmp_path / "source")
    distilled = FkdConverter().read(labels, said(pictures))

    convert_run(prepare(distilled, "x"), tmp_path / "set", teachers=[as_labeler(3)])

    with pytest.raises(ConvertError, match="the teacher's answers differ"):
        convert_run(prepare(distilled, "x"), tmp_path / "other", teachers=[as_labeler(9)])


@pytest.mark.parametrize("wrong", [{"view_size": 23}, {"pillow": 12}])
def test_the_teacher_refuses_another_size_and_order(tmp_path: Path, wrong: dict[str, int]) -> None:
    pictures, labels = FkdImages(sizes=((40, 200), (60, 190))).write(tmp_path / "source")
    distilled = FkdConverter().read(labels, said(pictures, **wrong))

    with pytest.raises(ConvertError, match=r"the teacher's answers differ .* another --pillow or --view-size"):
        convert_run(prepare(distilled, "x"), tmp_path / "set", teachers=[as_labeler(3)])


def test_what_no_file_says_is_asked(tmp_path: Path) -> None:
    pictures, labels = FkdImages(sizes=((40, 200), (60, 190))).write(tmp_path)

    assert "<class>/<picture>.tar in train" in (FkdConverter().detect(labels) or "")
    assert [ask.option for ask in FkdConverter().describe(labels).asks] == ["--images", "--dataset", "--view-size"]
    with pytest.raises(UsageError, match="Give --images FOLDER"):
        FkdConverter().read(labels, Answers())
    with pytest.raises(UsageError, match="Give --view-size 224"):
        FkdConverter().read(labels, said(pictures, view_size=None))
    with pytest.raises(UsageError, match=r"so tall that Pillow 13 .* Give --pillow 12"):
        FkdConverter().read(labels, said(pictures, pillow=None))
    with pytest.raises(UsageError, match="--seed does not go with FKD's own label files"):
        FkdConverter().read(labels, said(pictures, seed=42))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("picture gone", "found 1 label files of no picture (n01440764/n01440764_1.tar)"),
        ("picture renamed", "found no label file of 1 of 12 pictures"),
        ("label gone", "Files were renamed, or the run was broken off"),
        ("two names", "has the label file of"),
        ("classes", "found class numbers 3 .. "),
        ("size", "The labels were made from pictures of another size"),
        ("sum", "that sum to"),
        ("fields", "expected a list of three arrays, as FKD writes"),
        ("shape", "expected [crops, 4], [crops] and one label a crop"),
        ("other run", "expected one run's files"),
        ("picture damaged", "found no picture that can be decoded"),
    ],
)
def test_labels_that_do_not_belong_to_the_pictures_are_refused(tmp_path: Path, damage: str, words: str) -> None:
    pictures, labels = FkdImages().write(tmp_path)
    picture = pictures / "train/n01440764/n01440764_1.JPEG"
    label = next(labels.rglob("n01440764_1.tar"))
    content = torch.load(label, weights_only=False)
    if damage == "picture gone":
        picture.unlink()
    if damage == "picture renamed":
        picture.rename(picture.with_name("other.JPEG"))
    if damage == "label gone":
        label.unlink()
    if damage == "two names":
        shutil.copy(picture, picture.with_name("n01440764_1.a.JPEG"))
    if damage == "picture damaged":
        picture.write_bytes(picture.read_bytes()[:300])
    changed = {
        "classes": [content[0], content[1], content[2] + 3],
        "size": [content[0] * np.float32(0.83), content[1], content[2]],
        "sum": [content[0], content[1], content[2] * np.array([[1], [3]], np.float32)],
        "fields": content[:2],
        "shape": [content[0][:2], content[1], content[2]],
        "other run": [content[0], content[1], content[2][:, :, :2]],
    }
    if damage in changed:
        torch.save(changed[damage], label)

    with pytest.raises(LaddError) as caught:
        FkdConverter().read(labels, said(pictures))

    assert words in str(caught.value), str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_nothing_in_a_label_file_is_run(tmp_path: Path, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures, labels = FkdImages().write(tmp_path)
    label = next(labels.rglob("n01440764_1.tar"))
    content = torch.load(label, weights_only=False)
    content[place] = Evil()
    torch.save(content, label)

    with pytest.raises(ConvertError, match=r'found a pickle that wants ".*mkdir".*Nothing in it was run'):
        FkdConverter().read(labels, said(pictures))

    assert not (tmp_path / "executed").exists()


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    pictures, labels = FkdImages().write(tmp_path)
    label = next(labels.rglob("n01440764_1.tar"))
    content = torch.load(label, weights_only=False)
    torch.save([content[0], content[1], np.array([[1, "x"]], object)], label)

    with pytest.raises(ConvertError, match=r"n01440764_1\.tar"):
        FkdConverter().read(labels, said(pictures))


def test_arrays_are_taken_in_fkds_own_files_only(tmp_path: Path) -> None:
    from ladd_converters.torch_files import read_torch

    _, labels = FkdImages().write(tmp_path)

    with pytest.raises(ConvertError, match="FKD's label files hold such, which ladd convert fkd reads"):
        read_torch(next(labels.rglob("*.tar")))


@genuine
@pytest.mark.parametrize(
    ("run", "kept", "tolerance"),
    [
        ("FKD_soft_label_ms_k5", 5, 1e-5),
        ("FKD_soft_label_ms_k5_fp16", 5, 5e-4),
        ("FKD_soft_label_smoothing_1seg", 1, 1e-5),
        ("FKD_soft_label_hard", 1, None),
    ],
)
def test_genuine_runs_replay(tmp_path: Path, run: str, kept: int, tolerance: float | None) -> None:
    answers = replace(said(UPSTREAM / "imagenet"), view_size=112)

    check_converter(FkdConverter(), UPSTREAM / run, answers, tmp_path)

    teacher = genuine_teacher(UPSTREAM / "REPLAY_teacher_a.pt")
    if tolerance is not None:
        assert differences(tmp_path / "dataset", teacher, kept) < tolerance
        return
    for part in ladd.load(tmp_path / "dataset", labels="fkd").loader(8):
        views = part.views()
        with torch.no_grad():
            assert torch.equal(teacher(views.pixels.flatten(0, 1)).argmax(1), views.dense.flatten(0, 1).argmax(1))
