"""Real, labelled images by one short name: what labelers are trained on and students are tested on.

A source is `digits:train` or `digits:test` (the handwritten digits inside scikit-learn), a folder with
one sub-folder per class, an .npz file with `images` and `labels`, or `datasets:NAME_OR_DIR:SPLIT`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ladd_data.errors import LaddError, UsageError
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest import Classes
from ladd_data.types import I64, U8

DIGITS_TRAIN = 1400
"""scikit-learn's 1,797 digits carry no split; ours draws 1,400 by `epoch_order(1797, seed=0, epoch=0)`."""

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Labelled pictures of one size.

    name: as the user gave it; images: uint8 [n, channels, size, size]; labels: int64 [n];
    classes: names in label order, None where the source has none.
    """

    name: str
    images: U8
    labels: I64
    classes: tuple[str, ...] | None


def load_images(source: str, size: int, channels: int) -> ImageSet:
    """Load a source, every picture centre-cropped to a square and resized to `size` pixels.

    Raises:
        UsageError: the source is not of a known form, or does not exist.
        LaddError: it exists and cannot be used; says where and why.
    """
    if source in ("digits:train", "digits:test"):
        return _load_digits(source, size, channels)
    if source.startswith("datasets:"):
        return _load_datasets(source, size, channels)
    path = Path(source)
    if path.suffix == ".npz" and path.is_file():
        return _load_npz(path, size, channels)
    if path.is_dir():
        return _load_folder(path, size, channels)
    raise UsageError(
        f'source "{source}": found no such folder or .npz file; expected digits:train, digits:test, a folder '
        "with one sub-folder per class, an .npz with images and labels, or datasets:NAME_OR_DIR:SPLIT."
    )


def match_classes(images: ImageSet, classes: Classes) -> ImageSet:
    """Renumber a source's labels to a dataset's class order, by name or by id.

    Raises:
        LaddError: the two class lists are not the same set; a source without names is taken as it is,
            if its labels fit.
    """
    wanted = classes.names
    if images.classes is None:
        if images.labels.min() < 0 or images.labels.max() >= len(wanted):
            found = f"labels {images.labels.min()} .. {images.labels.max()}"
            raise LaddError(f"{images.name}: found {found}; expected 0 .. {len(wanted) - 1}, as the dataset's classes.")
        return images
    if images.classes == wanted:
        return images
    for order in (wanted, classes.ids):
        if order is not None and set(images.classes) == set(order):
            number = np.array([order.index(name) for name in images.classes], np.int64)
            return replace(images, labels=number[images.labels], classes=wanted)
    only_here = sorted(set(images.classes) - set(wanted))[:5]
    only_there = sorted(set(wanted) - set(images.classes))[:5]
    raise LaddError(
        f"{images.name}: its {len(images.classes)} classes are not the dataset's {len(wanted)}. Only in the source: "
        f"{only_here}; only in the dataset: {only_there}. Rename the folders, or convert with the right --classes."
    )


def _load_digits(source: str, size: int, channels: int) -> ImageSet:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError('The digits are in scikit-learn: run "pip install ladd-data[demo]".') from error
    digits = load_digits()
    pictures = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 8x8, 0..16 -> 0..255
    order = epoch_order(len(pictures), seed=0, epoch=0)
    part = {"digits:train": order[:DIGITS_TRAIN], "digits:test": order[DIGITS_TRAIN:]}[source]
    images = _fit((Image.fromarray(picture) for picture in pictures[part]), size, channels)
    return ImageSet(source, images, digits.target[part].astype(np.int64), tuple("0123456789"))


def _load_folder(path: Path, size: int, channels: int) -> ImageSet:
    folders = sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
    files = [
        (file, label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in PICTURE_SUFFIXES
    ]
    if not files:
        raise LaddError(f"{path}: found no pictures; expected one sub-folder per class with pictures inside.")
    images = _fit((_open(file) for file, _ in files), size, channels)
    labels = np.array([label for _, label in files], np.int64)
    return ImageSet(str(path), images, labels, tuple(folder.name for folder in folders))


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError) as error:
        raise LaddError(f"{file}: not a readable picture ({error}). Replace or remove it.") from error


def _load_npz(path: Path, size: int, channels: int) -> ImageSet:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = sorted(archive.files)
            if not {"images", "labels"} <= set(found):
                raise LaddError(f"{path}: found arrays {found}; expected images (uint8) and labels (integers).")
            images, labels = archive["images"], archive["labels"]
            names = archive["classes"] if "classes" in found else None
    except (OSError, ValueError) as error:
        raise LaddError(f"{path}: not a readable .npz of plain arrays ({error}).") from error
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels) or not len(images):
        shape = f"{images.dtype} {images.shape} with {len(labels)} labels"
        raise LaddError(f"{path}: found images {shape}; expected uint8 [n,h,w,c] or [n,c,h,w] with n labels.")
    if images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    squeezed = images[..., 0] if images.shape[3] == 1 else images
    classes = tuple(map(str, names.tolist())) if names is not None else None
    fitted = _fit((Image.fromarray(np.ascontiguousarray(image)) for image in squeezed), size, channels)
    return ImageSet(str(path), fitted, labels.astype(np.int64), classes)


def _load_datasets(source: str, size: int, channels: int) -> ImageSet:
    import datasets

    name, _, split = source.removeprefix("datasets:").rpartition(":")
    if not name:
        raise UsageError(f'source "{source}": expected datasets:NAME_OR_DIR:SPLIT, such as datasets:cifar10:test.')
    try:
        rows: Any = datasets.load_dataset(name, split=split)
    except (OSError, ValueError) as error:
        raise LaddError(f"{source}: cannot be loaded ({error}).") from error
    picture = next((key for key, kind in rows.features.items() if isinstance(kind, datasets.Image)), None)
    label = next((key for key, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)), None)
    if picture is None or label is None:
        raise LaddError(f"{source}: found columns {list(rows.features)}; expected an Image and a ClassLabel column.")
    images = _fit((row[picture] for row in rows), size, channels)
    return ImageSet(source, images, np.array(rows[label][:], np.int64), tuple(rows.features[label].names))


def _fit(pictures: Iterable[Image.Image], size: int, channels: int) -> U8:
    """Centre-crop to a square, resize, and stack: uint8 [n, channels, size, size]."""
    fitted = []
    for picture in pictures:
        mode = "RGB" if channels == 3 else "L"
        plain = picture if picture.mode == mode else picture.convert(mode)
        side = min(plain.size)
        left, top = (plain.width - side) // 2, (plain.height - side) // 2
        box = (left, top, left + side, top + side)
        if box != (0, 0, size, size):
            plain = plain.resize((size, size), Image.Resampling.BICUBIC, box=box)
        fitted.append(np.asarray(plain, np.uint8).reshape(size, size, channels))
    return np.ascontiguousarray(np.stack(fitted).transpose(0, 3, 1, 2))
