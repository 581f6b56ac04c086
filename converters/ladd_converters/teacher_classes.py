"""Which outputs of a teacher are the dataset's classes: all of them, or those of its classes among ImageNet's 1,000."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladd_data import Classes, ConvertError, UsageError, imagenet_indices, parse_classes

IMAGENET = 1000


class TeacherClasses:
    """Picks a dataset's classes out of a teacher's outputs."""

    def __init__(self, run: Path, classes: Classes, outputs: int) -> None:
        """Find them.

        Args:
            run: for messages.
            classes: of the dataset.
            outputs: the teacher's.

        Raises:
            UsageError: they are among ImageNet's, and which they are was not said.
            ConvertError: the teacher has other classes.
        """
        self.count, self.outputs = len(classes.names), outputs
        self.narrowed = outputs != self.count
        self.indices: Sequence[int] = range(self.count)
        if not self.narrowed:
            return
        found = f"{run}: found outputs of {outputs} classes; the dataset has {self.count}."
        indices = find_imagenet_classes(classes) if outputs == IMAGENET else None
        if indices is None and outputs == IMAGENET:
            raise UsageError(
                f"{found} To keep the outputs of its classes, say which of ImageNet's they are: --classes with a "
                "preset such as imagenette, or their WordNet ids (n01440764,...) or numbers in label order, or @FILE "
                "with one a line."
            )
        if indices is None:
            raise ConvertError(
                f"{found} The teacher was trained on another list of classes: these labels are not of this dataset. "
                "Give the classes that it has."
            )
        self.indices = indices

    def note(self) -> str | None:
        """Return what was left out, if anything was."""
        if not self.narrowed:
            return None
        return (
            f"The teacher has {self.outputs} outputs, ImageNet's: those of the dataset's {self.count} classes were "
            f"kept, numbers {', '.join(map(str, self.indices[:12]))}{', ...' if self.count > 12 else ''}, and the "
            "others left out: probabilities are the teacher's, given that it is one of these."
        )

    def pick(self, path: Path | None, output: NDArray[Any]) -> NDArray[Any]:
        """Return the dataset's classes of outputs, [rows, classes].

        Raises:
            ConvertError: outputs are of another number of classes than the first ones.
        """
        if output.shape[1] != self.outputs:
            raise ConvertError(
                f"{path}: found outputs of {output.shape[1]} classes; expected {self.outputs}, as in the first batch."
            )
        return output[:, list(self.indices)] if self.narrowed else output

    def check_ids(self, path: Path, ids: NDArray[np.int64]) -> None:
        """Refuse class numbers that the dataset has not.

        Raises:
            ConvertError: there are such.
        """
        if ids.min() < 0 or ids.max() >= self.count:
            raise ConvertError(
                f"{path}: found class numbers {ids.min()} .. {ids.max()}; expected 0 .. {self.count - 1}, the "
                "dataset's. The teacher was trained on another list of classes: these labels are not of this dataset."
            )


def find_imagenet_classes(classes: Classes) -> tuple[int, ...] | None:
    """Return the ImageNet-1k index of each class, by its id, its WordNet id as a name, its number or its name."""
    if (indices := imagenet_indices(classes)) is not None:
        return indices
    whole = parse_classes("imagenet-1k")
    numbers = tuple(map(str, range(IMAGENET)))
    for known in (whole.ids or (), numbers, whole.names):
        place = {name: index for index, name in enumerate(known)}
        if len(place) == len(known) and all(name in place for name in classes.names):
            return tuple(place[name] for name in classes.names)
    return None
