"""GIFT's input files (LINs-lab/GIFT, read at commit 38db552b): distilled sets of other methods, packed for it.

What its evaluation reads, and what people pack for it; GIFT writes no data:

    syn_data/<method>/<dataset>_<model>/ipc<n>/data.pt    a dictionary: dataset, data, label

dataset: a name such as cifar100, tinyimagenet or imagenet-1k. data: float32 [n, 3, height, width]; GIFT normalises it
when it trains, so it is meant to be plain 0..1 pixels. label: class numbers [n] or [n, 1], or a row an image. A
mosaic factor is an argument of its program (1 by default) and in no file.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ladd_converters.pairs import (
    LOOKED_AT,
    Facts,
    ask_classes,
    check_dataset,
    find_files,
    is_soft,
    need_classes,
    one_of,
    refuse_answers,
    refuse_soft_answer,
    to_classes,
    to_images,
    to_soft,
    unnormalized,
)
from ladd_converters.torch_files import dense, read_torch, say_content
from ladd_data import (
    Answers,
    Ask,
    ConvertError,
    Description,
    Distilled,
    Normalization,
    Preset,
    Recipe,
    SoftValues,
    UsageError,
)

REPOSITORY = "https://github.com/LINs-lab/GIFT"
_DATA = re.compile(r"data\.pt")
_IPC = re.compile(r"ipc\d+")
_EXPECTED = "data.pt; expected GIFT's syn_data/<method>/<dataset>_<model>/ipc<n>/data.pt"
_NOT_HERE = ("images", "labels", "iteration", "experiment", "learned_lr")
_FAR = 0.5
"""Plain pixels may leave 0..1 by a little; those further out than this are likely normalised."""
_MOSAICS = ("idc", "rded")
_RAW = "The pixels stored are plain 0..1; GIFT normalises them by the dataset's mean and std when it trains."


class GiftConverter:
    """Reads one data.pt packed for GIFT."""

    name: ClassVar[str] = "gift"
    summary: ClassVar[str] = "GIFT: data.pt with dataset, data and label, another method's set packed for GIFT"
    datasets: ClassVar[Mapping[str, Preset]] = {
        "cifar10": Preset("cifar10", "none"),
        "cifar100": Preset("cifar100", "none"),
        "tinyimagenet": Preset("tinyimagenet", "none"),
        "imagenet-1k": Preset("imagenet-1k", "none"),
    }

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a file for GIFT, or None."""
        for file in find_files(path, _DATA, LOOKED_AT):
            if _holds_dictionary(file):
                return f"data.pt in {file.parent.name}, a dictionary as GIFT reads"
        return None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        file = one_of(path, find_files(path, _DATA), _EXPECTED)
        asks = [ask_classes(None)]
        if _method_in(file) in _MOSAICS:
            asks.append(Ask("--mosaic-factor", "the method may write mosaics, and no file says so", "1"))
        notes = ("Which loss the labels are for, and what they are, is asked where they are a row an image.", _RAW)
        return Description("data.pt, a dictionary as GIFT reads", (file,), tuple(asks), notes)

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a file; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, _NOT_HERE)
        file = path if path.is_file() else one_of(path, find_files(path, _DATA), _EXPECTED)
        method = _method_in(file)
        read: Facts = {"method_in_path": method} if method else {}
        dataset, data, label = _open(file)
        check_dataset(file, dataset, answers)
        if answers.dataset is None:
            read["dataset"] = dataset
        images = to_images(file, data, read)
        notes: list[str] = []
        soft: SoftValues | None = None
        if is_soft(label):
            soft = to_soft(file, label, answers, read)
            labels = soft.values.argmax(1).astype(np.int64)
            read["hard_class"] = "the largest label"
            notes.append("The hard classes are where the labels are largest: the file does not say them.")
        else:
            refuse_soft_answer(file, answers)
            labels = to_classes(file, label, read)
        normalization = _normalization(file, images, answers, read)
        if normalization and not any(normalization.mean):
            notes.append(_RAW)
        return Distilled(
            method=method or "unknown, packed for GIFT",
            repository=None,
            images=images,
            labels=labels,
            classes=need_classes(file, answers, dataset if dataset in self.datasets else None),
            normalization=normalization,
            whitening=_whitening(answers),
            files=(file,),
            soft=soft,
            read=read,
            asserted=answers.said(),
            mosaic_factor=_mosaic_factor(file, method, answers),
            recipe=recipe_for(len(images), dataset),
            notes=tuple(notes),
        )


