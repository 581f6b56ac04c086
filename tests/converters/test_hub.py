"""The converter of Hugging Face datasets: saved to disk, parquet, or on the Hub (here: out of reach)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from ladd_converters.hub import HubConverter
from making_pictures import picture_bytes, refusal, write_picture

from ladd_data import Answers, Classes, ConvertError, UsageError
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter

CONVERTER = HubConverter()
HALF = NORMALIZATIONS["half"]
LABEL = datasets.ClassLabel(names=["cat", "dog"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def answers(**more: Any) -> Answers:
    return Answers(normalization=HALF, **more)


def make(count: int = 6, kind: str = "JPEG", kind_of_label: Any = LABEL, **columns: list[Any]) -> datasets.Dataset:
    values: list[Any] = [number % 2 for number in range(count)]
    if getattr(kind_of_label, "dtype", "") == "string":
        values = [("cat", "dog")[value] for value in values]
    rows = {
        "image": [{"bytes": picture_bytes(number, kind=kind), "path": None} for number in range(count)],
        "label": values,
        "caption": ["a picture"] * count,
    }
    features = datasets.Features(image=datasets.Image(), label=kind_of_label, caption=datasets.Value("string"))
    return datasets.Dataset.from_dict(rows | columns, features=features)


def save(folder: Path, data: Any) -> Path:
    data.save_to_disk(folder)
    return folder


def test_jpeg_of_a_saved_dataset_is_kept_byte_for_byte(tmp_path: Path) -> None:
    path = save(tmp_path / "saved [1]", make())

    manifest = check_converter(CONVERTER, path, answers(), tmp_path / "out")
    distilled = CONVERTER.read(path, answers())

    assert not isinstance(distilled.images, np.ndarray)
    assert [distilled.images.read(number) for number in range(6)] == [picture_bytes(number) for number in range(6)]
    assert (manifest.images.encoding, manifest.classes.names) == ("jpeg", ("cat", "dog"))
    assert manifest.distillation.read == {
        "classes": ["cat", "dog"],
        "split": "train",
        "image_column": "image",
        "label_column": "label",
    }
    assert distilled.notes == ("Left out: the columns caption.",)


def test_png_is_kept_pixel_for_pixel(tmp_path: Path) -> None:
    manifest = check_converter(CONVERTER, save(tmp_path / "saved", make(kind="PNG")), answers(), tmp_path / "out")

    assert manifest.images.encoding == "png"


def test_rows_chosen_before_saving_are_the_rows_read(tmp_path: Path) -> None:
    path = save(tmp_path / "saved", make().select([5, 0, 2]))

    distilled = CONVERTER.read(path, answers())

    assert not isinstance(distilled.images, np.ndarray)
    assert distilled.images.read(0) == picture_bytes(5)
    assert distilled.labels.tolist() == [1, 0, 0]


def test_parquet_of_a_folder_and_of_a_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "repo/data").mkdir(parents=True)
    file = tmp_path / "repo/data/train-00000-of-00001.parquet"
    make().to_parquet(file)

    for path in (tmp_path / "repo", file):
        assert CONVERTER.detect(path) is not None
        assert [ask.option for ask in CONVERTER.describe(path).asks] == ["--normalization"]
        check_converter(CONVERTER, path, answers(), tmp_path / f"out-{path.name}")


def test_a_split_is_asked_for_where_there_are_several(tmp_path: Path) -> None:
    path = save(tmp_path / "saved", datasets.DatasetDict(train=make(), test=make(4)))

    assert [ask.option for ask in CONVERTER.describe(path).asks] == ["--split", "--normalization"]
    with pytest.raises(UsageError, match="--split train"):
        CONVERTER.read(path, answers())
    with pytest.raises(UsageError, match="has the splits train, test"):
        CONVERTER.read(path, answers(split="validation"))
    assert CONVERTER.read(path, answers(split="test")).images.shape[0] == 4


def test_columns_are_asked_for_where_they_are_not_plain(tmp_path: Path) -> None:
    path = save(tmp_path / "saved", make(kind_of_label=datasets.Value("string")))

    assert [ask.option for ask in CONVERTER.describe(path).asks] == ["--label-column", "--normalization"]
    with pytest.raises(UsageError, match="--label-column label"):
        CONVERTER.read(path, answers())
    with pytest.raises(UsageError, match="has the columns image, label, caption"):
        CONVERTER.read(path, answers(label_column="fine_label"))
    with pytest.raises(UsageError, match="expected images"):
        CONVERTER.read(path, answers(label_column="label", image_column="caption"))
    manifest = check_converter(CONVERTER, path, answers(label_column="label"), tmp_path / "out")
    assert manifest.classes.names == ("cat", "dog")


def test_numbers_without_names_need_the_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "saved", make(kind_of_label=datasets.Value("int64")).remove_columns("caption"))

    with pytest.raises(UsageError, match="--classes"):
        CONVERTER.read(path, answers())
    check_converter(CONVERTER, path, answers(classes=Classes(names=("a", "b"))), tmp_path / "out")
    assert "class numbers" in refusal(CONVERTER, path, answers(classes=Classes(names=("a",))), tmp_path)


@pytest.mark.parametrize(
    ("names", "labels", "how"), [(("dog", "cat"), [1, 0], "by name"), (("chat", "chien"), [0, 1], "by place")]
)
def test_given_classes_meet_the_datasets_own(
    tmp_path: Path, names: tuple[str, ...], labels: list[int], how: str
) -> None:
    path = save(tmp_path / "saved", make(2))

    distilled = CONVERTER.read(path, answers(classes=Classes(names=names)))

    assert distilled.labels.tolist() == labels
    assert distilled.read["label_names"] == how


@pytest.mark.parametrize("names", [("x", "y", "z"), ("dog", "katze")])
def test_classes_that_may_be_others_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = save(tmp_path / "saved", make(2))

    assert f"2 in all; {len(names)} others" in refusal(CONVERTER, path, answers(classes=Classes(names=names)), tmp_path)


def test_rows_without_a_label_or_a_picture_are_named(tmp_path: Path) -> None:
    unlabelled = save(tmp_path / "unlabelled", make(label=[0, 1, 0, -1, 0, 1]))
    assert "first: row 3" in refusal(CONVERTER, unlabelled, answers(), tmp_path)

    pictures = [{"bytes": picture_bytes(), "path": None}] * 5 + [None]
    blank = save(tmp_path / "blank", make(image=pictures))
    assert "row 5: found no picture" in refusal(CONVERTER, blank, answers(), tmp_path)


def test_a_truncated_picture_is_named_by_its_row(tmp_path: Path) -> None:
    pictures = [{"bytes": picture_bytes(n)[: -99 if n == 4 else None], "path": None} for n in range(6)]

    assert "row 4: found" in refusal(CONVERTER, save(tmp_path / "saved", make(image=pictures)), answers(), tmp_path)


def test_a_path_to_a_file_of_somebody_elses_is_not_read(tmp_path: Path) -> None:
    secret = write_picture(tmp_path / "private.jpg")
    rows = make(2, image=[{"bytes": None, "path": str(secret)}, {"bytes": picture_bytes(), "path": None}])
    file = tmp_path / "crafted.parquet"
    pyarrow.parquet.write_table(rows.data.table, file)  # `datasets` itself would have put the picture in

    assert "not of this dataset" in refusal(CONVERTER, file, answers(), tmp_path)


def test_a_name_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    assert "the Hub cannot be reached" in refusal(CONVERTER, Path("user/name"), answers(), tmp_path)
    assert "no such folder" in refusal(CONVERTER, tmp_path / "missing", answers(), tmp_path)


def test_code_beside_the_data_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    assert "cannot be read as a dataset" in refusal(CONVERTER, folder, answers(), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_only_what_is_a_dataset_with_images_is_recognised(tmp_path: Path) -> None:
    text = datasets.Dataset.from_dict({"text": ["a", "b"]})
    save(tmp_path / "text", text)
    text.to_parquet(tmp_path / "text.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")

    for path in (tmp_path / "text", tmp_path / "text.parquet", tmp_path / "broken.parquet", Path("user/name")):
        assert CONVERTER.detect(path) is None


def test_our_own_dataset_is_not_converted_again(tmp_path: Path, unlabelled: Path) -> None:
    assert CONVERTER.detect(unlabelled) is None
    assert "already" in refusal(CONVERTER, unlabelled, answers(), tmp_path)


def test_several_configurations_are_refused_with_a_way_out(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "hub" / name).mkdir(parents=True)
        make().to_parquet(tmp_path / "hub" / name / "train.parquet")
    files = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("one", "two"))
    (tmp_path / "hub/README.md").write_text(f"---\nconfigs:\n{files}---\n")

    with pytest.raises(UsageError, match=r"one, two.*save_to_disk\('DIR'\)"):
        CONVERTER.read(tmp_path / "hub", answers())


def test_a_pointer_called_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")

    with pytest.raises(ConvertError, match="a Git-LFS pointer"):
        CONVERTER.read(tmp_path, answers())


def test_numbers_without_names_are_asked_for(tmp_path: Path) -> None:
    numbers = make(kind_of_label=datasets.Value("int64")).remove_columns("caption")

    asks = CONVERTER.describe(save(tmp_path / "saved", numbers)).asks

    assert [ask.option for ask in asks] == ["--classes", "--normalization"]
