"""IDC: Information-intensive Dataset Condensation (snu-mllab/Efficient-Dataset-Condensation, commit ceac95ab).

What condense.py leaves in ./results/<dataset>/<model><tags>_ipc<ipc>/:

    data.pt      a list [images, labels], written four times in a run
    args.txt     JSON: every argument, "factor" among them; the folder's name says it, too (_factor2)
    img<it>.png, init.png, log.txt, a copy of condense.py    not read

images: float32 [classes * ipc, channels, height, width], class by class, plain pixels: nominally 0..1, a step or
two outside, never normalised (training normalises them on the way in). With a factor f above 1 each is a mosaic of
f x f pictures, each enlarged to full size at use. labels: int64. Runs over many classes are split: folders
..._<classes each>_phase<k>, put together in the order of k; each numbers its classes from 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ladd_converters.pairs import (
    LOOKED_AT,
    Facts,
    ask_classes,
    check_dataset,
    find_files,
    natural,
    need_classes,
    one_of,
    refuse_answers,
    refuse_soft_answer,
    to_classes,
    to_images,
    unnormalized,
)
from ladd_converters.torch_files import dense, read_torch, say_content
from ladd_data import (
    RECIPES,
    Answers,
    Ask,
    ConvertError,
    Description,
    Distilled,
    Normalization,
    Preset,
    Recipe,
    UsageError,
)

REPOSITORY = "https://github.com/snu-mllab/Efficient-Dataset-Condensation"
_DATA = re.compile(r"data\.pt")
_FOLDER = re.compile(r".+_ipc\d+(_\d+)?(_phase\d+)?")
_PHASE = re.compile(r"(?P<run>.+)_phase(?P<number>\d+)")
_FACTOR = re.compile(r"_factor(\d+)(?:_|$)")
_NOT_HERE = ("images", "labels", "iteration", "experiment", "whitening", "learned_lr")
_FAR = 2.0
"""Unclamped steps leave 0..1 by little; normalised pixels by more than this."""
_RAW = "The pixels stored are plain 0..1; IDC normalises them by the dataset's mean and std when it trains."
_KEPT_ARGUMENTS = ("dataset", "ipc", "factor", "decode_type", "net_type", "niter", "nclass", "nclass_sub", "phase")


@dataclass(frozen=True, slots=True)
class _Part:
    """One data.pt and what args.txt beside it says; nothing where that is absent or no JSON."""

    file: Path
    arguments: Mapping[str, object]

    @property
    def factor(self) -> tuple[int, str] | None:
        """The mosaic factor, and where it is written."""
        said = self.arguments.get("factor")
        if isinstance(said, int) and not isinstance(said, bool):
            return max(said, 1), "args.txt"
        tag = _FACTOR.search(self.file.parent.name)
        return (max(int(tag[1]), 1), "the folder's name") if tag else None

    @property
    def dataset(self) -> str | None:
        """What was distilled, by IDC's name."""
        said = self.arguments.get("dataset")
        return {"fashion": "fashionmnist"}.get(said, said) if isinstance(said, str) else None


