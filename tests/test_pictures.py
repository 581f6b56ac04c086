"""Folders of picture files become datasets: JPEG byte for byte, others pixel for pixel, what cannot be is refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from damaging import call
from making import CLASSES, NORMALIZATION, label, make_distilled, make_jpegs, make_pictures
from PIL import Image
from plainly import run_plainly
from test_jpeg import with_segment
from test_picture_heads import save
from test_testing import SAID

import ladd_data as ladd
from ladd_data import ConvertError, UsageError
from ladd_data.convert import _records, convert, prepare
from ladd_data.export import export_dataset
from ladd_data.ledger import count_ledger
from ladd_data.pictures import open_pictures
from ladd_data.shards.layout import Records
from ladd_data.source_files import SourceFiles
from ladd_data.testing import check_converter


def test_jpeg_files_are_written_byte_for_byte_and_nothing_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled = make_pictures(tmp_path / "files")
    with monkeypatch.context() as patch:
        patch.setattr("ladd_data.card.write.draw_samples", lambda folder: None)  # decodes a dozen, for the card
        patch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))
        patch.setattr("ladd_data.card.write.draw_samples", lambda folder: None)  # the card shows a few of them
        manifest = convert(prepare(distilled, "x"), tmp_path / "set")

    written = [image for _, _, records in ladd.load(tmp_path / "set").folder.records() for image in records.images]
    assert written == [(tmp_path / "files" / f"{number}.jpg").read_bytes() for number in range(6)]
    assert (manifest.images.encoding, manifest.images.png, manifest.images.quantization.mode) == ("jpeg", None, "none")
    assert manifest.images.quantization.error.max_abs == 0
    lines = [f"{n:06d} {hashlib.sha256(data).hexdigest()}\n" for n, data in enumerate(written)]
    assert manifest.images.digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert ladd.validate(tmp_path / "set").problems == ()


def test_model_input_of_a_jpeg_dataset_is_that_of_a_natural_picture(jpegs: Path) -> None:
    dataset = ladd.load(jpegs)

    image = torch.from_numpy(dataset.arrays.images)
    mean, std = (torch.tensor(values)[:, None, None] for values in (NORMALIZATION.mean, NORMALIZATION.std))
    assert torch.allclose(dataset.model_input(image), (image / 255 - mean) / std, atol=1e-5)
    assert torch.equal(dataset[3].image, image[3])


def test_png_files_are_written_pixel_for_pixel(tmp_path: Path) -> None:
    files = [save(tmp_path / "files" / f"{number}.png", "RGB") for number in range(6)]
    distilled = replace(make_distilled(), images=open_pictures(files), files=(tmp_path / "files",))

    manifest = convert(prepare(distilled, "x"), tmp_path / "set")

    assert (manifest.images.encoding, manifest.images.png) == ("png", "stored")
    images = ladd.load(tmp_path / "set").arrays.images
    for number, file in enumerate(files):
        with Image.open(file) as picture:
            assert np.array_equal(images[number], np.asarray(picture).transpose(2, 0, 1))
    assert ladd.validate(tmp_path / "set").problems == ()


def test_many_files_come_in_order_through_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make_jpegs(tmp_path / "files", count=60, size=8)
    distilled = replace(make_distilled(60), images=open_pictures(files), files=(tmp_path / "files",))
    monkeypatch.setattr("ladd_data.convert.FILES_AT_ONCE", 7)

    convert(prepare(distilled, "x"), tmp_path / "set")

    images = [image for _, _, records in ladd.load(tmp_path / "set").folder.records() for image in records.images]
    assert images == [file.read_bytes() for file in files]


def test_each_file_is_read_once_and_few_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Counting(make_jpegs(tmp_path / "files", count=90, size=8))
    distilled = replace(make_distilled(90), images=pictures, files=(tmp_path / "files",))
    monkeypatch.setattr("ladd_data.convert.FILES_AT_ONCE", 5)
    seen: list[int] = []

    def note(*given: Any) -> Records:
        seen.append(pictures.reads)
        return _records(*given)

    monkeypatch.setattr("ladd_data.convert._records", note)

    convert(prepare(distilled, "x"), tmp_path / "set")

    assert pictures.reads == 90
    assert all(reads <= 5 * number + 5 * 5 for number, reads in enumerate(seen))


class Counting:
    """Pictures that count how often they are read."""

    def __init__(self, files: list[Path]) -> None:
        self.inner, self.reads, self.lock = open_pictures(files), 0, threading.Lock()
        self.shape, self.encoding, self.file, self.decode = (
            self.inner.shape,
            self.inner.encoding,
            self.inner.file,
            self.inner.decode,
        )

    def read(self, number: int) -> bytes:
        with self.lock:
            self.reads += 1
        return self.inner.read(number)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-9], r"4\.jpg: found a JPEG that breaks off"),
        (lambda data: data + b"more", r"4\.jpg: found a JPEG with 4 bytes behind its end"),
        (lambda data: with_segment(with_segment(data, 0xFE, bytes(60000)), 0xFE, bytes(60000)), "more than the"),
    ],
)
def test_a_file_that_breaks_off_is_named_and_nothing_is_left(
    tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    distilled = make_pictures(tmp_path / "files")
    file = tmp_path / "files" / "4.jpg"
    file.write_bytes(change(file.read_bytes()))

    with pytest.raises(ConvertError, match=words):
        convert(prepare(distilled, "x"), tmp_path / "out" / "set")
    assert list((tmp_path / "out").iterdir()) == []


def test_files_read_together_are_those_read_one_by_one(tmp_path: Path) -> None:
    pictures = open_pictures(make_jpegs(tmp_path, count=9))
    pictures._bytes_each = 1  # so that the memory first taken is too small

    joined = pictures.read_joined(range(2, 9))

    files = [pictures.read(number) for number in range(2, 9)]
    assert list(joined) == files and [bytes(view) for view in joined.views()] == files
    assert list(joined[1:4]) == files[1:4] and len(joined[4:2]) == 0
    assert (joined[-1], joined[1:4][1], joined[1:4].nbytes) == (files[-1], files[2], sum(map(len, files[1:4])))
    with pytest.raises(IndexError):
        joined[7]


@pytest.mark.parametrize("ruin", [Path.unlink, lambda file: file.write_bytes(b""), lambda file: file.write_bytes(b"x")])
def test_a_file_that_goes_while_others_are_read_is_named(tmp_path: Path, ruin: Callable[[Path], object]) -> None:
    distilled = make_pictures(tmp_path / "files")
    ruin(tmp_path / "files" / "4.jpg")

    with pytest.raises(ConvertError, match=r"4\.jpg: (No such file|found a JPEG that breaks off)"):
        convert(prepare(distilled, "x"), tmp_path / "set")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pixels": "clip"}, "nothing to quantise"),
        ({"pixels": "range"}, "nothing to quantise"),
        ({"png": "small"}, "kept as they are"),
    ],
)
def test_ways_of_storing_are_refused_for_files_that_are_kept(tmp_path: Path, options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        prepare(make_pictures(tmp_path), "x", **options)


def test_labels_channels_and_a_normalization_are_checked_as_for_tensors(tmp_path: Path) -> None:
    good = make_pictures(tmp_path)

    with pytest.raises(ConvertError, match="found 6 images and 5 labels"):
        prepare(replace(good, labels=good.labels[1:]), "x")
    with pytest.raises(UsageError, match="--normalization"):
        prepare(replace(good, normalization=None), "x")
    with pytest.raises(ConvertError, match=r"found 1 channel\(s\); expected 3"):
        prepare(make_pictures(tmp_path / "grey", mode="L"), "x")


# The record of sources


def test_a_folder_is_one_entry_that_sha256sum_can_check(tmp_path: Path) -> None:
    make_jpegs(tmp_path / "run" / "b", count=3)
    make_jpegs(tmp_path / "run" / "a", count=3)
    (tmp_path / "run" / "notes.txt").write_text("not read")
    files = sorted((tmp_path / "run").rglob("*.jpg"), reverse=True)
    distilled = replace(make_distilled(), images=open_pictures(files), files=(tmp_path / "run",))

    entry = convert(prepare(distilled, "x"), tmp_path / "set").distillation.files[0]

    names = sorted(str(file.relative_to(tmp_path / "run")) for file in files)
    lines = [f"{hashlib.sha256((tmp_path / 'run' / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    assert entry.path == "run/"
    assert entry.bytes == sum(file.stat().st_size for file in files)
    assert entry.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_folder_of_which_nothing_was_counted_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").write_bytes(b"1")
    (tmp_path / "run" / "\udcff").write_bytes(b"2")
    sources = SourceFiles((tmp_path / "run", tmp_path / "run" / "x"))

    folder, file = sources.result()

    assert (folder.path, folder.bytes, file.path, file.bytes) == ("run/", 2, "x", 1)
    assert file.sha256 == hashlib.sha256(b"1").hexdigest()


# Everything after


def test_a_jpeg_dataset_is_labelled_and_its_views_are_those_the_labeler_saw(
    jpegs: Path, labeler: Path, tmp_path: Path
) -> None:
    label(jpegs, labeler, tmp_path / "set", profile="paper")

    dataset = ladd.load(tmp_path / "set")
    labels = dataset.manifest.labels
    assert labels is not None and ladd.validate(tmp_path / "set").problems == ()
    for golden in labels.golden:
        number = dataset.arrays.ids.index(golden.id)
        view = dataset.views(dataset[number].image, [golden.view], normalize=False)
        assert hashlib.sha256(view.numpy().tobytes()).hexdigest() == golden.pixels
    assert (dataset.manifest.images, len(dataset)) == (ladd.load(jpegs).manifest.images, 6)


def test_info_export_and_reencode_work_on_jpeg_files(
    jpegs: Path, labeler: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = label(jpegs, labeler, tmp_path / "set", profile="paper")

    assert call("reencode", source, "--encoding", "q8", "--no-logz", "-o", tmp_path / "q8") == 0
    assert call("export", tmp_path / "q8", "--to", "arrow", "-o", tmp_path / "arrow") == 0
    assert ladd.validate(tmp_path / "arrow").problems == ()
    capsys.readouterr()
    for edition in ("q8", "arrow"):
        assert call("info", tmp_path / edition) == 0
        assert "JPEG files" in capsys.readouterr().out
    assert "byte for byte" in (tmp_path / "q8" / "README.md").read_text()


PLAIN_CODE = """import datasets, numpy
from PIL import Image
for streaming in (False, True):
    train = datasets.load_dataset({path!r}, streaming=streaming)['train']
    record = list(train)[4]
    image = record[{image!r}]
    pixels = numpy.array(image, numpy.uint8)
    print(type(image).__name__, pixels.astype(int).sum(), record[{label!r}])
