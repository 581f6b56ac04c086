"""What a loss is, and what it is given: a student, a batch, and the dataset it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ladd_data.manifest import Manifest
from ladd_data.types import Batch, DenseSpace


def widen(values: Tensor) -> Tensor:
    """Return float64, in which losses are computed: in float32 a loss near 0 keeps no digit. MPS has only float32."""
    return values.float() if values.device.type == "mps" else values.double()


@dataclass(frozen=True, slots=True)
class Mixed:
    """What a student returns when it has mixed the pictures of a pass (CutMix, MixUp).

    logits: [n, classes], of the mixed pictures.
    partner: int64 [n], the row of this pass that each was mixed with.
    share: of the row's own picture, 0 .. 1; a number, or float32 [n]. The loss is share * (loss against the row's
        own label) + (1 - share) * (loss against its partner's).
    """

    logits: Tensor
    partner: Tensor
    share: Tensor | float


Takes = Callable[[int], bool]
"""Asked of each pass of a step, in order, by its number of pictures of each image: whether it is to be run here."""


def take_all(pictures: int) -> bool:
    """Take every pass."""
    return True


class Student(Protocol):
    """A network in training, with its augmentation."""

    def __call__(self, pictures: Tensor, /) -> Tensor | Mixed:
        """Return logits [n, classes] of model input, float32 [n, channels, height, width]."""


class Scene(Protocol):
    """What a loss asks of the dataset; a `Dataset` is one."""

    @property
    def manifest(self) -> Manifest:
        """What the stored numbers are."""

    def model_input(self, images: Tensor) -> Tensor:
        """Turn stored pixels, uint8 [..., channels, height, width], into model input, float32."""


class Loss(Protocol):
    """What a training loop minimises."""

    @property
    def space(self) -> DenseSpace | None:
        """What `batch.dense` must hold where it is used. None: dense labels are not used."""

    def loader_space(self, manifest: Manifest) -> DenseSpace:
        """Return what to ask the loader of a dataset for: `loader(..., space=loss.loader_space(manifest))`."""

    @property
    def formula(self) -> str:
        """What is computed, in one line, for people and for records of runs."""

    def check(self, manifest: Manifest) -> None:
        """Refuse a dataset whose stored labels cannot serve.

        Raises:
            UsageError: says what is stored, what is needed, and what to store instead.
        """

    def parts(self, student: Student, batch: Batch, scene: Scene, takes: Takes = take_all) -> Iterator[Tensor]:
        """Yield the loss pass by pass, scalars whose sum it is; passes that `takes` refuses are not run.

        `for part in loss.parts(...): part.backward()` gives the gradient of the whole, and holds the activations of
        one pass at a time.

        Raises:
            UsageError: as when called.
        """

    def __call__(self, student: Student, batch: Batch, scene: Scene) -> Tensor:
        """Return the scalar to minimise.

        Raises:
            UsageError: the batch does not hold what is needed; no label is ever taken for what it is not.
        """
