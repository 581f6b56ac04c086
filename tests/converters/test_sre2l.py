"""The converter of SRe2L, CDA, SCDD, DELT and LPLD: numbered class folders of JPEG files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ladd_converters.gvbsm import GvbsmConverter
from ladd_converters.sre2l import Sre2lConverter
from making_pictures import (
    ABC,
    HAND,
    SRE2L,
    TEN,
    UPSTREAM,
    files_of,
    genuine,
    picture_bytes,
    refusal,
    write_picture,
    write_run,
)

from ladd_data import Answers, Classes, UsageError, imagenet_indices
from ladd_data.converter import fill_in
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS
from ladd_data.testing import check_converter

CONVERTER = Sre2lConverter()
IMAGENET = NORMALIZATIONS["imagenet"]


# Genuine runs


@genuine
@pytest.mark.parametrize("run", ["sre2l", "sre2l/imagenet10-ipc2", "lpld"])
def test_genuine_runs_convert_from_any_folder_above_them(tmp_path: Path, run: str) -> None:
    answers = Answers(classes=TEN, normalization=IMAGENET)

    manifest = check_converter(CONVERTER, UPSTREAM / run, answers, tmp_path)

    assert (manifest.images.count, manifest.images.height, manifest.images.encoding) == (20, 224, "jpeg")
    assert manifest.distillation.ipc == 2


@genuine
def test_label_files_beside_a_genuine_run_are_noted() -> None:
    distilled = CONVERTER.read(UPSTREAM / "sre2l", Answers(classes=TEN, normalization=IMAGENET))

    assert any("FKD_cutmix_fp16" in note and "ladd convert fkd" in note for note in distilled.notes)


@genuine
def test_a_run_of_ten_classes_is_not_imagenet(tmp_path: Path) -> None:
    why = refusal(CONVERTER, UPSTREAM / "sre2l", Answers(dataset="imagenet-1k"), tmp_path)

    assert "10 of 1000 classes" in why
    assert '(10), "' in why
    assert "--classes" in why


# What is read


def test_pictures_are_kept_byte_for_byte_in_the_order_of_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "rn18_[4K]_x*", ipc=3)

    manifest = check_converter(CONVERTER, run, HAND, tmp_path / "out")
    distilled = CONVERTER.read(run, HAND)

    assert manifest.images.encoding == "jpeg"
    assert distilled.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert distilled.read == {"run": "rn18_[4K]_x*", "class_folders": "places in the class list"}


@pytest.mark.parametrize("suffix", ["jpg", "JPG", "jpeg"])
def test_any_spelling_of_jpg_is_read(tmp_path: Path, suffix: str) -> None:
    run = write_run(tmp_path / "run", f"new{{c:03d}}/class{{c:03d}}_id{{i:03d}}.{suffix}")

    assert CONVERTER.detect(run) is not None
    assert CONVERTER.read(run, HAND).images.shape == (6, 3, 16, 16)


def test_numbers_that_outgrow_their_padding_keep_their_order(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=[998, 999, 1000], ipc=1)
    for i in (99, 999, 1000):
        write_picture(run / f"new999/class999_id{i:03d}.jpg", i)

    distilled = CONVERTER.read(run, HAND)
    files = [file.name for file in files_of(distilled)]

    assert files == [
        "class998_id000.jpg",
        *(f"class999_id{i}.jpg" for i in ("000", "099", "999", "1000")),
        "class1000_id000.jpg",
    ]
    assert distilled.labels.tolist() == [0, 1, 1, 1, 1, 2]


def test_five_digits_of_imagenet_21k_are_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "new{c:05d}/class{c:05d}_id{i:03d}.jpg")

    check_converter(CONVERTER, run, HAND, tmp_path / "out")


@pytest.mark.parametrize("name", ["imagenette", "imagewoof"])
def test_folders_numbered_by_imagenet_find_their_class_in_a_subset(tmp_path: Path, name: str) -> None:
    classes = CLASS_LISTS[name]
    indices = imagenet_indices(classes) or ()
    run = write_run(tmp_path / "run", classes=indices, ipc=1)

    distilled = CONVERTER.read(run, Answers(classes=classes, normalization=IMAGENET))

    assert distilled.labels.tolist() == [indices.index(number) for number in sorted(indices)]
    assert distilled.read["class_folders"] == "imagenet-1k indices"


def test_places_in_a_list_that_is_not_sorted_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=range(10), ipc=1)

    distilled = CONVERTER.read(run, Answers(classes=CLASS_LISTS["imagewoof"], normalization=IMAGENET))

    assert distilled.labels.tolist() == list(range(10))
    assert "not in the order of their WordNet ids" in distilled.notes[0]


def test_imagenet_folders_of_other_classes_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=[0, 217, 482, 491, 497, 566, 569, 571, 574, 702], ipc=1)

    why = refusal(CONVERTER, run, Answers(dataset="imagenette"), tmp_path)

    assert "new702" in why


# What is left out


def test_steps_on_the_way_are_left_out_and_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_picture(run / "new000_it0500/class000_id000.jpg")
    write_picture(run / "new001/class001_id000_iter0100.jpg")
    write_picture(run / "new002/loss1.25_id000.jpg")

    manifest = check_converter(CONVERTER, run, HAND, tmp_path / "out")
    distilled = CONVERTER.read(run, HAND)

    assert manifest.images.count == 6
    assert distilled.method == "LPLD"
    for name in ("new000_it0500", "class001_id000_iter0100.jpg", "loss1.25_id000.jpg"):
        assert name in distilled.notes[0]


def test_other_files_are_left_out_and_said_but_hidden_ones(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in (".DS_Store", "args.txt", "new000/.DS_Store", "new000/._class000_id000.jpg", "new001/Thumbs.db"):
        (run / name).write_bytes(b"nothing of ours")
    write_picture(run / "vis_grid.png")
    write_picture(run / "new002/copy of class002_id000.jpg")

    manifest = check_converter(CONVERTER, run, HAND, tmp_path / "out")
    notes = CONVERTER.read(run, HAND).notes

    assert manifest.images.count == 6
    assert len(notes) == 1
    for name in ("args.txt", "new001/Thumbs.db", "vis_grid.png", "new002/copy of class002_id000.jpg"):
        assert name in notes[0]
    assert "DS_Store" not in notes[0]


def test_fewer_pictures_of_some_classes_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ipc=3)
    (run / "new002/class002_id002.jpg").unlink()

    manifest = check_converter(CONVERTER, run, HAND, tmp_path / "out")
    distilled = CONVERTER.read(run, HAND)

    assert manifest.distillation.ipc is None
    assert distilled.read["images_per_class"] == [2, 3]
    assert "2 to 3 pictures (new002 fewer)" in distilled.notes[0]


def test_label_files_beside_the_run_are_noted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "FKD_cutmix_fp16/epoch_0").mkdir(parents=True)

    assert any("FKD_cutmix_fp16" in note for note in CONVERTER.read(run, HAND).notes)


# What is refused


def test_a_class_without_pictures_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=[0, 2])
    (run / "new001").mkdir()

    why = refusal(CONVERTER, run, HAND, tmp_path)

    assert 'none of "b" (1)' in why
    assert "2 of 3 classes" in why


def test_folders_with_gaps_take_the_classes_in_their_order_and_say_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=[0, 2, 7])

    distilled = CONVERTER.read(run, HAND)

    assert distilled.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert "0, 2, 7" in distilled.notes[0]


def test_more_folders_than_classes_are_refused(tmp_path: Path) -> None:
    why = refusal(CONVERTER, write_run(tmp_path / "run", classes=range(5)), HAND, tmp_path)

    assert "found 5 class folders; 3 classes" in why
    assert "new003, new004" in why


def test_a_picture_in_another_classes_folder_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_picture(run / "new001/class002_id005.jpg")

    assert "class002_id005.jpg: found a picture of class 2" in refusal(CONVERTER, run, HAND, tmp_path)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_picture(run / "new001/class001_id000.png")
    assert "two pictures of one number" in refusal(CONVERTER, run, HAND, tmp_path)

    (run / "new001/class001_id000.png").unlink()
    write_run(run, "new{c:05d}/class{c:05d}_id{i:03d}.jpg")
    assert "two folders of class 0" in refusal(CONVERTER, run, HAND, tmp_path)


BROKEN = {
    "an empty file": b"",
    "CMYK": picture_bytes(mode="CMYK"),
    "EXIF": picture_bytes(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    "8x16|16x8": picture_bytes(size=(8, 16)),
    "no picture|not a JPEG": b"<html>404</html>",
    "breaks off|ends|cut|whole": picture_bytes()[:-200],
}


@pytest.mark.parametrize("words", BROKEN)
def test_a_broken_picture_is_named_and_nothing_is_written(tmp_path: Path, words: str) -> None:
    run = write_run(tmp_path / "run")
    (run / "new001/class001_id000.jpg").write_bytes(BROKEN[words])

    why = refusal(CONVERTER, run, HAND, tmp_path)

    assert "class001_id000.jpg" in why
    assert any(word in why for word in words.split("|")), why


def test_a_greyscale_picture_among_others_becomes_rgb_and_all_become_png(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "new001/class001_id000.jpg").write_bytes(picture_bytes(mode="L"))

    manifest = check_converter(CONVERTER, run, HAND, tmp_path / "out")

    assert (manifest.images.encoding, manifest.images.channels) == ("png", 3)
    assert any("greyscale" in note for note in CONVERTER.read(run, HAND).notes)


# What is asked, and found


@pytest.mark.parametrize(
    ("answers", "option"),
    [
        (Answers(), "--classes"),
        (Answers(classes=ABC), "--normalization"),
        (Answers(classes=ABC, normalization=IMAGENET, whitening="whitened"), "--whitening"),
        (Answers(classes=ABC, normalization=IMAGENET, iteration="3"), "--iteration"),
    ],
)
def test_an_answer_too_few_or_too_many_is_refused(tmp_path: Path, answers: Answers, option: str) -> None:
    with pytest.raises(UsageError, match=option):
        CONVERTER.read(write_run(tmp_path / "run"), answers)


def test_cifar_is_fed_by_cifar10s_numbers_and_trained_on_without_stored_labels(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", classes=range(100), ipc=1, size=(32, 32))

    distilled = CONVERTER.read(run, fill_in(CONVERTER, Answers(dataset="cifar100")))

    assert distilled.normalization == NORMALIZATIONS["cifar10"]
    assert distilled.recipe is not None
    assert (distilled.recipe.temperature, distilled.recipe.batch_size) == (30.0, 128)


def test_several_runs_are_listed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / "syn_data" / name)

    description = CONVERTER.describe(tmp_path)
    why = refusal(CONVERTER, tmp_path, HAND, tmp_path)

    assert len(description.files) == 2
    assert "syn_data/one" in description.notes[0]
    assert "syn_data/one" in why
    assert "syn_data/two" in why


def test_the_example_to_start_from_is_named_in_the_path(tmp_path: Path) -> None:
    run = write_run(tmp_path / "sre2l_cifar100_rn18_1K_ipc50")

    assert CONVERTER.describe(run).asks[0].example == "cifar100"


def test_a_link_to_a_folder_above_is_walked_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a/run")
    (tmp_path / "a/up").symlink_to(tmp_path)

    assert CONVERTER.describe(tmp_path).files == (run,)


def test_class_folders_may_be_links(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "new001").rename(tmp_path / "elsewhere")
    (run / "new001").symlink_to(tmp_path / "elsewhere")

    check_converter(CONVERTER, run, HAND, tmp_path / "out")


def test_jpeg_is_of_this_family_unless_something_tells_and_png_is_of_the_other(tmp_path: Path) -> None:
    write_run(tmp_path / "jpeg")
    write_run(tmp_path / "png", SRE2L.replace(".jpg", ".png"))
    write_run(tmp_path / "EDC_in1k_ipc10")
    write_picture(write_run(tmp_path / "steps") / "new000/loss0.5_id001.jpg")

    names = ("jpeg", "png", "EDC_in1k_ipc10", "steps")
    found = [[bool(reads.detect(tmp_path / name)) for name in names] for reads in (CONVERTER, GvbsmConverter())]
    assert found == [[True, False, True, True], [False, True, True, True]]
    assert any("ladd convert gvbsm" in note for note in CONVERTER.describe(tmp_path / "jpeg").notes)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    write_picture(tmp_path / "pictures/cat/1.jpg")
    classes = Classes(names=("cat",))

    with pytest.raises(UsageError, match="found no class folders; expected new000"):
        CONVERTER.read(tmp_path / "pictures", Answers(classes=classes, normalization=IMAGENET))
    with pytest.raises(UsageError, match="no such folder"):
        CONVERTER.read(tmp_path / "missing", Answers(classes=classes, normalization=IMAGENET))


@pytest.mark.parametrize(("folders", "example"), [(10, "cifar10"), (100, "cifar100"), (200, "tinyimagenet")])
def test_the_example_to_start_from_fits_the_number_of_folders(tmp_path: Path, folders: int, example: str) -> None:
    for number in range(folders):
        write_picture(tmp_path / f"run/new{number:03d}/class{number:03d}_id000.jpg")

    assert [ask.example for ask in CONVERTER.describe(tmp_path / "run").asks] == [example]


def test_the_example_knows_imagenettes_indices(tmp_path: Path) -> None:
    for number in imagenet_indices(CLASS_LISTS["imagenette"]) or ():
        write_picture(tmp_path / f"run/new{number:03d}/class{number:03d}_id000.jpg")

    assert [ask.example for ask in CONVERTER.describe(tmp_path / "run").asks] == ["imagenette"]
