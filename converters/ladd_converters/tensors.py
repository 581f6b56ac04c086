"""Tensors of a method we have not met: one file of images and one of labels, or an .npz with both.

    <any>images<any>.pt  <any>labels<any>.pt    bare tensors; or .npy, arrays
    <any>.npz                                   arrays "images" and "labels", or "image" and "label"

images: float [n, 3 or 1, height, width] or [n, height, width, 3 or 1], in the input space of some network; or uint8,
natural pixels. labels: whole numbers [n] or [n, 1] of any type; or a row for each image, which may hold probabilities,
logits or regression targets: the person says which (--label-space). Everything else is asserted, too.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ladd_converters.pairs import refuse_answers, unnormalized
from ladd_converters.run_tensors import (
    F32,
    Facts,
    are_probabilities,
    as_class_numbers,
    as_soft_labels,
)
from ladd_converters.torch_files import read_tensor, refuse_text, say_dtype, say_tensor
from ladd_converters.trajectory_files import LISTED, MOST_NAMES, Pair, find_runs, walk
from ladd_converters.trajectory_runs import Labels, ask_dataset
from ladd_data import (
    Answers,
    Ask,
    Classes,
    ConvertError,
    Description,
    Distilled,
    Normalization,
    Preset,
    SoftValues,
    UsageError,
)

UNFOLDS = 100
"""How many times its size an .npz may unfold to: pixels hardly shrink, class numbers may."""
DATASETS: Mapping[str, Preset] = {  # of CIFAR-100 the field has three conventions, so one of them is named
    **{name: Preset(name, name) for name in ("cifar10", "svhn", "mnist", "fashionmnist")},
    "cifar100-mtt": Preset("cifar100", "cifar10"),
    **{name: Preset("cifar100", name) for name in ("cifar100-dc", "cifar100-gvbsm")},
    **{name: Preset(name, "imagenet") for name in ("tinyimagenet", "imagenet-1k", "imagenette")},
}
_FREPO = ("image", "label")  # the names that FRePo gives, too, and which are left to its converter where one detects
EXAMPLE = "a pair such as images.pt and labels.pt (.pt, .npy), or an .npz with images and labels"
_IMAGES = re.compile(r"(.*?)images?(.*)\.(pt|pth|npy)", re.IGNORECASE)
_NORMALIZATION = (
    "does not say how its pixels were normalised. Give --normalization: a preset such as cifar10 or imagenet, mean/std "
    "as 0.5,0.5,0.5/0.5,0.5,0.5, or none for pixels in 0..1. If they are ZCA-whitened: --whitening whitened instead."
)
_SPACE = (
    "does not say what its numbers are. Say --label-space probs (rows sum to 1), logits (softmax is still to be put on "
    "them) or targets (of a regression)"
)


class TensorsConverter:
    """Reads a pair of images and labels, all facts of which a person asserts."""

    name: ClassVar[str] = "tensors"
    summary: ClassVar[str] = "any method: a file of images and one of labels (.pt, .npy), or both in an .npz"
    datasets: ClassVar[Mapping[str, Preset]] = DATASETS

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a plain pair, or None where it looks like a known method's."""
        pairs = _find_pairs(path, MOST_NAMES)
        if not pairs or find_runs(path, MOST_NAMES) or _keys(pairs[0].images) == _FREPO:
            return None
        if pairs[0].images == pairs[0].labels:
            return f'{pairs[0].images.name} holds arrays "images" and "labels"'
        return f"{pairs[0].images.name} beside {pairs[0].labels.name}, of no known method"

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        pairs = _find_pairs(path, MOST_NAMES)
        if not pairs:
            raise UsageError(f"{path}: found no {EXAMPLE}.")
        pair = pairs[0]
        asks = [ask_dataset(pair.images.parent, self.datasets)]
        if len(pairs) > 1:
            listing = ", ".join(str(pair.images) for pair in pairs[:LISTED])
            asks.insert(0, Ask("--labels", "goes with --images", str(pair.labels)))
            asks.insert(0, Ask("--images", f"there are {len(pairs)} pairs here ({listing})", str(pair.images)))
        files = tuple(dict.fromkeys((pair.images, pair.labels)))
        note = "Nothing is known of the method: all facts but shapes are asserted, and there is no recipe."
        return Description(self.detect(path) or "a file of images and one of labels", files, tuple(asks), (note,))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a pair; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, ("experiment", "split", "iteration"))
        pair = _choose(path, answers)
        if answers.classes is None:
            raise UsageError(
                f"{pair.labels}: does not say which classes. In label order: --classes cifar10, --classes a,b,c or "
                "--classes @FILE."
            )
        read: Facts = {}
        images, labels = _open(pair)
        pixels, normalization = _read_pixels(pair.images, images, answers, read)
        found = _read_labels(pair.labels, labels, answers, answers.classes, read)
        return Distilled(
            method="unknown",
            repository=None,
            images=pixels,
            labels=found.hard,
            classes=answers.classes,
            normalization=normalization,
            whitening="zca" if answers.whitening == "whitened" else "none",
            files=tuple(dict.fromkeys((pair.images, pair.labels))),
            soft=found.soft,
            read=read,
            asserted=answers.said(),
            mosaic_factor=answers.mosaic_factor or 1,
            learned_lr=answers.learned_lr,
            notes=found.notes,
        )


