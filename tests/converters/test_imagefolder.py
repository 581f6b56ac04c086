"""The converter of anybody's class folders: torchvision's order, or classes met by name, id or number."""

from __future__ import annotations

from pathlib import Path

import pytest
from ladd_converters.imagefolder import ImageFolderConverter
from making_pictures import UPSTREAM, files_of, genuine, picture_bytes, refusal, write_picture, write_run
from torchvision.datasets import ImageFolder

from ladd_data import Answers, Classes, UsageError
from ladd_data.converter import fill_in
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS
from ladd_data.testing import check_converter

CONVERTER = ImageFolderConverter()
HALF = Answers(normalization=NORMALIZATIONS["half"])


def given(*names: str) -> Answers:
    return Answers(classes=Classes(names=names), normalization=HALF.normalization)


def write_folders(root: Path, *folders: str, names: tuple[str, ...] = ("1.jpg", "10.jpg", "2.jpg")) -> Path:
    for folder in folders:
        for seed, name in enumerate(names):
            write_picture(root / folder / name, seed)
    return root


def test_order_and_labels_are_torchvisions(tmp_path: Path) -> None:
    root = write_folders(
        tmp_path / "root",
        "dog",
        "Cat",
        "ant/images",
        "ant/b/deeper",
        "emu [1]",
        names=("1.jpg", "10.png", "2.JPEG", "x.BMP"),
    )

    distilled = CONVERTER.read(root, HALF)
    theirs = ImageFolder(str(root))

    files = map(str, files_of(distilled))
    assert list(zip(files, distilled.labels.tolist(), strict=True)) == theirs.samples
    assert list(distilled.classes.names) == theirs.classes
    assert distilled.read["classes"] == theirs.classes


def test_folder_names_are_the_classes_and_are_read(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "root", "dog", "cat")

    manifest = check_converter(CONVERTER, root, HALF, tmp_path / "out")

    assert manifest.classes.names == ("cat", "dog")
    assert (manifest.images.encoding, manifest.distillation.ipc) == ("jpeg", 3)
    assert "classes" not in manifest.distillation.asserted


def test_given_classes_are_met_by_name_whatever_their_order(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "root", "cat", "dog")

    distilled = CONVERTER.read(root, given("dog", "cat"))

    assert distilled.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert distilled.read["class_folders"] == "by name"


def test_given_classes_are_met_by_wordnet_id(tmp_path: Path) -> None:
    classes = CLASS_LISTS["imagewoof"]
    root = write_folders(tmp_path / "root", *(classes.ids or ()), names=("1.jpg",))

    distilled = CONVERTER.read(root, fill_in(CONVERTER, Answers(dataset="imagewoof")))

    assert [(classes.ids or ())[label] for label in distilled.labels] == sorted(classes.ids or ())
    assert distilled.read["class_folders"] == "by id"


def test_given_classes_are_met_by_number_in_the_order_of_numbers(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "root", *(f"class{number}" for number in range(11)), names=("1.jpg",))

    distilled = CONVERTER.read(root, given(*"abcdefghijk"))

    folders = [file.parent.name for file in files_of(distilled)]
    assert [f"class{label}" for label in distilled.labels] == folders


def test_numbers_that_sort_as_text_are_asked_about(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "root", "1", "2", "10", names=("1.jpg",))

    assert [ask.option for ask in CONVERTER.describe(root).asks] == ["--classes", "--normalization"]
    with pytest.raises(UsageError, match="sort as text into 1, 10, 2"):
        CONVERTER.read(root, HALF)


def test_wordnet_ids_become_ids_of_imagenet_where_it_has_them(tmp_path: Path) -> None:
    strange = ("n01440764", "n01440765")
    known = write_folders(tmp_path / "known", "n01440764", "n02102040", names=("1.jpg",))
    other = write_folders(tmp_path / "other", *strange, names=("1.jpg",))

    assert CONVERTER.read(known, HALF).classes.source == "imagenet-1k"
    assert CONVERTER.read(other, HALF).classes == Classes(
        names=("n01440764", "n01440765"), ids=("n01440764", "n01440765")
    )


def test_folders_that_are_no_class_given_are_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "root", "cat", "dog")

    assert '"dog"' in refusal(CONVERTER, root, given("cat", "fox"), tmp_path)


