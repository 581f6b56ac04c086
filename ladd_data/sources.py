"""Real, labelled images by one short name: what labelers are trained on and students are tested on.

A source is one of

    digits:train, digits:test                   the handwritten digits inside scikit-learn
    FOLDER                                      one sub-folder per class, in sorted order
    FILE.npz                                    arrays images, labels and, where known, classes
    datasets:NAME_OR_DIR[:CONFIG]:SPLIT         a `datasets` dataset of the Hub or of this disk, save_to_disk's too;
        with ,label=COLUMN at the end where several columns hold classes
    torchvision:NAME:SPLIT                      a class of torchvision.datasets, such as torchvision:CIFAR10:train

All pictures are decoded once, by threads, into one uint8 array of the chosen size: that array is what a source costs.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ladd_data.errors import LaddError, UsageError, nearest
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest import Classes
from ladd_data.types import I64, U8

DIGITS_TRAIN = 1400
"""scikit-learn's 1,797 digits carry no split; ours draws 1,400 by `epoch_order(1797, seed=0, epoch=0)`."""

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}

DATASETS_SOURCE = re.compile(
    r"datasets:(?P<name>[^:]+)(:(?P<config>[^:\[\],]+))?:(?P<split>[^:\[\],]+(\[[^\]]*\])?)(,label=(?P<label>.+))?"
)

WINDOW = 1024
"""Pictures on their way through the threads at a time."""

Item = TypeVar("Item")
Labelled = tuple[Image.Image, int]


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

    def digest(self) -> str:
        """Return the SHA-256 over shape, pixels and labels."""
        state = hashlib.sha256(json.dumps(self.images.shape).encode() + b"\n")
        state.update(np.ascontiguousarray(self.images).data)
        state.update(np.ascontiguousarray(self.labels, "<i8").data)
        return state.hexdigest()


def _half_of_the_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@dataclass(frozen=True, slots=True)
class Reading:
    """How sources are read.

    root: folder of torchvision's datasets; download: whether they may be fetched into it.
    limit: bytes the decoded pictures may take; None is half of the machine's memory.
    threads: that decode. on_size: told (source, pictures, bytes) before the first is decoded.
    on_progress: told (pictures done, pictures in all).
    """

    root: Path = Path("data")
    download: bool = False
    limit: int | None = None
    threads: int = min(16, os.cpu_count() or 1)
    on_size: Callable[[str, int, int], None] = lambda source, count, size: None
    on_progress: Callable[[int, int], None] = lambda done, total: None

    def refuse_too_much(self, source: str, count: int, needed: int) -> None:
        """Say what a source will cost, or refuse it.

        Raises:
            UsageError: it is more than the limit.
        """
        limit = _half_of_the_memory() if self.limit is None else self.limit
        if needed > limit:
            raise UsageError(
                f"{source}: {count} pictures take {needed / 2**30:.3g} GiB decoded; the limit is {limit / 2**30:.3g} "
                "GiB. Train at a smaller --size, on fewer pictures, or allow more with --max-memory."
            )
        self.on_size(source, count, needed)


