"""Checking the tensors of a run of MTT's family: canvases, class numbers, soft labels, a learned learning rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from ladd_converters.pairs import is_soft, to_classes
from ladd_converters.torch_files import read_tensor, say_dtype, say_tensor
from ladd_data import Answers, Classes, ConvertError, UsageError

Facts = dict[str, JsonValue]
F32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
I64 = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

SUM_TOLERANCE = 1e-3
"""How far a row of probabilities in float32 may be from 1."""
_SIDES = {"cifar10": 32, "cifar100": 32, "svhn": 32, "mnist": 28, "fashionmnist": 28, "tinyimagenet": 64}


def check_canvas(file: Path, images: F32, answers: Answers) -> None:
    """Refuse canvases of --texture, as far as their size gives them away.

    Raises:
        ConvertError: the images are a whole number of times larger than the dataset's.
    """
    source = answers.dataset if answers.dataset in _SIDES else answers.classes.source if answers.classes else None
    side = _SIDES.get(source or "")
    height, width = images.shape[2:]
    if side is not None and height == width and height > side and height % side == 0:
        raise ConvertError(
            f"{file}: found {height}x{width} pixels; {source}'s pictures have {side}x{side}. This is a canvas of "
            f"--texture, from which training cuts {side}x{side} windows at random: it holds no set of whole pictures."
        )


def as_class_numbers(file: Path, tensor: Tensor, read: Facts, *, instead: str) -> I64:
    """Return int64 [n] of a tensor of whole numbers of any type, [n] or [n, 1].

    Args:
        file: where it comes from.
        tensor: as it was read.
        read: where an unusual type is noted.
        instead: what a labels file of another shape may be, a sentence.

    Raises:
        ConvertError: other numbers, or another shape.
    """
    if tensor.dim() != 1 and (tensor.dim() != 2 or is_soft(tensor)):
        raise ConvertError(f"{file}: found labels {say_tensor(tensor)}; expected class numbers, int64 [n]. {instead}")
    return to_classes(file, tensor, read)


def as_soft_labels(file: Path, tensor: Tensor, classes: Classes, read: Facts, *, nan: str) -> F32:
    """Return float32 [n, classes] of a tensor of that shape.

    Args:
        file: where it comes from.
        tensor: as it was read.
        classes: as answered.
        read: where an unusual type is noted.
        nan: why a row may be NaN, and what to do; a sentence.

    Raises:
        ConvertError: another shape or type, or a number that is not finite.
    """
    count = len(classes.names)
    if not tensor.is_floating_point() or tensor.dim() != 2:
        raise ConvertError(f"{file}: found {say_tensor(tensor)}; expected soft labels, float32 [n, {count}].")
    if tensor.shape[1] != count:
        raise ConvertError(
            f"{file}: found soft labels of {tensor.shape[1]} classes; {count} were given. "
            "Give the classes this run was made for."
        )
    if tensor.dtype != torch.float32:
        read["labels_dtype"] = say_dtype(tensor)
    values = tensor.to(torch.float32)
    bad = ~torch.isfinite(values).all(1)
    if bool(bad.any()):
        found = (
            f"NaN or infinity in {int(bad.sum())} of {len(bad)} soft labels (first: number {int(bad.int().argmax())})"
        )
        raise ConvertError(f"{file}: found {found}; expected finite numbers. {nan}")
    return values.numpy()


def are_probabilities(values: F32) -> bool:
    """Whether no number is negative and every row sums to 1."""
    sums = values.sum(1, dtype=np.float64)
    return bool(values.min() >= 0 and np.abs(sums - 1).max() <= SUM_TOLERANCE) if values.size else False


def classes_by_place(file: Path, soft: F32, *, program: str) -> tuple[I64, str | None]:
    """Return the hard classes of a set that is class by class, and a note where the soft labels disagree.

    Args:
        file: of the labels.
        soft: float32 [classes * ipc, classes].
        program: what writes them so.

    Raises:
        ConvertError: the images are not as many of each class.
    """
    images, classes = soft.shape
    if not images or images % classes:
        raise ConvertError(
            f"{file}: found {images} soft labels for {classes} classes; {program} writes as many of each, class by "
            "class, and its files do not say the class of an image otherwise."
        )
    hard = np.repeat(np.arange(classes, dtype=np.int64), images // classes)
    other = int((soft.argmax(1) != hard).sum())
    note = f"{other} of {images} soft labels are largest at another class than the image's own, which is by its place."
    return hard, note if other else None


def read_lr(file: Path, answers: Answers, read: Facts) -> float | None:
    """Return the learned learning rate: of the file, else as answered.

    Raises:
        ConvertError: the file holds something else than one positive number.
        UsageError: the person says another number than the file.
    """
    if not file.is_file():
        return answers.learned_lr
    tensor = read_tensor(file)
    if tensor.numel() != 1 or tensor.is_complex():
        raise ConvertError(f"{file}: found {say_tensor(tensor)}; expected one learning rate.")
    value = float(tensor)
    if not (np.isfinite(value) and value > 0):
        raise ConvertError(f"{file}: found a learning rate of {value}; expected a positive one. The run diverged.")
    if answers.learned_lr is None:
        read["learned_lr"] = value
    elif abs(answers.learned_lr - value) > 1e-4 * value:
        raise UsageError(f"--learned-lr {answers.learned_lr:g}: {file} says {value:.7g}. Leave the option out.")
    return value
