"""Names for the arrays that travel through the package, and the two things a reader hands out.

Near the ground: of ours it imports the errors, and torch only for the type checker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ladd_data.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

Array = NDArray[Any]
Columns = dict[str, Array]
"""Stored label columns by name, each [records, ...]."""

ColumnTypes = dict[str, tuple[tuple[int, ...], str]]
"""Column name -> (shape per record, type). The type "bytes" is fixed-size binary: uint8 [records, width]."""

TYPE_BYTES = {"float16": 2, "float32": 4, "uint8": 1, "uint16": 2, "uint32": 4, "bytes": 1, "bool": 1}

LabelSpace = Literal["probs", "log_probs", "logits"]
"""What the numbers of a soft label are; the column name `dense_<space>` says it on disk."""

DenseSpace = Literal["probabilities", "log_probabilities", "logits"]
"""What a loader turns dense labels into."""

SoftSpace = Literal["probs", "logits", "targets"]
"""What the numbers of a whole-image soft label are; the column name `soft_<space>` says it on disk."""

Edition = Literal["parquet", "webdataset", "arrow"]
"""What the shards of a dataset are; the records are the same in each."""

Level = Literal["metadata", "structure", "full"]
"""How deep a validation looks."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image with all its labels.

    id: the record's name, unique in the dataset.
    image: uint8 [channels, height, width], the stored pixels.
    label: the hard class, 0 .. classes-1.
    dense_labels: float32 [views, classes], probabilities, each row sums to 1; None before labeling. The row
        of a view that is missing is all 0.
    present: bool [views], which views there are; None where none is missing.
    soft: float32 [classes], the distiller's own label of the whole image, in the space its column names.
    """

    id: str
    image: Tensor
    label: int
    dense_labels: Tensor | None
    present: Tensor | None = None
    soft: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Arrays:
    """A whole dataset, decoded.

    ids: names; images: uint8 [records, channels, height, width]; labels: int64 [records];
    dense: label columns (dense_*, view_*, soft_*) as name -> array as stored.
    """

    ids: list[str]
    images: U8
    labels: I64
    dense: Columns


@dataclass(frozen=True, slots=True)
class Views:
    """Views of a batch, all or some, as `Batch.views` cuts them.

    pixels: float32 [batch, k, channels, height, width], model input, bit-equal to `Dataset.views`.
    dense: float32 [batch, k, classes], the dense labels of these views, in the loader's space.
    numbers: the k views, ascending; the same for every record of the batch.
    weight: views there are / k; a sum over the k views, times this, is an unbiased estimate of that over all.
    present: bool [batch, k], which of them there are; None where none is missing.
    """

    pixels: Tensor
    dense: Tensor
    numbers: tuple[int, ...]
    weight: float
    present: Tensor | None = None


class Cutter(Protocol):
    """What a loader gives its batches, so that they know their views."""

    def draw(self, k: int | None) -> tuple[int, ...]:
        """Return the numbers of k views, ascending; of all for None.

        Raises:
            UsageError: k is out of range.
        """

    def cut(self, batch: Batch, numbers: tuple[int, ...]) -> Tensor:
        """Return these views, model input, float32 [batch, len(numbers), channels, height, width]."""


_TENSORS = ("image", "label", "dense", "index", "present", "soft", "mask")


@dataclass(frozen=True, slots=True)
class Batch:
    """One training batch; unpacks as `image, label, dense = batch`.

    image: uint8 [batch, channels, height, width], the stored pixels.
    label: int64 [batch], the hard classes.
    dense: float32 [batch, views, classes], in the loader's space, probabilities unless another was chosen; None
        for a dataset without dense labels.
    index: int64 [batch], position of each record in the dataset.
    present: bool [batch, views], which views there are; None where none is missing. The rows of `dense` of
        missing views are all 0, in every space; probabilities of 0 add nothing to a cross-entropy.
    soft: float32 [batch, classes], the distiller's own labels of the whole images, or None.
    mask: bool [batch], False for records that are only repeated to fill the batch: leave them out of losses
        and counts; None where none is repeated.
    cutter: what `views` calls; made by the loader.
    space: what the numbers of `dense` are; None for a dataset without dense labels.
    soft_space: what the numbers of `soft` are; None without.
    """

    image: Tensor
    label: Tensor
    dense: Tensor | None
    index: Tensor
    present: Tensor | None = None
    soft: Tensor | None = None
    mask: Tensor | None = None
    cutter: Cutter | None = field(default=None, repr=False, compare=False)
    space: DenseSpace | None = None
    soft_space: SoftSpace | None = None

    def views(self, k: int | None = None) -> Views:
        """Cut the views that the dense labels belong to, as model input.

        Args:
            k: how many, drawn for the batch as a pure function of seed, epoch and step; None for all.

        Raises:
            UsageError: the dataset has no dense labels, k is out of range, or no loader made this batch.
        """
        return next(self.view_chunks(k))

    def view_chunks(
        self, k: int | None = None, size: int | None = None, takes: Callable[[int], bool] | None = None
    ) -> Iterator[Views]:
        """Cut the same views as `views(k)`, `size` of each image at a time, so that fewer are in memory at once.

        takes: asked of each chunk in order, by its number of views, before it is cut; it is left out for False.
        """
        if self.cutter is None:
            raise UsageError("this batch was not made by a loader, so it knows no views: see Dataset.views.")
        if self.dense is None:
            raise UsageError('this dataset has no dense labels, so it has no views. Run "ladd label" first.')
        numbers, count = self.cutter.draw(k), self.dense.shape[1]
        step = size or len(numbers)
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step]
            if takes is not None and not takes(len(some)):
                continue
            at = slice(some[0], some[-1] + 1) if some[-1] - some[0] == len(some) - 1 else list(some)
            there = None if self.present is None else self.present[:, at]
            yield Views(self.cutter.cut(self, some), self.dense[:, at], some, count / len(numbers), there)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on a device, as `Tensor.to` does; Lightning and accelerate call this."""
        return self._change(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; torch's DataLoader calls this."""
        return self._change(lambda tensor: tensor.pin_memory())

    def _change(self, change: Callable[[Tensor], Tensor]) -> Batch:
        tensors = {name: getattr(self, name) for name in _TENSORS}
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in tensors.items() if tensor is not None}
        return replace(self, **changed)

    def __iter__(self) -> Iterator[Tensor | None]:
        yield self.image
        yield self.label
        yield self.dense

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, slots=True)
class Probabilities:
    """Soft labels that are probabilities: values float32 [..., classes], rows sum to 1; a missing view's row is 0.

    temperature: what the logits were divided by before the softmax.

    There is no softmax here, so that none can be taken twice.
    """

    values: Tensor
    temperature: float = 1.0

    def to_logs(self) -> LogProbabilities:
        """Return their logarithms, those of 0 as -87 (float32's least normal number)."""
        return LogProbabilities(self.values.clamp_min(1.1754943508222875e-38).log(), self.temperature)