def _find_pairs(path: Path, most_names: int | None) -> list[Pair]:
    """Return the pairs at or below a path; an .npz stands for both files of its pair."""
    try:
        if path.is_file():
            return [pair] if (pair := _pair_of(path)) else []
    except OSError:  # a name that is too long
        return []
    files = (folder / name for folder, names in walk(path, most_names) for name in sorted(names))
    return [pair for file in files if (pair := _pair_of(file))]


def _pair_of(file: Path) -> Pair | None:
    if file.suffix == ".npz":
        return Pair(file, file) if _keys(file) else None
    name = _IMAGES.fullmatch(file.name)
    if name is None:
        return None
    word = "Labels" if "Images" in file.name else "labels"
    for labels in (f"{name[1]}{word}{name[2]}.{name[3]}", f"{name[1]}{word[:-1]}{name[2]}.{name[3]}"):
        if file.with_name(labels).is_file():
            return Pair(file, file.with_name(labels))
    return None


def _keys(file: Path) -> tuple[str, str] | None:
    """Return the names of the two arrays of an .npz, without reading them; None where it is of something else."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return None
    for images, labels in (("images", "labels"), _FREPO):
        if {images, labels} <= names:
            return images, labels
    return None


def _choose(path: Path, answers: Answers) -> Pair:
    if answers.images is not None or answers.labels is not None:
        if answers.images is None or answers.labels is None:
            raise UsageError("--images and --labels go together: name both files of the pair.")
        return Pair(answers.images, answers.labels)
    if not path.exists():
        raise UsageError(f"{path}: no such folder or file.")
    if path.is_file() and path.suffix == ".npz":
        return Pair(path, path)
    pairs = _find_pairs(path, None)
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        listing = ", ".join(str(pair.images) for pair in pairs[:LISTED])
        more = f" and {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
        raise UsageError(f"{path}: found {len(pairs)} pairs; name one of them: {listing}{more}.")
    raise UsageError(f"{path}: found no {EXAMPLE}. Name a pair of other names with --images and --labels.")


def _open(pair: Pair) -> tuple[Tensor, Tensor]:
    if pair.images == pair.labels:
        keys = _keys(pair.images)
        if keys is None:
            _check_npz(pair.images)
            raise ConvertError(f'{pair.images}: expected an .npz with arrays "images" and "labels".')
        return _read_array(pair.images, keys[0]), _read_array(pair.images, keys[1])
    return _read_file(pair.images), _read_file(pair.labels)


def _check_npz(file: Path) -> None:
    """Refuse what is no .npz for what it is.

    Raises:
        ConvertError: an empty file, a pointer, a page, or a zip file that was cut short.
    """
    refuse_text(file, "an .npz")
    if not zipfile.is_zipfile(file):
        raise ConvertError(f"{file}: found no .npz, or one cut short; expected all of it. Download it again.")


def _read_file(file: Path) -> Tensor:
    return _read_array(file, None) if file.suffix == ".npy" else read_tensor(file)


def _read_array(file: Path, key: str | None) -> Tensor:
    """Return the array of an .npy, or one of an .npz; arrays of Python objects, which could run code, are refused."""
    if not file.is_file():
        raise UsageError(f"{file}: {'is not a file' if file.exists() else 'no such file'}.")
    try:
        refuse_text(file, "an array of numbers")
        if key is None:
            array = np.load(file, allow_pickle=False)
        else:
            with zipfile.ZipFile(file) as archive, archive.open(f"{key}.npy") as member:
                unfolded = archive.getinfo(f"{key}.npy").file_size
                if unfolded > UNFOLDS * file.stat().st_size:
                    raise ConvertError(f"{file}: found {file.stat().st_size} bytes that unfold to {unfolded}; damaged?")
                array = np.lib.format.read_array(member, allow_pickle=False)
        array = np.array(array, order="C")
        return torch.from_numpy(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))
    except ConvertError:
        raise
    except OSError as error:
        raise ConvertError(f"{file}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # damage can raise nearly anything; arrays of Python objects raise ValueError
        reason = (f"{type(error).__name__}: {error}".splitlines() or ["?"])[0][:120]
        raise ConvertError(f"{file}: found no plain array of numbers ({reason}). Nothing in it was run.") from error


def _read_pixels(file: Path, tensor: Tensor, answers: Answers, read: Facts) -> tuple[F32, Normalization | None]:
    """Return model-input pixels, float32 [n, channels, height, width], and their normalisation."""
    tensor = _channels_first(file, tensor, read)
    if tensor.dtype == torch.uint8:
        return _read_natural(file, tensor, answers, read)
    if not tensor.is_floating_point():
        raise ConvertError(f"{file}: found {say_tensor(tensor)}; expected pixels as floats, or as uint8.")
    if tensor.dtype != torch.float32:
        read["images_dtype"] = say_dtype(tensor)
    normalization = answers.normalization
    if answers.whitening is None and normalization is None:
        raise UsageError(f"{file}: {_NORMALIZATION}")
    if answers.whitening is not None and normalization is not None:
        raise UsageError(f"--normalization does not go with --whitening {answers.whitening}.")
    if answers.whitening == "dewhitened":
        normalization = unnormalized(tensor.shape[1])
    return tensor.to(torch.float32).numpy(), normalization


def _read_natural(file: Path, tensor: Tensor, answers: Answers, read: Facts) -> tuple[F32, Normalization]:
    """Return the model input of natural pixels; a normalisation that is given is put on, and undone when stored."""
    if answers.whitening is not None:
        raise UsageError(f"{file}: holds uint8 pixels, which are not whitened. Leave --whitening out.")
    read["images_dtype"] = "uint8"
    channels = tensor.shape[1]
    normalization = answers.normalization or unnormalized(channels)
    if len(normalization.mean) != channels:
        given = f"{len(normalization.mean)}, as the normalization given has"
        raise ConvertError(f"{file}: found {channels} channel(s); expected {given}.")
    mean, std = (np.asarray(part, np.float64)[:, None, None] for part in (normalization.mean, normalization.std))
    return ((tensor.numpy() / 255 - mean) / std).astype(np.float32), normalization


def _channels_first(file: Path, tensor: Tensor, read: Facts) -> Tensor:
    """Return [n, channels, height, width]; other orders are noted."""
    first, last = (tensor.dim() == 4 and tensor.shape[axis] in (1, 3) for axis in (1, 3))
    if first and last:
        raise ConvertError(
            f"{file}: found {say_tensor(tensor)}, in which either axis may be of channels. Save it as [n, c, h, w]."
        )
    if first:
        return tensor
    if last:
        read["images_axes"] = "n, height, width, channels"
        return tensor.permute(0, 3, 1, 2).contiguous()
    if tensor.dim() == 3:
        read["images_axes"] = "n, height, width"
        return tensor[:, None]
    expected = "[n, 3 or 1, height, width] or [n, height, width, 3 or 1]"
    raise ConvertError(f"{file}: found {say_tensor(tensor)}; expected images, {expected}.")


def _read_labels(file: Path, tensor: Tensor, answers: Answers, classes: Classes, read: Facts) -> Labels:
    space = answers.label_space
    if tensor.dim() != 2 or tensor.shape[1] == 1:
        if space not in (None, "classes"):
            raise UsageError(f"--label-space {space}: {file} holds one number for each image, which are class numbers.")
        return Labels(as_class_numbers(file, tensor, read, instead="Or a row for each image, float32 [n, classes]."))
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float32)
    values = as_soft_labels(file, tensor, classes, read, nan="Leave those images out, or mend their labels.")
    hard = values.argmax(1).astype(np.int64)
    one_hot = bool(((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all())
    if space == "classes" and not one_hot:
        raise UsageError(f"--label-space classes: {file} holds rows that are not one-hot.")
    if one_hot and space in (None, "classes"):
        read["labels_form"] = "one-hot"
        return Labels(hard)
    if space is None or space == "classes":
        hint = "They sum to 1." if are_probabilities(values) else "They do not sum to 1."
        raise UsageError(f"{file}: {_SPACE}. {hint}")
    note = "The hard class of an image is where its soft label is largest; no file says it."
    return Labels(hard, SoftValues(values, space), (note,))
