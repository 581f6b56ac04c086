"""TinyViT's saved logits are kept, under views that nobody can cut again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fkd_runs import MEAN, STD
from ladd_converters.tinyvit import TinyVitConverter
from originals_runs import WNIDS, SavedLogits

import ladd_data as ladd
from ladd_data import Answers, ConvertError, LaddError, Normalization, UsageError
from ladd_data.convert import prepare
from ladd_data.convert_run import convert_run
from ladd_data.manifest import Opaque
from ladd_data.testing import check_converter

UPSTREAM = Path(__file__).parents[3] / "shared" / "upstream" / "tinyvit" / "digits10"
genuine = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"no genuine runs: {UPSTREAM} is absent")
FED = Normalization(mean=MEAN, std=STD)


def said(pictures: Path) -> Answers:
    return Answers(images=pictures, normalization=FED)


def stored(folder: Path) -> Any:
    return ladd.load(folder, labels="tinyvit")


@pytest.mark.parametrize(
    "run", [SavedLogits(), SavedLogits(numbered=True), SavedLogits(zipped=True), SavedLogits(kept=4)]
)
def test_each_picture_has_its_labels_of_every_epoch(tmp_path: Path, run: SavedLogits) -> None:
    pictures, labels = run.write(tmp_path / "source")

    check_converter(TinyVitConverter(), labels, said(pictures), tmp_path)

    dataset = stored(tmp_path / "dataset")
    assert dataset.classes == WNIDS and isinstance(dataset.view_spec, Opaque) and dataset.view_spec.count == 2
    for number in range(len(dataset)):
        for epoch in range(2):
            label = dataset[number].dense_labels[epoch]
            assert int(label.argmax()) == (number + epoch) % 4
            share = 0.5 + number / 64 if run.kept < 4 else (0.5 + number / 64) / (0.5 + number / 64 + 0.1875)
            assert abs(float(label.max()) - share) < 1e-3


def test_no_view_can_be_cut_and_everything_says_so(tmp_path: Path) -> None:
    pictures, labels = SavedLogits().write(tmp_path / "source")
    distilled = TinyVitConverter().read(labels, said(pictures))

    convert_run(prepare(distilled, "x"), tmp_path / "set")

    dataset = stored(tmp_path / "set")
    assert ladd.validate(tmp_path / "set").valid and dataset.manifest.labels.golden == ()
    with pytest.raises(UsageError, match="2 views an image that cannot be cut again: TinyViT keeps only the seed"):
        dataset.views(dataset[0].image, index=[0])
    with pytest.raises(UsageError, match="cannot be cut again"):
        next(iter(dataset.loader(4))).views()
    with pytest.raises(UsageError, match="--teacher: these views cannot be cut again, so no label can be replayed"):
        convert_run(prepare(distilled, "x"), tmp_path / "other", teachers=[None])  # type: ignore[list-item]


def test_labels_of_several_processes_are_put_together(tmp_path: Path) -> None:
    pictures, labels = SavedLogits().write(tmp_path / "source")
    folder = labels / "logits_top2_epoch0"
    keys, values = folder / "rank0-keys.txt", folder / "rank0-values.bin"
    lines, data = keys.read_text().splitlines(True), values.read_bytes()
    keys.write_text("".join(lines[:6]))
    values.write_bytes(data[:72])
    (folder / "rank1-keys.txt").write_text("".join([*lines[6:], lines[0]]))  # the sampler fills up with the first
    (folder / "rank1-values.bin").write_bytes(data[72:] + data[:12])

    distilled = TinyVitConverter().read(labels, said(pictures))

    assert distilled.view_labels is not None and distilled.view_labels.present is None
    assert any("Left out: 1 of logits_top2_epoch0/rank1-values.bin" in note for note in distilled.notes)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("cut short", "found 130 bytes for 12 keys; expected 12 each"),
        ("renamed", "of the top 3 that the folder's name says"),
        ("picture renamed", "found 1 keys of no picture (n01440764_0)"),
        ("picture gone", "found 1 keys of no picture"),
        ("classes", "found class numbers 0 .. 3; expected whole ones, 0 .. 2"),
        ("no values", "cannot be read with its keys"),
        ("picture more", "found keys of all of 12 pictures; there are 13"),
        ("two kinds", "found labels of top 2, top 5"),
    ],
)
def test_labels_that_do_not_belong_to_the_pictures_are_refused(tmp_path: Path, damage: str, words: str) -> None:
    pictures, labels = SavedLogits(numbered=damage == "picture more").write(tmp_path)
    folder, first = labels / "logits_top2_epoch0", pictures / "n01440764/n01440764_0.JPEG"
    values = folder / "rank0-values.bin"
    if damage == "cut short":
        values.write_bytes(values.read_bytes()[:130])
    if damage == "renamed":
        for epoch in range(2):
            (labels / f"logits_top2_epoch{epoch}").rename(labels / f"logits_top3_epoch{epoch}")
    if damage == "picture renamed":
        first.rename(first.with_name("other.JPEG"))
    if damage == "picture gone":
        first.unlink()
    if damage == "classes":
        for number in range(3):
            file = pictures / f"n01491361/n01491361_{number}.JPEG"
            file.rename(pictures / "n01484850" / file.name)
        (pictures / "n01491361").rmdir()
    if damage == "no values":
        values.unlink()
    if damage == "picture more":
        (first.parent / "n01440764_9.JPEG").write_bytes(first.read_bytes())
    if damage == "two kinds":
        (labels / "logits_top2_epoch1").rename(labels / "logits_top5_epoch1")

    with pytest.raises(LaddError) as caught:
        TinyVitConverter().read(labels, said(pictures))

    assert words in str(caught.value), str(caught.value)


def test_a_picture_without_labels_is_missing_not_wrong(tmp_path: Path) -> None:
    pictures, labels = SavedLogits().write(tmp_path)
    first = pictures / "n01440764/n01440764_0.JPEG"
    (first.parent / "n01440764_9.JPEG").write_bytes(first.read_bytes())

    distilled = TinyVitConverter().read(labels, said(pictures))

    assert distilled.view_labels is not None and distilled.view_labels.present is not None
    assert np.flatnonzero(~distilled.view_labels.present.all(1)).tolist() == [3]


def test_a_damaged_zip_file_is_named(tmp_path: Path) -> None:
    pictures, labels = SavedLogits(zipped=True).write(tmp_path)
    (pictures / "n01443537.zip").write_bytes(b"no zip")

    with pytest.raises(ConvertError, match=r"n01443537\.zip: found no zip file that can be read"):
        TinyVitConverter().read(labels, said(pictures))


def test_what_is_missing_is_asked(tmp_path: Path) -> None:
    _, labels = SavedLogits().write(tmp_path)

    assert "as TinyViT names them" in (TinyVitConverter().detect(tmp_path) or "")
    with pytest.raises(UsageError, match="Give --images FOLDER"):
        TinyVitConverter().read(labels, Answers())
    with pytest.raises(UsageError, match="expected the folder that TinyViT saved logits to"):
        TinyVitConverter().read(tmp_path / "pictures", Answers())


@genuine
@pytest.mark.parametrize(
    ("run", "images"), [("teacher_logits_22k", "ImageNet-22k"), ("teacher_logits_1k_mix", "ImageNet/train")]
)
def test_genuine_runs_are_read(tmp_path: Path, run: str, images: str) -> None:
    check_converter(TinyVitConverter(), UPSTREAM / run, said(UPSTREAM / images), tmp_path)

    dataset = stored(tmp_path / "dataset")
    folder = UPSTREAM / run / "logits_top5_epoch1"
    key = (folder / "rank0-keys.txt").read_text().splitlines()[15]
    record = (folder / "rank0-values.bin").read_bytes()[15 * 24 :][:24]
    names = [Path(file).stem for file in sorted(map(str, (UPSTREAM / "ImageNet/train").rglob("*.JPEG")))]
    if run.endswith("22k"):
        names = (UPSTREAM / images / "in22k_image_names.txt").read_text().split()
    number = names.index(key) if key in names else int(key)
    label = dataset[number].dense_labels[1].numpy()
    ids, probs = np.frombuffer(record[4:14], "<i2"), np.frombuffer(record[14:], "<f2")
    np.testing.assert_allclose(label[ids], probs.astype(np.float32), atol=5e-4)
