"""MTT: Matching Training Trajectories (GeorgeCazenavette/mtt-distillation, read at commit 50dccea4).

What its distill.py leaves in ./logged_files/<dataset>/<run>/:

    images_<it>.pt  labels_<it>.pt      every evaluation; bare tensors, class by class
    images_best.pt  labels_best.pt      copied when the accuracy improves
    images_zca_<it>.pt                  runs with --zca and IPC < 50 only

images: float32 [classes * ipc, 3, height, width], never clamped, in the network's input space: normalised
by the dataset's mean and std, or ZCA-whitened. The names mislead: in a ZCA run `images_<it>` are the
whitened ones and `images_zca_<it>` the same pictures with the whitening undone, on the raw 0..1 scale.
labels: int64 [classes * ipc]. Nothing says which normalisation, which classes in which order, or the
learned learning rate. ImageNet subsets number their classes by a hand-written list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from ladd_converters.torch_files import read_tensor
from ladd_data import Answers, ConvertError, Distilled, Normalization, UsageError

REPOSITORY = "https://github.com/GeorgeCazenavette/mtt-distillation"
_IMAGES_NAME = re.compile(r"images_(?P<zca>zca_)?(?P<iteration>[\w.-]+)\.pt")


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two files to read."""

    images: Path
    labels: Path

    @property
    def iteration(self) -> str | None:
        """What stands for the iteration in the images file's name; None for a name that MTT does not give."""
        name = _IMAGES_NAME.fullmatch(self.images.name)
        return name["iteration"] if name else None

    @property
    def dewhitened(self) -> bool:
        """Whether the images file is named as a de-whitened copy."""
        return self.images.name.startswith("images_zca_")


