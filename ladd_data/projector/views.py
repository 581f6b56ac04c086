"""The views that a projector labels: a stored grid or boxes, or boxes drawn anew each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import UsageError
from ladd_data.labeling.drawing import BoxDraw, draw_boxes, draw_mixing
from ladd_data.loaders.order import draw_views
from ladd_data.manifest import Boxes, Mix, ViewSpec
from ladd_data.manifest_projector import OnlineViews, RandomBoxes
from ladd_data.types import Array, Batch
from ladd_data.views.device import ViewMaker
from ladd_data.views.geometry import mix64
from ladd_data.views.mixing import MixTable, Pixels, order_of, place_views

Cut = Callable[[Tensor, Sequence[int], Array, int, int], Tensor]
"""(images uint8 [batch, ...], view numbers, records' numbers, seed, epoch) -> views, float32, 0..255 scale."""


@dataclass(frozen=True, slots=True)
class Others:
    """The other records, for views that are mixed with theirs: ids of all, and what returns their images."""

    ids: Sequence[str]
    pixels: Pixels


def spec_of(views: OnlineViews) -> ViewSpec:
    """Return views in the words of stored ones; drawn boxes are boxes that differ from record to record."""
    if not isinstance(views, RandomBoxes):
        return views
    if views.cutmix:
        return Mix(count=views.count, flip=views.flip, cutmix=True)
    return Boxes(count=views.count, flip=views.flip)


class Cutting:
    """Cuts views of images of one size, on any device.

    Drawn boxes are a pure function of seed, epoch, record and view, and so is what they are mixed with: they are the
    same for every batch size and number of ranks.
    """

    def __init__(self, views: OnlineViews, height: int, width: int, others: Callable[[], Others] | None = None) -> None:
        """Cut nothing yet; `others` is called where views are mixed."""
        self._views, self._size, self._others = views, (height, width), others
        self._makers: dict[torch.device, ViewMaker] = {}
        self._mixed: tuple[int, MixTable] | None = None

    def __call__(self, images: Tensor, numbers: Sequence[int], rows: Array, seed: int, epoch: int) -> Tensor:
        """Return views, float32 [batch, views, channels, height, width], 0..255 scale; see `Cut`."""
        device, views = images.device, self._views
        if device not in self._makers:
            self._makers[device] = ViewMaker(spec_of(views), *self._size, device)
        if not isinstance(views, RandomBoxes):
            return self._makers[device](images, numbers)
        stream = mix64(mix64(seed) ^ epoch)
        if views.cutmix:
            table = self._mix(views, stream)
            own = {name: values[rows] for name, values in table.columns.items()}
            return self._makers[device](images, numbers, **place_views(own, numbers, device, table))
        draw, spec = BoxDraw(stream, views.least), spec_of(views)
        drawn = [draw_boxes(spec, draw, self._size, row, 1) for row in rows.tolist()]
        own = {name: np.concatenate([one[name] for one in drawn]) for name in drawn[0]}
        return self._makers[device](images, numbers, **place_views(own, numbers, device, None))

    def _mix(self, views: RandomBoxes, stream: int) -> MixTable:
        """Return the views of all records in an epoch; those of the last one are kept."""
        if self._mixed is None or self._mixed[0] != stream:
            if self._others is None:
                raise UsageError("views that are mixed need the images of other records, which are not at hand here.")
            others, spec = self._others(), Mix(count=views.count, flip=views.flip, cutmix=True)
            count = len(others.ids)
            every = draw_boxes(spec, BoxDraw(stream, views.least), self._size, 0, count)
            every |= draw_mixing(spec, stream, self._size, count)
            self._mixed = stream, MixTable(every, order_of(others.ids), others.pixels)
        return self._mixed[1]


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