class IdcConverter:
    """Reads one run of IDC, or the phases of one."""

    name: ClassVar[str] = "idc"
    summary: ClassVar[str] = "IDC: data.pt of a run folder (mosaics kept as they are), or of its phases"
    datasets: ClassVar[Mapping[str, Preset]] = {
        "cifar10": Preset("cifar10", "none"),
        "cifar100": Preset("cifar100", "none"),
        "fashionmnist": Preset("fashionmnist", "none-grey"),
        "mnist": Preset("mnist", "none-grey"),
        "svhn": Preset("svhn", "none"),
    }

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of IDC, or None."""
        files = [file for file in find_files(path, _DATA, LOOKED_AT) if _is_idc(file)]
        return f"data.pt in {files[0].parent.name}" if files else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        parts = _parts(path)
        first = parts[0]
        asks = [ask_classes(first.dataset if first.dataset in self.datasets else None)]
        if first.factor is None:
            asks.append(Ask("--mosaic-factor", "neither args.txt nor the folder's name says it", "2"))
        return Description(
            f"data.pt in {first.file.parent.name}", tuple(part.file for part in parts), tuple(asks), (_RAW,)
        )

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, _NOT_HERE)
        parts = _parts(path)
        first = parts[0]
        check_dataset(first.file, first.dataset, answers)
        refuse_soft_answer(first.file, answers)
        read: Facts = {key: first.arguments[key] for key in _KEPT_ARGUMENTS if _is_fact(first.arguments.get(key))}  # type: ignore[misc]
        if answers.dataset is not None:
            read.pop("dataset", None)
        factor = _factor(parts, answers, read)
        images, labels = _put_together(parts, read)
        classes = need_classes(first.file, answers, first.dataset if first.dataset in self.datasets else None)
        notes = [_RAW]
        if factor > 1:
            notes.append(f"Each stored image is a mosaic of {factor}x{factor} pictures; it is kept whole.")
        if factor > 1 and read.get("decode_type") in ("multi", "bound"):
            notes.append(f"IDC takes this mosaic apart at every factor up to {factor}, not at {factor} only.")
        return Distilled(
            method="IDC",
            repository=REPOSITORY,
            images=images,
            labels=labels,
            classes=classes,
            normalization=_normalization(first.file, images, answers, read),
            whitening="none",
            files=tuple(file for part in parts for file in _files(part)),
            read=read,
            asserted=answers.said(),
            mosaic_factor=factor,
            recipe=_recipe(first.arguments, images, labels, factor),
            notes=tuple(notes),
        )


def _is_idc(file: Path) -> bool:
    return (file.parent / "args.txt").is_file() or bool(_FOLDER.fullmatch(file.parent.name))


def _is_fact(value: object) -> bool:
    return isinstance(value, str | int) and len(str(value)) < 200


def _parts(path: Path) -> list[_Part]:
    """Return the run's data.pt, or those of its phases in order.

    Raises:
        UsageError: there is none, or there are several runs.
    """
    files = [path] if path.is_file() else find_files(path, _DATA)
    runs: dict[str, list[Path]] = {}
    for file in files:
        phase = _PHASE.fullmatch(file.parent.name)
        runs.setdefault(str(file.parent.with_name(phase["run"])) if phase else str(file), []).append(file)
    phases = next(iter(runs.values())) if len(runs) == 1 else []
    if len(phases) < 2:
        return [_part(one_of(path, files, "data.pt; expected a run folder of IDC (results/<dataset>/<run>)"))]
    numbers = [int(_PHASE.fullmatch(file.parent.name)["number"]) for file in phases]  # type: ignore[index]
    if sorted(numbers) != list(range(len(phases))):
        missing = sorted(set(range(max(numbers) + 1)) - set(numbers))
        raise UsageError(
            f"{path}: found phases {sorted(numbers)}; phase {missing or 'numbers'} must be there once each."
        )
    return [_part(file) for file in sorted(phases, key=lambda file: natural(file.parent))]


def _part(file: Path) -> _Part:
    try:
        arguments = json.loads((file.parent / "args.txt").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        arguments = {}
    return _Part(file, arguments if isinstance(arguments, dict) else {})


def _files(part: _Part) -> list[Path]:
    return [part.file, part.file.parent / "args.txt"] if part.arguments else [part.file]


def _factor(parts: list[_Part], answers: Answers, read: Facts) -> int:
    """Return the mosaic factor that the run says, or else the one answered.

    Raises:
        UsageError: neither, or they differ.
    """
    first, said = parts[0], answers.mosaic_factor
    if first.factor is None:
        if said is None:
            raise UsageError(
                f"{first.file}: may hold mosaics: neither args.txt nor the folder's name (_factor2) says so. Give "
                "--mosaic-factor: pictures per side of each image, 1 if it is one picture."
            )
        return said
    factor, where = first.factor
    others = {part.factor[0] for part in parts if part.factor}
    if len(others) > 1:
        raise ConvertError(f"{first.file}: found phases of different factors, {sorted(others)}; expected one run's.")
    if said is not None and said != factor:
        raise UsageError(f"{first.file}: {where} says factor {factor}; --mosaic-factor {said} contradicts it.")
    read.pop("factor", None)
    if said is None:
        read["mosaic_factor"] = factor
    read["mosaic_factor_from"] = where
    return factor


def _put_together(parts: list[_Part], read: Facts) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the parts; classes that each part numbers from 0 are moved behind those of the parts before."""
    images: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.int64]] = []
    before = 0
    for part in parts:
        pixels, numbers = _read_pair(part.file, read)
        if images and pixels.shape[1:] != images[0].shape[1:]:
            found = f"images {list(pixels.shape[1:])} after {list(images[0].shape[1:])}"
            raise ConvertError(f"{part.file}: found {found}; expected phases of one size.")
        if before and numbers.size and numbers.min() == 0:
            numbers = numbers + before
            read["labels_moved"] = "each phase numbers its classes from 0"
        before = int(numbers.max()) + 1 if numbers.size else before
        images.append(pixels)
        labels.append(numbers)
    if len(parts) > 1:
        read["phases"] = len(parts)
        read.pop("phase", None)
    return np.concatenate(images), np.concatenate(labels)


