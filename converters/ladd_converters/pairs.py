"""Images and labels as tensors, checked and turned into what a converter delivers; and finding the files of a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from ladd_converters.torch_files import say_dtype, say_tensor
from ladd_data import Answers, Ask, Classes, ConvertError, Normalization, SoftValues, UsageError

LOOKED_AT = 3000
"""How many names `detect` looks at: a run of tensor files has few; a folder of pictures is somebody else's."""

PROBABILITY_SLACK = 1e-3

Facts = dict[str, JsonValue]


def find_files(path: Path, pattern: re.Pattern[str], most: int | None = None) -> list[Path]:
    """Return `path`, if it is a file of this name, or the files of such names below it, in natural order.

    Args:
        path: a file or folder; nothing is found where it cannot be read.
        pattern: must match a whole file name.
        most: give up, with what was found, after looking at so many names.
    """
    try:
        if path.is_file():
            return [path] if pattern.fullmatch(path.name) else []
    except OSError:  # a name that is too long, or not ours to look at
        return []
    found, looked = [], 0
    for folder, folders, names in os.walk(path):
        folders.sort()
        found += [Path(folder, name) for name in names if pattern.fullmatch(name)]
        looked += len(names) + len(folders)
        if most is not None and looked > most:
            break
    return sorted((file for file in found if file.is_file()), key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a key that sorts "phase2" before "phase10"."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def one_of(path: Path, files: list[Path], expected: str) -> Path:
    """Return the only file of a list.

    Raises:
        UsageError: there is none, or several; lists them.
    """
    if len(files) == 1:
        return files[0]
    if not path.exists():
        raise UsageError(f"{path}: no such folder or file.")
    if not files:
        raise UsageError(f"{path}: found no {expected}.")
    listing = ", ".join(str(file) for file in files[:8]) + (", ..." if len(files) > 8 else "")
    raise UsageError(f"{path}: found {len(files)} files of this kind; name one of them: {listing}.")


def plain_name(name: str) -> str:
    """Return a set's name as `--dataset` takes it: "CIFAR10", "fashion_mnist" become "cifar10", "fashionmnist"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def check_dataset(where: Path, found: str | None, answers: Answers) -> None:
    """Refuse a `--dataset` that a run's own names contradict.

    Raises:
        UsageError: they name another set.
    """
    if found and answers.dataset and plain_name(found) != plain_name(answers.dataset):
        raise UsageError(
            f"{where}: is named as {found}; --dataset {answers.dataset} contradicts it. If the name is wrong, give "
            "--classes and --normalization in place of --dataset."
        )


def ask_dataset(example: str | None) -> Ask:
    """Return the question for the classes and the normalisation, which no such file holds."""
    why = "the file holds class numbers and normalised pixels; the class names, mean and std are not in it"
    return Ask("--dataset", why, example or "cifar10")


def ask_classes(example: str | None) -> Ask:
    """Return the question for the classes alone."""
    return Ask("--dataset", "the file holds class numbers; the class names are not in it", example or "cifar10")


def need_classes(where: Path, answers: Answers, example: str | None = None) -> Classes:
    """Return the class list answered.

    Raises:
        UsageError: none was.
    """
    if answers.classes is None:
        raise UsageError(
            f"{where}: holds class numbers only. Name what was distilled (--dataset {example or 'cifar10'}), or give "
            "the names in label order: --classes imagenette, --classes a,b,c or --classes @FILE."
        )
    return answers.classes


def need_normalization(where: Path, answers: Answers, example: str | None = None) -> Normalization:
    """Return the normalisation answered.

    Raises:
        UsageError: none was.
    """
    if answers.normalization is None:
        raise UsageError(
            f"{where}: holds normalised pixels and does not say by which mean and std. Name what was distilled "
            f"(--dataset {example or 'cifar10'}), or give --normalization: a preset, or mean/std as "
            "0.5,0.5,0.5/0.5,0.5,0.5."
        )
    return answers.normalization


def unnormalized(channels: int) -> Normalization:
    """Return the normalisation of plain 0..1 pixels."""
    return Normalization(mean=(0.0,) * channels, std=(1.0,) * channels)


def to_images(where: Path, tensor: Tensor, read: Facts) -> NDArray[np.float32]:
    """Return images as float32 [n, channels, height, width]; another float type is noted in `read`.

    Raises:
        ConvertError: not floats of four axes.
    """
    if not tensor.is_floating_point() or tensor.dim() != 4:
        raise ConvertError(f"{where}: found images {say_tensor(tensor)}; expected floats [n, channels, height, width].")
    if tensor.dtype != torch.float32:
        read["images_dtype"] = say_dtype(tensor)
    return tensor.to(torch.float32).numpy()


def to_classes(where: Path, tensor: Tensor, read: Facts) -> NDArray[np.int64]:
    """Return class numbers as int64 [n]; they may be floats, or stand in a column [n, 1], which `read` notes.

    Raises:
        ConvertError: not one whole number an image.
    """
    flat = tensor.squeeze(1) if tensor.dim() == 2 and tensor.shape[1] == 1 else tensor
    if flat.dim() != 1 or flat.is_complex():
        raise ConvertError(f"{where}: found labels {say_tensor(tensor)}; expected class numbers, int64 [n].")
    numbers = flat.to(torch.int64)
    if not torch.equal(numbers.to(flat.dtype), flat):
        raise ConvertError(f"{where}: found labels {say_tensor(tensor)} that are not whole; expected class numbers.")
    if tensor.dtype != torch.int64:
        read["labels_dtype"] = say_dtype(tensor)
    if tensor.dim() == 2:
        read["labels_shape"] = list(tensor.shape)
    return numbers.numpy()


def is_soft(tensor: Tensor) -> bool:
    """Tell whether labels are a row of numbers an image."""
    return tensor.dim() == 2 and tensor.shape[1] > 1


def to_soft(
    where: Path, tensor: Tensor, answers: Answers, read: Facts, known: Literal["logits", "targets"] | None = None
) -> SoftValues:
    """Return whole-image soft labels, float32 [n, classes], and what their numbers are.

    Rows that are not negative and sum to 1 are probabilities; other rows are what `known` says the method
    writes, or what the person says. Rows of 1 where the method writes something else are asked for, too.

    Raises:
        UsageError: --label-space is needed, or contradicts the labels.
        ConvertError: the numbers are not real and finite.
    """
    if tensor.is_complex():
        raise ConvertError(f"{where}: found labels {say_tensor(tensor)}; expected real numbers [n, classes].")
    values = tensor.to(torch.float32).numpy()
    if not np.isfinite(values).all():
        raise ConvertError(f"{where}: found NaN or infinity in the labels; expected finite numbers. The run diverged.")
    sums = values.sum(1, dtype=np.float64)
    sum_to_one = bool(values.min(initial=0) >= 0 and np.abs(sums - 1).max(initial=0) < PROBABILITY_SLACK)
    said = answers.label_space
    if said == "classes" or (said == "probs" and not sum_to_one):
        what = "a row of numbers an image" if said == "classes" else "rows that do not sum to 1"
        raise UsageError(f"{where}: found labels {say_tensor(tensor)}, {what}; --label-space {said} contradicts them.")
    if said is not None:
        return SoftValues(values, said)
    if sum_to_one == (known is not None):
        found = "rows that sum to 1" if sum_to_one else "rows that do not sum to 1"
        options = f"probs, or {known}" if sum_to_one else "logits (a softmax makes them probabilities), or targets"
        raise UsageError(
            f"{where}: found labels {say_tensor(tensor)}, {found}; the file does not say what they are. "
            f"Give --label-space: {options}."
        )
    space = known or "probs"
    read["label_space"] = space
    return SoftValues(values, space)


def refuse_soft_answer(where: Path, answers: Answers) -> None:
    """Refuse a --label-space of soft labels where the labels are class numbers.

    Raises:
        UsageError: it was given.
    """
    if answers.label_space not in (None, "classes"):
        found = "class numbers, one an image"
        raise UsageError(f"{where}: found {found}; --label-space {answers.label_space} contradicts them.")


def refuse_answers(name: str, answers: Answers, options: Iterable[str]) -> None:
    """Refuse answers to questions that a method does not have, lest they be recorded as true.

    Args:
        name: the converter's.
        answers: what was said.
        options: fields of `Answers`, such as "mosaic_factor".

    Raises:
        UsageError: one of them was given.
    """
    for option in options:
        if getattr(answers, option) is not None:
            raise UsageError(f"--{option.replace('_', '-')}: ladd convert {name} has no use for it; leave it out.")
