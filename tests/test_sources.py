"""Real images by a short name, their labels in the dataset's class order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladd_data.errors import LaddError, UsageError
from ladd_data.manifest import Classes
from ladd_data.sources import ImageSet, Reading, load_images, match_classes


def make_folder(root: Path, names: tuple[str, ...] = ("bee", "ant")) -> Path:
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (40, 20), (100 * shade, 0, 0)).save(root / name / "one.png")
        Image.new("L", (10, 30), 50).save(root / name / "two.JPG")
        (root / name / "notes.txt").write_text("not a picture")
    return root


def test_digits_are_split_without_overlap_and_in_range() -> None:
    train, test = load_images("digits:train", 32, 3), load_images("digits:test", 32, 3)

    assert train.images.shape == (1400, 3, 32, 32) and test.images.shape == (397, 3, 32, 32)
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert np.bincount(test.labels).min() > 25
    seen = {image.tobytes() for image in train.images}
    assert sum(image.tobytes() in seen for image in test.images) == 0


def test_a_folder_gives_sorted_classes_and_square_pictures(tmp_path: Path) -> None:
    images = load_images(str(make_folder(tmp_path / "real")), 8, 3)

    assert images.classes == ("ant", "bee") and images.labels.tolist() == [0, 0, 1, 1]
    assert images.images.shape == (4, 3, 8, 8)
    assert images.images[0, 0].min() == 100 and images.images[2, 0].max() == 0


def test_labels_follow_the_datasets_class_order_by_name_and_by_id() -> None:
    images = ImageSet("x", np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]), ("n1", "n2"))

    by_name = match_classes(images, Classes(names=("n2", "n1")))
    by_id = match_classes(images, Classes(names=("dog", "cat"), ids=("n2", "n1")))

    assert by_name.labels.tolist() == by_id.labels.tolist() == [1, 0]
    assert by_id.classes == ("dog", "cat")


def test_other_classes_are_refused_and_both_differences_shown() -> None:
    images = ImageSet("x", np.zeros((1, 1, 1, 1), np.uint8), np.array([0]), ("ant", "bee"))

    with pytest.raises(LaddError, match=r"\['bee'\].*\['cat'\]"):
        match_classes(images, Classes(names=("ant", "cat")))


def test_a_source_without_names_is_checked_by_range() -> None:
    images = ImageSet("x", np.zeros((1, 1, 1, 1), np.uint8), np.array([7]), None)

    assert match_classes(images, Classes(names=tuple("abcdefgh"))).labels.tolist() == [7]
    with pytest.raises(LaddError, match=r"7 \.\. 7"):
        match_classes(images, Classes(names=("a", "b")))


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_an_npz_of_either_layout_is_read(tmp_path: Path, layout: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    stored = images if layout == "nhwc" else images.transpose(0, 3, 1, 2)
    np.savez(tmp_path / "real.npz", images=stored, labels=np.array([0, 1, 0]), classes=np.array(["a", "b"]))

    loaded = load_images(str(tmp_path / "real.npz"), 8, 3)

    assert np.array_equal(loaded.images, images.transpose(0, 3, 1, 2)) and loaded.classes == ("a", "b")


def test_a_local_datasets_folder_is_a_source(labelled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))

    loaded = load_images(f"datasets:{labelled}:train", 32, 3)

    assert loaded.classes == ("ant", "bee", "cat") and loaded.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_bad_sources_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = make_folder(tmp_path / "broken")
    (broken / "ant" / "bad.png").write_bytes(b"not a picture")
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    np.savez(tmp_path / "float.npz", images=np.zeros((1, 8, 8, 3)), labels=np.zeros(1))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").rename(tmp_path / "pickle.npz")

    with pytest.raises(UsageError, match="digits:train"):
        load_images("cifar11", 8, 3)
    for name, message in {
        "empty": "no pictures",
        "broken": "bad.png",
        "other.npz": "pixels",
        "float.npz": "float64",
        "pickle.npz": "plain arrays",
    }.items():
        with pytest.raises(LaddError, match=message):
            load_images(str(tmp_path / name), 8, 3)


def test_the_size_is_said_before_a_picture_is_opened_and_too_much_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "real")
    for file in folder.rglob("*.png"):
        file.write_bytes(b"would be an error if it were opened")
    said: list[tuple[str, int, int]] = []

    with pytest.raises(UsageError, match=r"4 pictures take .* GiB decoded.*--max-memory"):
        load_images(str(folder), 8, 3, Reading(limit=4 * 3 * 64 - 1))
    with pytest.raises(LaddError, match="not a readable picture"):
        load_images(str(folder), 8, 3, Reading(on_size=lambda *what: said.append(what)))
    assert said == [(str(folder), 4, 4 * 3 * 64)]


def test_an_npz_that_claims_too_much_is_refused_from_its_header(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((4000, 16, 16, 3), np.uint8), labels=np.zeros(4000, int))

    with pytest.raises(UsageError, match="4000 pictures"):
        load_images(str(tmp_path / "bomb.npz"), 1, 3, Reading(limit=10**6))


def test_threads_change_nothing_and_progress_is_told(tmp_path: Path) -> None:
    folder, told = str(make_folder(tmp_path / "real", ("a", "b", "c"))), []

    one = load_images(folder, 16, 1, Reading(threads=1))
    many = load_images(folder, 16, 1, Reading(threads=8, on_progress=lambda *done: told.append(done)))

    assert one.digest() == many.digest() and told == [(6, 6)]


def write_idx(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write MNIST's file format: type and dimensions big-endian, then the bytes."""
    head = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(head + values.tobytes())


