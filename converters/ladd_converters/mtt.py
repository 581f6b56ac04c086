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

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import JsonValue

from ladd_converters.torch_files import read_tensor
from ladd_data import Answers, ConvertError, Distilled, Normalization, UsageError

REPOSITORY = "https://github.com/GeorgeCazenavette/mtt-distillation"


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two files to read, and the iteration in their names."""

    images: Path
    labels: Path
    iteration: str


class MttConverter:
    """Reads one run of MTT, or any pair of files it wrote."""

    name: ClassVar[str] = "mtt"
    summary: ClassVar[str] = "MTT: images_best.pt + labels_best.pt of a run folder, or any named pair"

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of MTT, or None."""
        if path.is_dir() and (path / "images_best.pt").is_file() and (path / "labels_best.pt").is_file():
            return "images_best.pt beside labels_best.pt, no lr_best.pt" if not (path / "lr_best.pt").exists() else None
        return None

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        pair = _find_pair(path, answers)
        if answers.classes is None:
            raise UsageError(
                f"{pair.labels}: holds class numbers only. Give the names in label order: --classes cifar10, "
                "--classes imagenette, --classes a,b,c or --classes @FILE."
            )
        zca_files = sorted(pair.images.parent.glob("images_zca_*.pt"))
        if zca_files and answers.whitening is None:
            raise ConvertError(
                f"{pair.images.parent}: found {zca_files[0].name}, so this run used ZCA whitening and "
                f"{pair.images.name} cannot be read as an ordinary set. Choose: --whitening dewhitened takes the "
                "pictures with the whitening undone; --whitening whitened takes what the network saw, which needs "
                "test images whitened by the same (unsaved) matrix."
            )
        normalization, images_file, iteration = _choose_pixels(pair, answers)
        read: dict[str, JsonValue] = {"iteration": iteration, "zca_files_present": bool(zca_files)}
        labels = _read_labels(pair.labels, read)
        asserted: dict[str, JsonValue] = {"classes": list(answers.classes.names)}
        if answers.normalization is not None and answers.whitening is None:
            asserted["normalization"] = answers.normalization.model_dump(mode="json")
        if answers.whitening is not None:
            asserted["whitening"] = answers.whitening
        return Distilled(
            method="MTT",
            repository=REPOSITORY,
            images=_read_images(images_file),
            labels=labels,
            classes=answers.classes,
            normalization=normalization,
            whitening="zca" if answers.whitening == "whitened" else "none",
            files=(images_file, pair.labels),
            read=read,
            asserted=asserted,
        )


def _find_pair(path: Path, answers: Answers) -> _Pair:
    """Find the images and labels files that the user means."""
    if answers.images is not None or answers.labels is not None:
        if answers.images is None or answers.labels is None:
            raise UsageError("--images and --labels go together: name both files of the pair.")
        return _Pair(answers.images, answers.labels, _iteration(answers.images))
    if path.is_file():
        labels = path.with_name(f"labels_{_iteration(path)}.pt")
        if not labels.is_file():
            raise UsageError(f"{path}: found no {labels.name} beside it. Name the pair with --images and --labels.")
        return _Pair(path, labels, _iteration(path))
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder or file.")
    run = _find_run(path)
    return _Pair(run / "images_best.pt", run / "labels_best.pt", "best")


def _find_run(path: Path) -> Path:
    """Return the one folder at or below `path` that holds a best pair."""
    runs = sorted(file.parent for file in path.rglob("images_best.pt") if (file.parent / "labels_best.pt").is_file())
    if (path / "images_best.pt").is_file() and path in runs:
        return path
    if len(runs) == 1:
        return runs[0]
    if runs:
        listing = "\n  ".join(str(run) for run in runs[:8])
        raise UsageError(f"{path}: found {len(runs)} runs; name one of them:\n  {listing}")
    pairs = sorted(path.rglob("images_*.pt"))
    if pairs:
        example = f"--images {pairs[0]} --labels {pairs[0].with_name(f'labels_{_iteration(pairs[0])}.pt')}"
        raise UsageError(f"{path}: found no images_best.pt with labels_best.pt. Name a pair, such as: {example}")
    raise UsageError(f"{path}: found no images_*.pt; expected a run folder of MTT (logged_files/<dataset>/<run>).")


def _choose_pixels(pair: _Pair, answers: Answers) -> tuple[Normalization | None, Path, str]:
    """Return (normalisation, images file, iteration) by what the user says of the whitening."""
    if answers.whitening == "whitened":
        if answers.normalization is not None:
            raise UsageError("--normalization does not go with --whitening whitened: whitening replaced it.")
        return None, pair.images, pair.iteration
    if answers.whitening == "dewhitened":
        if answers.normalization is not None:
            raise UsageError(
                "--normalization does not go with --whitening dewhitened: those pixels are on the raw 0..1 scale."
            )
        raw = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        file, iteration = _find_dewhitened(pair)
        return raw, file, iteration
    if answers.normalization is None:
        raise UsageError(
            f"{pair.images}: holds normalised pixels and does not say by which mean and std. Give --normalization: "
            "cifar10 for MTT's CIFAR-10 and CIFAR-100, imagenet for Tiny ImageNet and the ImageNet subsets, or "
            "mean/std as 0.5,0.5,0.5/0.5,0.5,0.5. If the run used --zca, say --whitening instead."
        )
    return answers.normalization, pair.images, pair.iteration


def _find_dewhitened(pair: _Pair) -> tuple[Path, str]:
    """Return the de-whitened file of the pair's own iteration, found by equality with the whitened one."""
    if pair.images.name.startswith("images_zca_"):
        return pair.images, pair.iteration
    wanted = read_tensor(pair.images)
    for file in sorted(pair.images.parent.glob("images_zca_*.pt")):
        iteration = _iteration(file)
        whitened = file.with_name(f"images_{iteration}.pt")
        if whitened.is_file() and torch.equal(read_tensor(whitened), wanted):
            return file, iteration
    raise ConvertError(
        f"{pair.images}: no images_<it>.pt with an images_zca_<it>.pt beside it equals this file, so its de-whitened "
        "copy is not known. Name the pair with --images images_zca_<it>.pt --labels labels_<it>.pt."
    )


def _iteration(file: Path) -> str:
    return file.stem.removeprefix("images_").removeprefix("zca_")


def _read_images(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    tensor = read_tensor(file)
    if not tensor.is_floating_point() or tensor.dim() != 4:
        shape = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        raise ConvertError(f"{file}: found a tensor {shape}; expected float32 [n, 3, height, width].")
    return tensor.to(torch.float32).numpy()


def _read_labels(file: Path, read: dict[str, JsonValue]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    tensor = read_tensor(file)
    if tensor.dim() != 1:
        raise ConvertError(
            f"{file}: found a tensor {list(tensor.shape)}; expected class numbers [n]. Soft labels are not MTT's: "
            "TESLA writes probabilities and DATM logits under these names."
        )
    if tensor.is_floating_point():
        if not torch.equal(tensor, tensor.round()):
            raise ConvertError(f"{file}: found numbers that are not whole; expected class numbers.")
        read["labels_dtype"] = str(tensor.dtype).removeprefix("torch.")
    return tensor.to(torch.int64).numpy()