def load_images(source: str, size: int, channels: int, reading: Reading | None = None) -> ImageSet:
    """Load a source, every picture centre-cropped to a square and resized to `size` pixels.

    Raises:
        UsageError: the source is not of a known form, does not exist, or is more than memory allows.
        LaddError: it exists and cannot be used; says where and why.
    """
    reader = _Reader(source, size, channels, reading or Reading())
    if source in ("digits:train", "digits:test"):
        return reader.digits()
    if source.startswith("datasets:"):
        return reader.datasets()
    if source.startswith("torchvision:"):
        return reader.torchvision()
    path = Path(source)
    if path.suffix == ".npz" and path.is_file():
        return reader.npz(path)
    if path.is_dir():
        return reader.folder(path)
    raise UsageError(
        f'source "{source}": found no such folder or .npz file; expected digits:train, digits:test, a folder '
        "with one sub-folder per class, an .npz with images and labels, datasets:NAME_OR_DIR:SPLIT, or "
        "torchvision:NAME:SPLIT."
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


class _Reader:
    """One source on its way into memory."""

    def __init__(self, source: str, size: int, channels: int, reading: Reading) -> None:
        self.source, self.size, self.channels, self.reading = source, size, channels, reading

    def digits(self) -> ImageSet:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise UsageError('The digits are in scikit-learn: run "pip install ladd-data[demo]".') from error
        digits = load_digits()
        pictures = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 8x8, 0..16 -> 0..255
        order = epoch_order(len(pictures), seed=0, epoch=0)
        part = {"digits:train": order[:DIGITS_TRAIN], "digits:test": order[DIGITS_TRAIN:]}[self.source]
        names = tuple("0123456789")
        return self._read(part, len(part), lambda row: (Image.fromarray(pictures[row]), digits.target[row]), names)

    def folder(self, path: Path) -> ImageSet:
        folders = sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
        files = [
            (file, label)
            for label, folder in enumerate(folders)
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() in PICTURE_SUFFIXES
        ]
        if not files:
            raise LaddError(f"{path}: found no pictures; expected one sub-folder per class with pictures inside.")
        names = tuple(folder.name for folder in folders)
        return self._read(files, len(files), lambda item: (_open(item[0]), item[1]), names)

    def npz(self, path: Path) -> ImageSet:
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = sorted(archive.files)
                if not {"images", "labels"} <= set(found):
                    raise LaddError(f"{path}: found arrays {found}; expected images (uint8) and labels (integers).")
                count, needed = _stored_size(archive, "images")
                self.reading.refuse_too_much(self.source, count, needed)
                images, labels = archive["images"], archive["labels"]
                names = archive["classes"] if "classes" in found else None
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise LaddError(f"{path}: not a readable .npz of plain arrays ({error}).") from error
        if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1] or not len(images):
            shape = f"{images.dtype} {images.shape} with labels {labels.shape}"
            raise LaddError(f"{path}: found images {shape}; expected uint8 [n,h,w,c] or [n,c,h,w] with n labels.")
        if not np.issubdtype(labels.dtype, np.integer):
            raise LaddError(f"{path}: found labels of {labels.dtype}; expected integers.")
        if images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
            images = images.transpose(0, 2, 3, 1)
        if images.shape[3] not in (1, 3):
            raise LaddError(f"{path}: found images {images.shape}; expected 1 or 3 channels, first or last.")
        squeezed = images[..., 0] if images.shape[3] == 1 else images
        classes = tuple(map(str, names.tolist())) if names is not None else None
        return self._read(
            range(len(labels)),
            len(labels),
            lambda row: (Image.fromarray(np.ascontiguousarray(squeezed[row])), labels[row]),
            classes,
        )

    def datasets(self) -> ImageSet:
        import datasets

        wanted = DATASETS_SOURCE.fullmatch(self.source)
        if wanted is None:
            expected = "datasets:NAME_OR_DIR[:CONFIG]:SPLIT[,label=COLUMN], such as datasets:cifar10:test"
            raise UsageError(f'source "{self.source}": expected {expected}.')
        name, config, split = wanted["name"], wanted["config"], wanted["split"]
        try:
            if any((Path(name) / file).is_file() for file in ("state.json", "dataset_dict.json")):
                saved = datasets.load_from_disk(name)
                rows: Any = saved[split] if isinstance(saved, datasets.DatasetDict) else saved
            else:
                rows = datasets.load_dataset(name, config, split=split)
        except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
            raise LaddError(f"{self.source}: cannot be loaded ({error}).") from error
        pictures = [key for key, kind in rows.features.items() if isinstance(kind, datasets.Image)]
        labels = [key for key, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)]
        if not pictures or not labels:
            columns = list(rows.features)
            raise LaddError(f"{self.source}: found columns {columns}; expected an Image and a ClassLabel column.")
        label = wanted["label"] or labels[0]
        if label not in labels or (len(labels) > 1 and not wanted["label"]):
            raise UsageError(f"{self.source}: columns {labels} hold classes. Say which: ,label={labels[0]} at the end.")
        names = tuple(rows.features[label].names)
        kind, encoded = rows.features[pictures[0]], datasets.Image(decode=False)
        rows = rows.select_columns([pictures[0], label]).cast_column(pictures[0], encoded)
        return self._read(rows, len(rows), lambda row: (kind.decode_example(row[pictures[0]]), row[label]), names)

    def torchvision(self) -> ImageSet:
        from torchvision import datasets

        _, _, rest = self.source.partition(":")
        name, _, split = rest.partition(":")
        known = [name for name in datasets.__all__ if _split_option(getattr(datasets, name))]
        if name not in known:
            raise UsageError(f'source "{self.source}": torchvision has no such dataset. {nearest(name, known)}')
        kind = getattr(datasets, name)
        option = _split_option(kind)
        if not split or (option == "train" and split not in ("train", "test")):
            raise UsageError(f'source "{self.source}": expected torchvision:{name}:train or torchvision:{name}:test.')
        options: dict[str, Any] = {str(option): split == "train" if option == "train" else split}
        if "download" in inspect.signature(kind).parameters:
            options["download"] = self.reading.download
        try:
            rows = kind(str(self.reading.root), **options)
        except (RuntimeError, OSError, ValueError) as error:
            advice = f"Name its folder with --data-root (now {self.reading.root}), or add --download."
            raise LaddError(f"{self.source}: {str(error).splitlines()[0]} {advice}") from error
        names = getattr(rows, "classes", None)
        classes = tuple(name if isinstance(name, str) else name[0] for name in names) if names else None
        return self._read(range(len(rows)), len(rows), lambda row: rows[row], classes)

    def _read(
        self, items: Iterable[Item], count: int, read: Callable[[Item], Labelled], classes: tuple[str, ...] | None
    ) -> ImageSet:
        """Decode all items by threads into one array, uint8 [count, channels, size, size]."""
        if not count:
            raise LaddError(f"{self.source}: holds no pictures.")
        shape = (count, self.channels, self.size, self.size)
        self.reading.refuse_too_much(self.source, count, int(np.prod(shape)))
        images, labels = np.empty(shape, np.uint8), np.empty(count, np.int64)

        def place(work: tuple[int, Item]) -> None:
            number, item = work
            try:
                picture, labels[number] = read(item)
                images[number] = _fit(picture, self.size, self.channels)
            except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
                raise LaddError(f"{self.source}: picture {number} cannot be read ({error}).") from error

        with ThreadPoolExecutor(self.reading.threads) as pool:
            for done, part in _windows(enumerate(items)):
                list(pool.map(place, part))
                self.reading.on_progress(done, count)
        if labels.min() < 0 or (classes is not None and labels.max() >= len(classes)):
            expected = f"0 .. {len(classes) - 1}" if classes else "0 and more"
            found = f"labels {labels.min()} .. {labels.max()}"
            raise LaddError(f"{self.source}: found {found}; expected {expected}. Is it a split without labels?")
        return ImageSet(self.source, images, labels, classes)


