"""From gathered columns to a batch: the last step of every loader, the same on every device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import UsageError
from ladd_data.loaders.buffers import Buffers
from ladd_data.loaders.decode import check_space, decode_dense, find_soft, find_soft_space
from ladd_data.loaders.order import draw_views
from ladd_data.loaders.schedule import Slots
from ladd_data.manifest import Labels
from ladd_data.types import Batch, DenseSpace
from ladd_data.views.mixing import Pixels


class CutViews(Protocol):
    """Cuts views: `Dataset.views`."""

    def __call__(self, images: Tensor, numbers: Sequence[int], index: Tensor, pixels: Pixels | None = None) -> Tensor:
        """Return float32 [batch, views, channels, height, width].

        Args:
            images: uint8 [batch, channels, height, width].
            numbers: of the views.
            index: the records' numbers, int64 [batch].
            pixels: for views that are mixed, returns the images of other records.
        """


KEPT = ("dense_", "soft_", "view_present")
"""Prefixes of the label columns that a batch is made of."""
PLACES = "view_"
"""Prefix of the columns that say where views lie, and with what they are mixed."""
DECODED = "decoded"
"""The name of a column of dense labels that are decoded already, in a loader's memory."""
_DECODED_TOGETHER = 2**18
"""Label values that are decoded at a time: 1 MiB (25 x 1000 a record, 256 records: 4 times faster than all at once)."""


def are_few(label_bytes: int, pixel_bytes: int) -> bool:
    """Tell whether decoded labels take so little memory that they are best decoded once: 64 MiB, or an eighth more."""
    return label_bytes <= max(64 * 2**20, pixel_bytes // 8)


@dataclass(frozen=True, slots=True)
class BatchMaker:
    """Turns the stored columns of some records into a batch.

    labels: what the dataset says of its dense labels, or None.
    classes: how many there are.
    space: what dense labels become.
    seed: of drawn views.
    cut: cuts views; None where the caller needs none.
    device: where batches are to be.
    pixels: of any record, for views that are mixed; None leaves it to `cut` where they come from.
    """

    labels: Labels | None
    classes: int
    space: DenseSpace
    seed: int
    cut: CutViews | None
    device: torch.device
    pixels: Pixels | None = None

    _pool: Buffers = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a space that cannot be had."""
        check_space(self.space, self.labels.coding if self.labels else None)
        views = self.labels.count if self.labels else 0
        object.__setattr__(self, "_pool", Buffers((views, self.classes), np.dtype(np.float32)))

    def wants(self, name: str) -> bool:
        """Tell whether a batch is made of a stored column: of labels, what the space needs."""
        if name == "dense_logz":
            return self.space == "logits" and self.labels is not None and self.labels.coding.space != "logits"
        return name.startswith(KEPT)

    def with_images(self, pixels: Pixels) -> BatchMaker:
        """Return a maker that takes the images that views are mixed with from `pixels`."""
        return replace(self, pixels=pixels)

    def make(
        self,
        slots: Slots,
        images: Tensor,
        classes: Tensor,
        stored: Mapping[str, Tensor],
        cut: CutViews | None = None,
    ) -> Batch:
        """Return a batch on the device.

        Args:
            slots: the step.
            images: uint8 [batch, channels, height, width], on the device.
            classes: int64 [batch], hard labels, on the device.
            stored: label columns as `to_tensors` returns them, each [batch, ...], on the device; or decoded.
            cut: cuts the views of this batch, in place of what cuts those of all.
        """
        labels = self.labels
        dense = stored.get(DECODED) if DECODED in stored or labels is None else self._decode(labels, stored)
        index = torch.from_numpy(slots.index).to(self.device)
        mask = None if slots.mask is None else torch.from_numpy(slots.mask).to(self.device)
        present, soft = stored.get("view_present"), find_soft(stored)
        cutter, space = _Cutter(self, cut or self.cut, slots.epoch, slots.start), None if labels is None else self.space
        return Batch(images, classes, dense, index, present, soft, mask, cutter, space, find_soft_space(stored))

    def decode_early(self, stored: dict[str, Tensor], pixel_bytes: int) -> dict[str, Tensor]:
        """Return all label columns with dense labels decoded, where that takes little memory; else as they are.

        Args:
            stored: label columns as `to_tensors` returns them, each [records, ...].
            pixel_bytes: of all images.
        """
        if self.labels is None or not stored:
            return stored
        count = len(next(iter(stored.values())))
        if not are_few(4 * count * self.labels.count * self.classes, pixel_bytes):
            return stored
        kept = {name: values for name, values in stored.items() if not name.startswith("dense_")}
        return {**kept, DECODED: self._decode(self.labels, stored)}

    def _decode(self, labels: Labels, stored: Mapping[str, Tensor]) -> Tensor:
        """Decode on the device; on a CPU a few records at a time, so that all steps stay in its cache."""
        count = len(next(iter(stored.values())))
        rows = max(1, _DECODED_TOGETHER // (labels.count * self.classes))
        if self.device.type != "cpu" or count <= rows:
            return decode_dense(stored, labels.coding, self.classes, self.space)
        out = self._pool.lend_tensor(count)
        for at in range(0, count, rows):
            part = {name: values[at : at + rows] for name, values in stored.items()}
            out[at : at + rows] = decode_dense(part, labels.coding, self.classes, self.space)
        return out


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Cuts the views of one step."""

    maker: BatchMaker
    apply: CutViews | None
    epoch: int
    slot: int

    def draw(self, k: int | None) -> tuple[int, ...]:
        labels = self.maker.labels
        count = labels.count if labels is not None else 0
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= count):
            raise UsageError(f"views({k!r}): expected a number of views, 1 .. {count}, or None for all.")
        if k is None or k == count:
            return tuple(range(count))
        return tuple(draw_views(count, k, self.maker.seed, self.epoch, self.slot))

    def cut(self, batch: Batch, numbers: tuple[int, ...]) -> Tensor:
        if self.apply is None:
            raise UsageError("this batch was not made by a loader, so it knows no views: see Dataset.views.")
        return self.apply(batch.image, numbers, batch.index, self.maker.pixels)