def _read_pair(file: Path, read: Facts) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    content = read_torch(file)
    pair = content if isinstance(content, list | tuple) and len(content) == 2 else (None, None)
    images, labels = pair
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
        raise ConvertError(f"{file}: found {say_content(content)}; expected a list of two tensors, [images, labels].")
    return to_images(file, dense(file, images), read), to_classes(file, dense(file, labels), read)


def _normalization(file: Path, images: NDArray[np.float32], answers: Answers, read: Facts) -> Normalization:
    """Return that of plain pixels, which IDC's are.

    Raises:
        UsageError: another one was answered.
        ConvertError: the pixels lie too far outside 0..1 to be plain.
    """
    channels = images.shape[1]
    plain = unnormalized(channels) if channels in (1, 3) else None
    given = answers.normalization
    if given is not None and (any(given.mean) or set(given.std) != {1.0}):
        raise UsageError(f"{file}: IDC stores plain 0..1 pixels: leave --normalization out, or say none.")
    low, high = float(images.min(initial=0)), float(images.max(initial=0))
    if low < -_FAR or high > 1 + _FAR:  # false for NaN, which is refused later and in other words
        raise ConvertError(
            f"{file}: found pixels {low:.3g} .. {high:.3g}; expected about 0 .. 1, as IDC writes. If another program "
            "normalised them, save the two tensors and use ladd convert tensors with --normalization."
        )
    if given is None:
        read["normalization"] = "none: IDC stores plain 0..1 pixels"
    return given or plain or unnormalized(3)


def _recipe(
    arguments: Mapping[str, object], images: NDArray[np.float32], labels: NDArray[np.int64], factor: int
) -> Recipe:
    """Return IDC's evaluation: argument.py's rules by size, and what args.txt says in their place."""
    base = RECIPES["idc"]
    classes = int(labels.max(initial=0)) + 1
    large = images.shape[2] > 64
    changes: dict[str, object] = {}
    if large:
        changes["epochs"] = epochs_for_imagenet(len(images) // classes, factor, classes)
    for key in ("epochs", "batch_size"):
        said = arguments.get(key)
        if isinstance(said, int) and said > 0:
            changes[key] = said
    optimizer: dict[str, object] = {"lr": 0.1, "weight_decay": 1e-4} if large and classes >= 100 else {}
    for key in ("lr", "weight_decay", "momentum"):
        said = arguments.get(key)
        if isinstance(said, float) and 0 < said < 1:
            optimizer[key] = said
    changes["optimizer"] = base.optimizer.model_copy(update=optimizer) if base.optimizer else None
    own = base.augmentation
    if own and (arguments.get("dsa") is False or (not arguments and (large or classes > 10))):
        crop: dict[str, object] = {"crop_scale": (0.5, 1.0)} if large else {"crop_padding": 4}
        changes["augmentation"] = own.model_copy(update={"dsa": None, "flip": True} | crop)
    elif own and isinstance(arguments.get("dsa_strategy"), str):
        changes["augmentation"] = own.model_copy(update={"dsa": str(arguments["dsa_strategy"])[:200]})
    return Recipe.model_validate(base.model_copy(update=changes).model_dump())


def epochs_for_imagenet(ipc: int, factor: int, classes: int) -> int:
    """Return how many epochs IDC trains on ImageNet subsets: fewer for more pictures (argument.py, ipc_epoch)."""
    pictures = ipc * factor**2
    steps = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
    epochs = next((epochs for most, epochs in steps if pictures <= most), 300)
    return epochs * 2 // 3 // 100 * 100 if classes == 100 else epochs