def _windows(items: Iterator[Item]) -> Iterator[tuple[int, list[Item]]]:
    """Yield (items so far, the next `WINDOW` items)."""
    done = 0
    while part := list(islice(items, WINDOW)):
        done += len(part)
        yield done, part


def _split_option(kind: Any) -> str | None:
    """Return the argument by which a torchvision dataset takes its split; None where it has none."""
    parameters = inspect.signature(kind).parameters
    return next((name for name in ("train", "split") if name in parameters), None) if "root" in parameters else None


def _stored_size(archive: Any, name: str) -> tuple[int, int]:
    """Return (rows, bytes) of an array in an .npz, from its header alone."""
    with archive.zip.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return (shape[0] if shape else 0), int(np.prod(shape, dtype=object)) * dtype.itemsize


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LaddError(f"{file}: not a readable picture ({error}). Replace or remove it.") from error


def _fit(picture: Image.Image, size: int, channels: int) -> U8:
    """Centre-crop to a square and resize: uint8 [channels, size, size]."""
    mode = "RGB" if channels == 3 else "L"
    plain = picture if picture.mode == mode else picture.convert(mode)
    side = min(plain.size)
    left, top = (plain.width - side) // 2, (plain.height - side) // 2
    box = (left, top, left + side, top + side)
    if box != (0, 0, size, size):
        plain = plain.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(plain, np.uint8).reshape(size, size, channels).transpose(2, 0, 1)