"""


@pytest.mark.parametrize(
    ("edition", "image", "label", "kind"),
    [
        ("parquet", "image", "label", "JpegImageFile"),
        ("webdataset", "jpg", "cls", "JpegImageFile"),
        ("arrow", "image", "label", "list"),
    ],
)
def test_plain_load_dataset_opens_jpeg_datasets_of_every_edition(
    jpegs: Path, tmp_path: Path, edition: Any, image: str, label: str, kind: str
) -> None:
    export_dataset(ladd.load(jpegs), edition, tmp_path / "set")
    code = PLAIN_CODE.format(path=str(tmp_path / "set"), image=image, label=label)

    expected = f"{kind} {ladd.load(jpegs).arrays.images[4].sum(dtype=int)} 1"
    assert run_plainly(code, tmp_path).splitlines() == [expected] * 2


def test_the_ledger_counts_the_files_and_their_pixels(jpegs: Path, tmp_path: Path) -> None:
    export_dataset(ladd.load(jpegs), "arrow", tmp_path / "set")
    size = sum(len(image) for _, _, records in ladd.load(jpegs).folder.records() for image in records.images)

    stored = {path: count_ledger(ladd.load(path).folder).stored.images for path in (jpegs, tmp_path / "set")}

    assert size < stored[jpegs] < size + 1000
    assert stored[tmp_path / "set"] >= size + 6 * 3 * 32 * 32


class FolderConverter:
    """Reads a folder of JPEG files, for the conformance checks."""

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = "A converter for tests."
    datasets: ClassVar[dict[str, ladd.Preset]] = {}

    def detect(self, path: Path) -> str | None:
        return "JPEG files are there" if (path / "0.jpg").is_file() else None

    def describe(self, path: Path) -> ladd.Description:
        return ladd.Description("JPEG files are there", (path,), ())

    def read(self, path: Path, answers: ladd.Answers) -> ladd.Distilled:
        pictures = ladd.open_pictures(sorted(path.glob("*.jpg")))
        return replace(make_distilled(), images=pictures, files=(path,), asserted=dict(SAID))


def test_the_conformance_checks_take_pictures_and_tell_files_that_are_not_listed(tmp_path: Path) -> None:
    make_jpegs(tmp_path / "run")
    answers = ladd.Answers(classes=CLASSES, normalization=NORMALIZATION)
    converter: Any = FolderConverter()

    assert check_converter(converter, tmp_path / "run", answers, tmp_path).images.encoding == "jpeg"

    read = converter.read
    converter.read = lambda path, given: replace(read(path, given), files=(tmp_path / "run" / "0.jpg",))
    with pytest.raises(AssertionError, match=r"image 1 comes from .*1\.jpg, which is not in files"):
        check_converter(converter, tmp_path / "run", answers, tmp_path / "again")
