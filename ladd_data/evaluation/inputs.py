"""What an evaluation is given: the dataset, real images to test on and to draw from; what cannot serve is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ladd_data.dataset import Dataset, load
from ladd_data.errors import LaddError, UsageError
from ladd_data.manifest import Manifest
from ladd_data.sources import ImageSet, Reading, load_images, match_classes
from ladd_data.types import I64, U8

RealImages = str | ImageSet | tuple[U8, I64]
"""A source's short name, or pictures in memory: an ImageSet, or (uint8 [n, channels, side, side], int64 [n])."""


def open_dataset(dataset: Dataset | str | Path) -> Dataset:
    """Open the dataset, and refuse one whose students cannot be tested on plain pictures.

    Raises:
        UsageError: it is ZCA-whitened.
        DatasetError: it is damaged.
    """
    opened = dataset if isinstance(dataset, Dataset) else load(dataset)
    if opened.manifest.images.normalization is None:
        raise UsageError(
            "the images are ZCA-whitened: a student of theirs must be tested on images whitened by the same matrix, "
            "which no file holds. Convert the de-whitened pictures (--whitening dewhitened) to train on ordinary input."
        )
    return opened


def read_real(given: RealImages, manifest: Manifest, option: str, reading: Reading | None = None) -> ImageSet:
    """Return real pictures of the dataset's size and channels, labels in its class order.

    Args:
        given: where they are, or themselves.
        manifest: of the dataset.
        option: what the pictures are called in a message, such as "--val".
        reading: how sources are read.

    Raises:
        UsageError: there is no such source, or arrays have other channels or another size than the dataset.
        LaddError: the classes are not the dataset's, or some of them have no picture.
    """
    images = manifest.images
    if isinstance(given, str):
        _refuse_other_channels(given, images.channels, option)
        found = load_images(given, images.height, images.channels, reading)
    else:
        found = given if isinstance(given, ImageSet) else ImageSet("arrays", given[0], given[1], None)
        _check_arrays(found, (images.channels, images.height, images.width), option)
    matched = match_classes(found, manifest.classes)
    _refuse_missing_classes(matched, manifest, option)
    return matched


def refuse_overlap(train: ImageSet, val: ImageSet) -> None:
    """Refuse random images that are drawn from the very pictures students are tested on.

    Raises:
        UsageError: both are the same pictures.
    """
    if train.name == val.name != "arrays" or train.digest() == val.digest():
        raise UsageError(f"--train {train.name} and --val {val.name} are the same pictures: give the training split.")


def _check_arrays(found: ImageSet, shape: tuple[int, int, int], option: str) -> None:
    if found.images.dtype != np.uint8 or found.images.shape[1:] != shape or not len(found.images):
        has, needs = f"{found.images.dtype} {list(found.images.shape)}", f"uint8 [n, {', '.join(map(str, shape))}]"
        raise UsageError(f"{option}, {found.name}: found images {has}; expected {needs}, as the dataset's.")
    if found.labels.shape != found.images.shape[:1] or not np.issubdtype(found.labels.dtype, np.integer):
        has = f"{found.labels.dtype} {list(found.labels.shape)}"
        raise UsageError(f"{option}, {found.name}: found labels {has}; expected integers [{len(found.images)}].")


def _refuse_other_channels(source: str, channels: int, option: str) -> None:
    """Refuse arrays of other channels: unlike a picture file's, their colours have no stated meaning to convert by."""
    if not source.endswith(".npz") or not Path(source).is_file():
        return
    shape = _shape_of_images(Path(source))
    if shape is None or len(shape) != 4:
        return  # load_images says what is wrong
    sides = {shape[1], shape[3]}
    if channels not in sides and sides & {1, 3}:
        has = min(sides & {1, 3})
        raise UsageError(
            f"{option} {source}: found images of {has} channel(s), {list(shape)}; expected {channels}, as the "
            "dataset's. Convert them before, so that it is known how."
        )


def _shape_of_images(path: Path) -> tuple[int, ...] | None:
    try:
        with np.load(path, allow_pickle=False) as archive, archive.zip.open("images.npy") as file:
            version = np.lib.format.read_magic(file)
            read: Callable[..., tuple[tuple[int, ...], bool, np.dtype[np.void]]] = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            return read(file)[0]
    except (OSError, ValueError, EOFError, KeyError):
        return None


def _refuse_missing_classes(found: ImageSet, manifest: Manifest, option: str) -> None:
    names = manifest.classes.names
    missing = sorted(set(range(len(names))) - set(np.unique(found.labels).tolist()))
    if missing:
        some = ", ".join(names[label] for label in missing[:5])
        raise LaddError(
            f"{option}, {found.name}: found pictures of {len(names) - len(missing)} classes; expected all "
            f"{len(names)} of the dataset's. None of: {some}. Is it the set that was distilled?"
        )