def _holds_dictionary(file: Path) -> bool:
    """Tell from the start of its outline whether a torch file holds a dictionary of dataset, data and label."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            if name is None:
                return False
            with archive.open(name) as pickled:
                head = pickled.read(1 << 16)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return False
    return head[2:3] == b"}" and b"dataset" in head and b"label" in head


def _method_in(file: Path) -> str | None:
    parts = file.parts
    fits = len(parts) >= 4 and bool(_IPC.fullmatch(parts[-2]))
    return parts[-4].lower() if fits and not parts[-4].startswith(("/", ".")) else None


def _open(file: Path) -> tuple[str, Tensor, Tensor]:
    content = read_torch(file)
    keys = ("dataset", "data", "label")
    expected = "expected a dictionary of dataset (a name), data and label (tensors), as GIFT reads"
    if not isinstance(content, Mapping) or not all(key in content for key in keys):
        raise ConvertError(f"{file}: found {say_content(content)}; {expected}.")
    dataset, data, label = (content[key] for key in keys)
    if not isinstance(dataset, str) or not isinstance(data, Tensor) or not isinstance(label, Tensor):
        found = ", ".join(f"{key}: {type(content[key]).__name__}" for key in keys)
        raise ConvertError(f"{file}: found {found}; {expected}.")
    return dataset[:200], dense(file, data), dense(file, label)


def _whitening(answers: Answers) -> Literal["none", "zca"]:
    return "zca" if answers.whitening == "whitened" else "none"


def _normalization(file: Path, images: NDArray[np.float32], answers: Answers, read: Facts) -> Normalization | None:
    """Return that of plain pixels, unless the person says otherwise or the pixels are clearly not plain.

    Raises:
        UsageError: the pixels lie far outside 0..1 and nobody said why, or the answers contradict each other.
    """
    if answers.whitening and answers.normalization:
        raise UsageError(f"--normalization does not go with --whitening {answers.whitening}.")
    if answers.whitening == "whitened":
        return None
    if answers.normalization is not None and answers.dataset is None:
        return answers.normalization
    low, high = float(images.min(initial=0)), float(images.max(initial=0))
    if answers.whitening is None and (low < -_FAR or high > 1 + _FAR):
        raise UsageError(
            f"{file}: found pixels {low:.3g} .. {high:.3g}; GIFT is meant to read 0 .. 1. Say what they are with "
            "--classes and --normalization none (0..1, unclamped), --normalization and the preset they were "
            "normalised by, or --whitening whitened."
        )
    if answers.normalization is not None:
        return answers.normalization
    read["normalization"] = "none: GIFT reads plain 0..1 pixels"
    return unnormalized(images.shape[1] if images.shape[1] in (1, 3) else 3)


def _mosaic_factor(file: Path, method: str | None, answers: Answers) -> int:
    if answers.mosaic_factor is None and method in _MOSAICS:
        raise UsageError(
            f"{file}: is of {method}, which may write mosaics, and no file says so. Give --mosaic-factor: pictures "
            "per side of each image, 1 if it is one picture."
        )
    return answers.mosaic_factor or 1


def recipe_for(images: int, dataset: str) -> Recipe:
    """Return GIFT's training: AdamW, batches by the number of images, DSA drawn per image."""
    batch = next((batch for most, batch in ((10, 10), (500, 50), (20000, 100)) if images <= most), 200)
    return Recipe.model_validate(
        {
            "loss": "gift",
            "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-4},
            "schedule": {"kind": "step", "at": (2 / 3, 5 / 6), "factor": 0.2},
            "epochs": 300 if dataset == "imagenet-1k" else 1000,
            "batch_size": batch,
            "augmentation": {"dsa": "color_crop_cutout_flip_scale_rotate", "dsa_per_image": True},
            "source": "GIFT",
        }
    )