class MttConverter:
    """Reads one run of MTT, or any pair of files it wrote."""

    name: ClassVar[str] = "mtt"
    summary: ClassVar[str] = "MTT: images_best.pt + labels_best.pt of a run folder, or any named pair"

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of MTT, or None."""
        try:
            found = {name for name in ("images_best.pt", "labels_best.pt", "lr_best.pt") if (path / name).is_file()}
        except OSError:  # not ours to look at
            return None
        mtt = found == {"images_best.pt", "labels_best.pt"}  # DATM writes lr_best.pt, too
        return "images_best.pt beside labels_best.pt, no lr_best.pt" if mtt else None

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        named = _find_pair(path, answers)
        if answers.classes is None:
            raise UsageError(
                f"{named.labels}: holds class numbers only. Give the names in label order: --classes cifar10, "
                "--classes imagenette, --classes a,b,c or --classes @FILE."
            )
        zca_files = sorted(named.images.parent.glob("images_zca_*.pt"))
        _check_whitening(named, answers, zca_files)
        pair = _find_dewhitened(named) if answers.whitening == "dewhitened" else named
        read: dict[str, JsonValue] = {"zca_files_present": bool(zca_files)}
        if pair.iteration is not None:
            read["iteration"] = pair.iteration
        labels, images = _read_labels(pair.labels, read), _read_images(pair.images, read)
        normalization = answers.normalization
        if answers.whitening == "dewhitened":  # on the raw 0..1 scale
            channels = 1 if images.shape[1] == 1 else 3
            normalization = Normalization(mean=(0.0,) * channels, std=(1.0,) * channels)
        return Distilled(
            method="MTT",
            repository=REPOSITORY,
            images=images,
            labels=labels,
            classes=answers.classes,
            normalization=normalization,
            whitening="zca" if answers.whitening == "whitened" else "none",
            files=(pair.images, pair.labels),
            read=read,
            asserted=_asserted(answers),
        )


def _asserted(answers: Answers) -> dict[str, JsonValue]:
    """Return what the person said, as the manifest keeps it."""
    said: dict[str, JsonValue] = {
        "classes": list(answers.classes.names) if answers.classes else None,
        "normalization": answers.normalization.model_dump(mode="json") if answers.normalization else None,
        "whitening": answers.whitening,
        "images": answers.images.name if answers.images else None,
        "labels": answers.labels.name if answers.labels else None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _find_pair(path: Path, answers: Answers) -> _Pair:
    """Find the images and labels files that the user means."""
    if not path.exists():
        raise UsageError(f"{path}: no such folder or file.")
    if answers.images is not None or answers.labels is not None:
        if answers.images is None or answers.labels is None:
            raise UsageError("--images and --labels go together: name both files of the pair.")
        return _Pair(answers.images, answers.labels)
    if path.is_dir():
        return _find_best(path)
    if _IMAGES_NAME.fullmatch(path.name) is None:
        raise UsageError(f"{path}: expected a run folder or an images_<it>.pt. Or name a pair: --images, --labels.")
    labels = _labels_beside(path)
    if not labels.is_file():
        raise UsageError(f"{path}: found no {labels.name} beside it. Name the pair with --images and --labels.")
    return _Pair(path, labels)


def _find_best(path: Path) -> _Pair:
    """Return the best pair of `path`, or of the one folder below it that has one."""
    files = sorted(file for file in path.rglob("images_*.pt") if file.is_file())
    pairs = [_Pair(file, _labels_beside(file)) for file in files if _labels_beside(file).is_file()]
    best = [pair for pair in pairs if pair.images.name == "images_best.pt"]
    here = [pair for pair in best if pair.images.parent == path]
    if here or len(best) == 1:
        return (here or best)[0]
    if best:
        listing = "\n  ".join(str(pair.images.parent) for pair in best[:8])
        more = "\n  ..." if len(best) > 8 else ""
        raise UsageError(f"{path}: found {len(best)} runs; name one of them:\n  {listing}{more}")
    if pairs:
        example = f"--images {pairs[0].images} --labels {pairs[0].labels}"
        raise UsageError(f"{path}: found no images_best.pt with labels_best.pt. Name a pair, such as: {example}")
    if files:
        wanted = _labels_beside(files[0]).name
        raise UsageError(f"{path}: found {files[0].name} but no {wanted} beside it. Name --images and --labels.")
    raise UsageError(f"{path}: found no images_*.pt; expected a run folder of MTT (logged_files/<dataset>/<run>).")


def _labels_beside(images: Path) -> Path:
    return images.with_name(images.name.replace("images_", "labels_", 1).replace("labels_zca_", "labels_", 1))


def _check_whitening(pair: _Pair, answers: Answers, zca_files: list[Path]) -> None:
    """Refuse a run whose whitening or normalisation nobody stated, and statements that contradict.

    Raises:
        ConvertError: the folder is of a ZCA run and --whitening was not given.
        UsageError: neither, or both, of --whitening and --normalization were given.
    """
    if answers.whitening is None and zca_files:
        raise ConvertError(
            f"{pair.images.parent}: found {zca_files[0].name}, so this run used ZCA whitening and "
            f"{pair.images.name} cannot be read as an ordinary set. Choose: --whitening dewhitened takes the "
            "pictures with the whitening undone; --whitening whitened takes what the network saw, which needs "
            "test images whitened by the same (unsaved) matrix."
        )
    if answers.whitening is None and answers.normalization is None:
        raise UsageError(
            f"{pair.images}: holds normalised pixels and does not say by which mean and std. Give --normalization: "
            "cifar10 for MTT's CIFAR-10 and CIFAR-100, imagenet for Tiny ImageNet and the ImageNet subsets, or "
            "mean/std as 0.5,0.5,0.5/0.5,0.5,0.5. If the run used --zca, say --whitening instead."
        )
    if answers.whitening is not None and answers.normalization is not None:
        why = {"whitened": "whitening replaced it", "dewhitened": "those pixels are on the raw 0..1 scale"}
        chosen = answers.whitening
        raise UsageError(f"--normalization does not go with --whitening {chosen}: {why[chosen]}.")
    if answers.whitening == "whitened" and pair.dewhitened:
        raise UsageError(
            f"{pair.images}: is the de-whitened copy, whatever its name suggests. Say --whitening dewhitened, or "
            "take the whitened images_<it>.pt."
        )


def _find_dewhitened(pair: _Pair) -> _Pair:
    """Return the pair with the de-whitened copy of its images, found by equality with the whitened ones."""
    if pair.dewhitened:
        return pair
    wanted = read_tensor(pair.images)
    for file in sorted(pair.images.parent.glob("images_zca_*.pt")):
        whitened = file.with_name(file.name.replace("images_zca_", "images_", 1))
        if whitened.is_file() and torch.equal(read_tensor(whitened), wanted):
            return _Pair(file, pair.labels)
    raise ConvertError(
        f"{pair.images}: no images_<it>.pt with an images_zca_<it>.pt beside it equals this file, so its de-whitened "
        "copy is not known. Name the pair with --images images_zca_<it>.pt --labels labels_<it>.pt."
    )


def _read_images(file: Path, read: dict[str, JsonValue]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    tensor = read_tensor(file)
    if not tensor.is_floating_point() or tensor.dim() != 4:
        raise ConvertError(f"{file}: found {_say(tensor)}; expected float32 [n, 3, height, width].")
    if tensor.dtype != torch.float32:
        read["images_dtype"] = _dtype(tensor)
    return tensor.to(torch.float32).numpy()


def _read_labels(file: Path, read: dict[str, JsonValue]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    tensor = read_tensor(file)
    if tensor.dim() != 1 or tensor.is_complex():
        raise ConvertError(
            f"{file}: found {_say(tensor)}; expected class numbers, int64 [n]. Soft labels are not MTT's: "
            "TESLA writes probabilities and DATM logits under these names."
        )
    labels = tensor.to(torch.int64)
    if not torch.equal(labels.to(tensor.dtype), tensor):
        raise ConvertError(f"{file}: found {_say(tensor)} with numbers that are not whole; expected class numbers.")
    if tensor.dtype != torch.int64:
        read["labels_dtype"] = _dtype(tensor)
    return labels.numpy()


def _say(tensor: Tensor) -> str:
    return f"a tensor, {_dtype(tensor)} {list(tensor.shape)}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
