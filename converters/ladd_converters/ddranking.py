"""DD-Ranking's baselines (NUS-HPC-AI-Lab/DD-Ranking, read at commit b8b09664): sets of other methods, laid out for it.

What its demos read:

    <method>/<dataset>/IPC<n>/images.pt     a bare tensor, float32 [n, channels, height, width]
                              labels.pt     a bare tensor: for soft labels of mode S, logits [n, classes]
                              lr.pt         the learning rate to train with: a tensor of one number, or a number

The images are in the network's input space: normalised, or ZCA-whitened where the evaluation is told use_zca.
Hard classes are by position: class by class, in equal blocks. Sets as folders of pictures are for imagefolder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ladd_converters.pairs import (
    LOOKED_AT,
    Facts,
    ask_dataset,
    check_dataset,
    find_files,
    is_soft,
    need_classes,
    need_normalization,
    one_of,
    plain_name,
    refuse_answers,
    refuse_soft_answer,
    to_classes,
    to_images,
    to_soft,
)
from ladd_converters.torch_files import dense, read_tensor, read_torch, say_content
from ladd_data import (
    RECIPES,
    Answers,
    ConvertError,
    Description,
    Distilled,
    Preset,
    Recipe,
    SoftValues,
    UsageError,
)

_IMAGES = re.compile(r"images\.pt")
_FOLDER = re.compile(r"ipc\d+", re.IGNORECASE)
_EXPECTED = "images.pt beside labels.pt; expected DD-Ranking's <method>/<dataset>/IPC<n>"
_NOT_HERE = ("iteration", "experiment", "mosaic_factor")
_ZCA = "The files do not say whether the set is for use_zca; if it is, give --whitening whitened."


class DdRankingConverter:
    """Reads one set laid out for DD-Ranking."""

    name: ClassVar[str] = "ddranking"
    summary: ClassVar[str] = "DD-Ranking: images.pt, labels.pt and lr.pt of a folder"
    datasets: ClassVar[Mapping[str, Preset]] = {
        "cifar10": Preset("cifar10", "cifar10"),
        "cifar100": Preset("cifar100", "cifar10"),
        "tinyimagenet": Preset("tinyimagenet", "imagenet"),
    }

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a set for DD-Ranking, or None."""
        files = [file for file in find_files(path, _IMAGES, LOOKED_AT) if file.with_name("labels.pt").is_file()]
        return "images.pt beside labels.pt" if files else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        images = _find(path)
        files = tuple(file for file in (images, *map(images.with_name, ("labels.pt", "lr.pt"))) if file.is_file())
        _, dataset = _names_in(images)
        known = dataset and plain_name(dataset)
        asks = (ask_dataset(known if known in self.datasets else None),)
        return Description("images.pt beside labels.pt", files, asks, (_ZCA,))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a set; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, _NOT_HERE)
        images_file, labels_file = _choose(path, answers)
        method, dataset = _names_in(images_file)
        known = dataset and plain_name(dataset)
        example = known if known in self.datasets else None
        check_dataset(images_file, dataset, answers)
        read: Facts = {"method_in_path": method, "dataset_in_path": dataset} if method else {}
        images = to_images(images_file, read_tensor(images_file), read)
        label = read_tensor(labels_file)
        soft: SoftValues | None = None
        if is_soft(label):
            soft = to_soft(labels_file, label, answers, read, known="logits")
            labels, notes = _by_position(labels_file, soft.values, read)
        else:
            refuse_soft_answer(labels_file, answers)
            labels, notes = to_classes(labels_file, label, read), []
        lr_file = images_file.with_name("lr.pt")
        rate = _learned_lr(lr_file, answers, read)
        _check_whitening(images_file, answers, example)
        return Distilled(
            method=method or "unknown, laid out for DD-Ranking",
            repository=None,
            images=images,
            labels=labels,
            classes=need_classes(images_file, answers, example),
            normalization=None if answers.whitening else need_normalization(images_file, answers, example),
            whitening="zca" if answers.whitening else "none",
            files=(images_file, labels_file, *([lr_file] if "learned_lr" in read else [])),
            soft=soft,
            read=read,
            asserted=answers.said(),
            learned_lr=rate,
            recipe=_recipe(soft),
            notes=tuple(notes),
        )