def test_a_class_without_pictures_is_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "root", "cat", "dog")
    (root / "emu").mkdir()

    assert "found emu without a picture" in refusal(CONVERTER, root, HALF, tmp_path)
    assert 'none of "emu"' in refusal(CONVERTER, root, given("cat", "dog", "emu"), tmp_path)
    assert "Left out: emu, without a picture." in CONVERTER.read(root, given("cat", "dog")).notes


def test_what_is_no_picture_is_left_out_and_said(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "root", "cat", "dog")
    (root / "cat/boxes.txt").write_text("0 0 1 1")
    (root / "cat/.DS_Store").write_text("")
    write_picture(root / "cover.jpg")
    (root / ".ipynb_checkpoints").mkdir()

    assert CONVERTER.read(root, HALF).notes == (
        "Left out: files in class folders that are no pictures (1 .txt).",
        "Left out: 1 pictures that lie in no class folder.",
    )


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "empty"), (picture_bytes(mode="CMYK"), "CMYK"), (picture_bytes()[:-99], "")]
)
def test_a_broken_picture_is_named_and_nothing_is_written(tmp_path: Path, data: bytes, words: str) -> None:
    root = write_folders(tmp_path / "root", "cat", "dog")
    (root / "dog/10.jpg").write_bytes(data)

    why = refusal(CONVERTER, root, HALF, tmp_path)

    assert "dog/10.jpg" in why
    assert words in why


def test_tiny_imagenets_nesting_is_found_below_the_path(tmp_path: Path) -> None:
    ids = CLASS_LISTS["tinyimagenet"].ids or ()
    write_folders(tmp_path / "tiny/train", *(f"{wnid}/images" for wnid in ids), names=("1.JPEG",))

    distilled = CONVERTER.read(tmp_path, fill_in(CONVERTER, Answers(dataset="tinyimagenet")))

    assert distilled.labels.tolist() == [ids.index(wnid) for wnid in sorted(ids)]


def test_several_roots_are_listed(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_folders(tmp_path / split, "cat", "dog", names=("1.jpg",))

    assert len(CONVERTER.describe(tmp_path).files) == 2
    assert "2 folders of class folders" in refusal(CONVERTER, tmp_path, HALF, tmp_path)


def test_a_single_class_is_read_where_it_is_named(tmp_path: Path) -> None:
    check_converter(CONVERTER, write_folders(tmp_path / "root", "cat"), HALF, tmp_path / "out")


def test_folders_of_other_programs_are_left_to_their_converters(tmp_path: Path) -> None:
    write_run(tmp_path / "sre2l")
    write_run(tmp_path / "rded", "{c:05d}/class{c:05d}_id{i:05d}.jpg")
    for run in ("one", "two"):  # as IDC and FRePo leave pictures beside tensors
        write_picture(tmp_path / f"idc/{run}/img100.png").with_name("data.pt").write_bytes(b"")

    assert [CONVERTER.detect(tmp_path / name) for name in ("sre2l", "rded", "idc", "missing")] == [None] * 4


def test_lplds_steps_are_no_classes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_picture(run / "new000_it0500/class000_id000.jpg")

    assert "ladd convert sre2l" in refusal(CONVERTER, run, HALF, tmp_path)


def test_the_normalization_is_asked(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "root", "cat", "dog")

    assert [ask.option for ask in CONVERTER.describe(root).asks] == ["--normalization"]
    with pytest.raises(UsageError, match="--normalization"):
        CONVERTER.read(root, Answers())


@genuine
@pytest.mark.parametrize("run", ["fkd", "tinyvit"])
def test_genuine_folders_of_photographs_are_recognised_and_refused_for_their_sizes(tmp_path: Path, run: str) -> None:
    assert CONVERTER.detect(UPSTREAM / run) is not None
    assert "expected one size" in refusal(CONVERTER, UPSTREAM / run, HALF, tmp_path)


@genuine
@pytest.mark.parametrize("run", ["sre2l", "rded", "gvbsm", "lpld", "idc", "frepo", "dc", "mtt"])
def test_genuine_runs_of_other_programs_are_not_taken(run: str) -> None:
    assert CONVERTER.detect(UPSTREAM / run) is None


def test_a_run_of_lpld_with_steps_is_left_to_its_converter(tmp_path: Path) -> None:
    for folder in ("new000", "new001", "new000_it0500"):
        write_picture(tmp_path / folder / f"class{folder[3:6]}_id000.jpg")

    assert CONVERTER.detect(tmp_path) is None