def test_a_torchvision_dataset_is_a_source_by_name(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", pictures)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(5, dtype=np.uint8))

    loaded = load_images("torchvision:MNIST:test", 28, 1, Reading(root=tmp_path))

    assert np.array_equal(loaded.images[:, 0], pictures) and loaded.labels.tolist() == [0, 1, 2, 3, 4]
    assert loaded.classes is not None and loaded.classes[3] == "3 - three"


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("torchvision:CIFAR11:train", UsageError, 'Did you mean "CIFAR10"'),
        ("torchvision:CIFAR10", UsageError, "torchvision:CIFAR10:train"),
        ("torchvision:CIFAR10:val", UsageError, "torchvision:CIFAR10:test"),
        ("torchvision:CIFAR10:train", LaddError, "--data-root .*--download"),
        ("datasets:nothing", UsageError, "NAME_OR_DIR"),
    ],
)
def test_library_sources_that_cannot_be_had_say_what_to_do(
    tmp_path: Path, source: str, kind: type[LaddError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        load_images(source, 8, 3, Reading(root=tmp_path))


def save_dataset(path: Path, labels: list[int]) -> str:
    import datasets

    features = datasets.Features(
        picture=datasets.Image(), coarse=datasets.ClassLabel(names=["a"]), fine=datasets.ClassLabel(names=["x", "y"])
    )
    rows = {
        "picture": [Image.new("RGB", (9, 9), (10 * row, 0, 0)) for row in range(len(labels))],
        "coarse": [0] * len(labels),
        "fine": labels,
    }
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features)).save_to_disk(path)
    return f"datasets:{path}:train"


def test_a_saved_dataset_with_two_class_columns_needs_one_named(tmp_path: Path) -> None:
    source = save_dataset(tmp_path / "saved", [1, 0, 1])

    with pytest.raises(UsageError, match=",label=coarse"):
        load_images(source, 8, 3)
    loaded = load_images(f"{source},label=fine", 8, 3)

    assert loaded.labels.tolist() == [1, 0, 1] and loaded.classes == ("x", "y")
    assert loaded.images[:, 0, 0, 0].tolist() == [0, 10, 20]


def test_a_split_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaddError, match=r"-1 \.\. 0; expected 0 \.\. 1\. Is it a split without labels"):
        load_images(save_dataset(tmp_path / "saved", [-1, 0]) + ",label=fine", 8, 3)


def test_labels_of_an_npz_must_be_whole_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0.0, 0.5]))

    with pytest.raises(LaddError, match="labels of float64"):
        load_images(str(tmp_path / "real.npz"), 8, 3)