def _find(path: Path) -> Path:
    files = [file for file in find_files(path, _IMAGES) if file.with_name("labels.pt").is_file()]
    return one_of(path, files, _EXPECTED)


def _choose(path: Path, answers: Answers) -> tuple[Path, Path]:
    if answers.images is None and answers.labels is None:
        images = path if path.is_file() else _find(path)
        return images, images.with_name("labels.pt")
    if answers.images is None or answers.labels is None:
        raise UsageError("--images and --labels go together: name both files of the pair.")
    return answers.images, answers.labels


def _names_in(images: Path) -> tuple[str | None, str | None]:
    """Return method and dataset of <method>/<dataset>/IPC<n>/images.pt."""
    parts = images.parts
    if len(parts) < 4 or not _FOLDER.fullmatch(parts[-2]) or parts[-4].startswith(("/", ".")):
        return None, None
    return parts[-4], parts[-3]


def _by_position(file: Path, values: NDArray[np.float32], read: Facts) -> tuple[NDArray[np.int64], list[str]]:
    """Return the hard classes, in equal blocks class by class, and a note where the labels' largest differ.

    Raises:
        ConvertError: the images cannot be cut into equal blocks.
    """
    count, classes = values.shape
    if count % classes:
        raise ConvertError(
            f"{file}: found {count} labels for {classes} classes; expected equal blocks, class by class, as DD-Ranking "
            "takes the hard classes from."
        )
    labels = np.repeat(np.arange(classes, dtype=np.int64), count // classes)
    read["hard_class"] = "position, class by class"
    differ = int((values.argmax(1) != labels).sum())
    note = f"{differ} of {count} soft labels are largest elsewhere than at the class of their position."
    return labels, [note] if differ else []


def _learned_lr(file: Path, answers: Answers, read: Facts) -> float | None:
    """Return the learning rate of lr.pt, or else the one answered.

    Raises:
        UsageError: both are there.
        ConvertError: it is no positive number.
    """
    if not file.is_file():
        return answers.learned_lr
    if answers.learned_lr is not None:
        raise UsageError(f"{file}: says the learning rate; leave --learned-lr out.")
    content = read_torch(file)
    number = content
    if isinstance(content, Tensor) and content.numel() == 1 and not content.is_complex():
        number = float(dense(file, content).to(dtype=content.dtype).item())
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        found = f"the number {number}" if isinstance(number, int | float) else say_content(content)
        raise ConvertError(f"{file}: found {found}; expected one positive learning rate.")
    read["learned_lr"] = float(number)
    return float(number)


def _check_whitening(file: Path, answers: Answers, example: str | None) -> None:
    """Refuse a set whose normalisation nobody stated, and statements that contradict.

    Raises:
        UsageError: neither, or both, of --whitening and --normalization were given, or an inverse is wanted.
    """
    if answers.whitening == "dewhitened":
        raise UsageError(f"{file}: holds one form of the pixels; say --whitening whitened, or --normalization.")
    if answers.whitening and answers.normalization:
        raise UsageError("--normalization does not go with --whitening whitened: whitening replaced it.")
    if not answers.whitening and not answers.normalization:
        raise UsageError(
            f"{file}: does not say whether its pixels are normalised or, for use_zca, whitened. For normalised ones "
            f"give --dataset {example or 'cifar10'} (or --normalization); for whitened ones --whitening whitened."
        )


def _recipe(soft: SoftValues | None) -> Recipe | None:
    """Return the training of DD-Ranking's demo for soft labels; none for hard ones, where it searches the rate."""
    if soft is None:
        return None
    return RECIPES["datm"].model_copy(update={"batch_size": 256, "source": "DD-Ranking"})
