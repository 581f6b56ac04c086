"""ZCA runs of MTT's family: which pixels a person wants, and whether the folder agrees.

The names mislead in all of them: images_<it> are the whitened pixels and images_zca_<it> the same pictures with the
whitening undone, on the raw 0..1 scale. Nothing marks a run that was whitened but left no images_zca_<it> (IPC >= 50).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ladd_converters.pairs import to_images, unnormalized
from ladd_converters.run_tensors import F32, Facts, check_canvas
from ladd_converters.torch_files import read_tensor
from ladd_converters.trajectory_files import Pair, find_dewhitened, zca_files_beside
from ladd_data import Answers, Ask, ConvertError, Normalization, UsageError

ASK = Ask(
    "--whitening",
    "images_zca_* files say that this run was ZCA-whitened; dewhitened takes the pictures with that undone, whitened "
    "what the network saw, which needs test images whitened by the same (unsaved) matrix",
    "dewhitened",
)
WHITENED = (
    "The pixels are ZCA-whitened and the matrix is in no file: test images must be whitened by the same one, "
    "and nothing here can be shown as a picture."
)
DEWHITENED = "The method's paper evaluated the whitened pixels; these are the same with the whitening undone."
_ZCA = re.compile(r"(?<![a-z])zca(?![a-z])", re.IGNORECASE)
_NO_ZCA = re.compile(r"no[_-]?zca", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixels of a run as a person chose them; `pair` is what was read, `named` what was named or found first."""

    named: Pair
    pair: Pair
    images: F32
    normalization: Normalization | None
    whitening: Literal["none", "zca"]
    zca_files: bool
    read: Facts = field(default_factory=dict)


def read_pixels(named: Pair, answers: Answers, presets: str) -> Pixels:
    """Read the images of a pair, de-whitened where that was asked for.

    Raises:
        UsageError, ConvertError: see `check_whitening`, `find_dewhitened`, `to_images` and `check_canvas`.
    """
    zca_files = zca_files_beside(named.images)
    check_whitening(named, answers, zca_files, presets)
    pair = find_dewhitened(named) if answers.whitening == "dewhitened" else named
    read: Facts = {"zca_files_present": bool(zca_files)}
    if pair.iteration is not None and answers.iteration is None:
        read["iteration"] = pair.iteration
    elif answers.iteration is not None and pair.iteration != named.iteration:
        read["dewhitened_iteration"] = pair.iteration
    images = to_images(pair.images, read_tensor(pair.images), read)
    check_canvas(pair.images, images, answers)
    dewhitened = answers.whitening == "dewhitened"
    return Pixels(
        named=named,
        pair=pair,
        images=images,
        normalization=unnormalized(images.shape[1]) if dewhitened else answers.normalization,
        whitening="zca" if answers.whitening == "whitened" else "none",
        zca_files=bool(zca_files),
        read=read,
    )


def check_whitening(pair: Pair, answers: Answers, zca_files: Sequence[Path], presets: str) -> None:
    """Refuse a run whose whitening or normalisation nobody stated, and statements that contradict.

    Args:
        pair: the files named or found.
        answers: what was said.
        zca_files: the de-whitened copies beside them.
        presets: which normalisations to offer, such as "cifar10 for CIFAR-10".

    Raises:
        ConvertError: the folder is of a ZCA run, by its files or its name, and --whitening was not given.
        UsageError: neither, or both, of --whitening and --normalization were given.
    """
    if answers.whitening is None and zca_files:
        raise ConvertError(
            f"{pair.images.parent}: found {zca_files[0].name}, so this run used ZCA whitening and "
            f"{pair.images.name} cannot be read as an ordinary set. Choose: --whitening dewhitened takes the "
            "pictures with the whitening undone; --whitening whitened takes what the network saw, which needs "
            "test images whitened by the same (unsaved) matrix."
        )
    folder = _run_name(pair.images.parent)
    if answers.whitening is None and answers.images is None and _ZCA.search(folder) and not _NO_ZCA.search(folder):
        raise ConvertError(
            f'{pair.images}: the folder\'s name, "{folder}", says that this run used ZCA whitening. If so, say '
            "--whitening whitened (there is no de-whitened images_zca_*.pt here); if not, name the two files with "
            "--images and --labels."
        )
    if answers.whitening is None and answers.normalization is None:
        raise UsageError(
            f"{pair.images}: holds normalised pixels and does not say by which mean and std. Give --dataset, or "
            f"--normalization: {presets}."
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


def _run_name(folder: Path) -> str:
    """Return the name of a run's folder; DATM puts its files into one more, called Normal."""
    return (folder.absolute().parent if folder.name == "Normal" else folder.absolute()).name


def whitening_notes(answers: Answers, zca_files: bool, ipc: int, steps: bool, usual: str | None) -> list[str]:
    """Return what should be known of a run's whitening.

    Args:
        answers: what was said.
        zca_files: whether the folder has de-whitened copies.
        ipc: images per class; from 50 on no copies are saved.
        steps: whether the folder still has numbered steps, beside which copies would lie.
        usual: where the method's own settings whiten, a sentence.
    """
    if answers.whitening == "whitened":
        return [WHITENED]
    if answers.whitening == "dewhitened":
        return [DEWHITENED]
    if zca_files or (steps and ipc < 50):
        return []
    note = "No file tells whether this run was ZCA-whitened; it is taken as not, as was said."
    return [f"{note} {usual}" if usual else note]