@dataclass(frozen=True, slots=True)
class LogProbabilities:
    """Soft labels that are logarithms of probabilities: values float32 [..., classes]; temperature as above."""

    values: Tensor
    temperature: float = 1.0

    def at(self, temperature: float) -> LogProbabilities:
        """Return the labels that the same logits give at a temperature: q^(stored / wanted), renormalised."""
        return LogProbabilities((self.values * (self.temperature / temperature)).log_softmax(-1), temperature)

    def to_probabilities(self) -> Probabilities:
        """Return e to their power; what sums to 1 needs no softmax."""
        return Probabilities(self.values.exp(), self.temperature)


@dataclass(frozen=True, slots=True)
class Logits:
    """Soft labels that are a network's outputs before softmax: values float32 [..., classes].

    temperature: what they were divided by already.
    """

    values: Tensor
    temperature: float = 1.0

    def undivided(self) -> Tensor:
        """Return the network's own outputs."""
        return self.values if self.temperature == 1 else self.values * self.temperature

    def to_logs(self) -> LogProbabilities:
        """Return the logarithms of their softmax."""
        return LogProbabilities(self.values.log_softmax(-1), self.temperature)


@dataclass(frozen=True, slots=True)
class RegressionTargets:
    """Soft labels that a student's outputs are to equal, any real numbers: values float32 [..., classes]."""

    values: Tensor

    def undivided(self) -> Tensor:
        """Return the numbers, which no temperature divides."""
        return self.values


SoftLabels = Probabilities | LogProbabilities | Logits | RegressionTargets
"""Soft labels that say what their numbers are, which is what losses take."""
