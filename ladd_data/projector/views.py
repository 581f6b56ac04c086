"""The views that a projector labels: a stored grid or boxes, or boxes drawn anew each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import UsageError
from ladd_data.loaders.order import draw_views
from ladd_data.manifest import Boxes, ViewSpec
from ladd_data.manifest_projector import OnlineViews, RandomBoxes
from ladd_data.types import Array, Batch
from ladd_data.views.device import ViewMaker
from ladd_data.views.geometry import mix64, random_box

Cut = Callable[[Tensor, Sequence[int], Array, int, int], Tensor]
"""(images uint8 [batch, ...], view numbers, records' numbers, seed, epoch) -> views, float32, 0..255 scale."""


def spec_of(views: OnlineViews) -> ViewSpec:
    """Return views in the words of stored ones; drawn boxes are boxes that differ from record to record."""
    return Boxes(count=views.count, flip=views.flip) if isinstance(views, RandomBoxes) else views


def draw_boxes(views: RandomBoxes, size: tuple[int, int], rows: Array, seed: int, epoch: int) -> dict[str, Tensor]:
    """Return view_box, int64 [records, count, 4], and view_flip: a pure function of seed, epoch, record and view.

    They do not depend on the batch, so they are the same for every batch size and number of ranks.
    """
    stream = mix64(mix64(seed) ^ epoch)
    drawn = [
        [random_box(stream, row, view, *size, views.least) for view in range(views.count)] for row in rows.tolist()
    ]
    box = np.array([[astuple(box) for box, _ in record] for record in drawn], np.int64)
    given = {"view_box": torch.from_numpy(box)}
    if views.flip:
        given["view_flip"] = torch.from_numpy(np.array([[flip for _, flip in record] for record in drawn], bool))
    return given


class Cutting:
    """Cuts views of images of one size, on any device."""

    def __init__(self, views: OnlineViews, height: int, width: int) -> None:
        """Cut nothing yet."""
        self._views, self._size = views, (height, width)
        self._makers: dict[torch.device, ViewMaker] = {}

    def __call__(self, images: Tensor, numbers: Sequence[int], rows: Array, seed: int, epoch: int) -> Tensor:
        """Return views, float32 [batch, views, channels, height, width], 0..255 scale; see `Cut`."""
        device = images.device
        if device not in self._makers:
            self._makers[device] = ViewMaker(spec_of(self._views), *self._size, device)
        maker = self._makers[device]
        if not isinstance(self._views, RandomBoxes):
            return maker(images, numbers)
        drawn = draw_boxes(self._views, self._size, rows, seed, epoch)
        given = {name: values.to(device) for name, values in drawn.items()}
        return maker(images, numbers, view_box=given["view_box"], view_flip=given.get("view_flip"))


class OnlineCutter:
    """What a batch of online labels cuts its views with."""

    def __init__(self, cut: Callable[[Tensor, Sequence[int]], Tensor], count: int, key: tuple[int, int, int]) -> None:
        """Keep what cuts; `key`: seed, epoch and first slot of the step, by which views are drawn."""
        self._cut, self._count, self._key = cut, count, key

    def draw(self, k: int | None) -> tuple[int, ...]:
        """Return the numbers of k views, ascending; of all for None.

        Raises:
            UsageError: k is out of range.
        """
        count = self._count
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= count):
            raise UsageError(f"views({k!r}): expected a number of views, 1 .. {count}, or None for all.")
        return tuple(range(count)) if k is None or k == count else draw_views(count, k, *self._key)

    def cut(self, batch: Batch, numbers: tuple[int, ...]) -> Tensor:
        """Return these views, model input, float32 [batch, len(numbers), channels, height, width]."""
        return self._cut(batch.image, numbers)
