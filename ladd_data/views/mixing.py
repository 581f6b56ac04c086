"""With what views are mixed: other records' views, found by their place among all ids, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import UsageError
from ladd_data.types import I64, U8, Array, Columns
from ladd_data.views.geometry import mix64

VIEW_COLUMNS = ("view_box", "view_flip", "view_partner", "view_mix_")
"""Beginnings of the names of the columns that decide a view's pixels."""
Pixels = Callable[[I64], "U8 | Tensor"]
"""Record numbers to their images, uint8 [n, channels, height, width]."""


@dataclass(frozen=True, slots=True)
class Partners:
    """What k views of some records are mixed with; all on one device.

    images: uint8 [batch, k, channels, height, width], the other records; box: int64 [batch, k, 4] and flip: bool
    [batch, k], where their views lie in them, before any mixing; no flip for None.
    paste: int64 [batch, k, 4], where those are pasted, in resized pixels; nowhere for a box of no height or width.
    share: float32 [batch, k], of a view's own pixels where the two are blended.
    """

    images: Tensor
    box: Tensor
    flip: Tensor | None
    paste: Tensor | None
    share: Tensor | None


@dataclass(frozen=True, slots=True)
class MixTable:
    """What has to be known of all records to mix the views of some.

    columns: `view_box` and, with flips, `view_flip` of every record, [records, views, ...].
    order: int64 [records], the record's number at each place in ascending id order: what `view_partner` counts by.
    pixels: returns records' images.
    """

    columns: Columns
    order: I64
    pixels: Pixels

    def partners(self, given: Mapping[str, Array], views: Sequence[int], device: torch.device | str) -> Partners:
        """Return what some views of some records are mixed with.

        Args:
            given: the records' own view columns, [batch, views, ...], all views.
            views: numbers of the k views wanted.
            device: where they are wanted.
        """
        chosen = list(views)
        rows = self.order[given["view_partner"][:, chosen].astype(np.int64)]  # [batch, k]
        numbers = given["view_partner_view"][:, chosen].astype(np.int64)
        images = self.pixels(rows.reshape(-1))
        flips = self.columns.get("view_flip")
        paste, share = given.get("view_mix_box"), given.get("view_mix_lambda")

        def send(values: Array, kind: Any) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, kind)).to(device)

        pixels = images if isinstance(images, Tensor) else torch.from_numpy(images)
        return Partners(
            pixels.to(device).reshape(*rows.shape, *pixels.shape[1:]),
            send(self.columns["view_box"][rows, numbers], np.int64),
            None if flips is None else send(flips[rows, numbers], np.bool_),
            None if paste is None else send(paste[:, chosen], np.int64),
            None if share is None else send(share[:, chosen], np.float32),
        )


def place_views(
    given: Mapping[str, Array], views: Sequence[int], device: torch.device | str, table: MixTable | None
) -> dict[str, Any]:
    """Return what `ViewMaker` is told of where some records' views lie: its arguments by name.

    Args:
        given: the records' view columns, [batch, views, ...]; empty where views are the same for every record.
        views: numbers of the views wanted.
        device: of the images.
        table: of all records, where views are mixed.

    Raises:
        UsageError: views are mixed, and there is no table.
    """
    kinds = {"view_box": np.int64, "view_flip": np.bool_}
    told: dict[str, Any] = {
        name: torch.from_numpy(given[name].astype(kind)).to(device) for name, kind in kinds.items() if name in given
    }
    if "view_partner" in given:
        if table is None:
            raise UsageError("views that are mixed need the images of other records, which are not at hand here.")
        told["partners"] = table.partners(given, views, device)
    return told


def order_of(ids: Sequence[str]) -> I64:
    """Return the numbers of records in ascending order of id (ASCII), int64 [records]."""
    return np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)


def mix(own: Tensor, partner: Tensor, paste: Tensor | None, share: Tensor | None) -> Tensor:
    """Mix one view of each record with its partner's; the same bits on every device.

    Args:
        own: float32 [batch, channels, height, width]; partner: the same, of the other views.
        partner: see `own`.
        paste: int64 [batch, 4], y, x, height, width of what is taken from the partner.
        share: float32 [batch], of `own` in a blend.

    Source: spec/ladd-1.0.md, LADD-046; CutMix (Yun et al. 2019), mixup (Zhang et al. 2018), as SRe2L applies them.
    """
    if paste is not None:
        rows, columns = (torch.arange(size, device=own.device) for size in own.shape[-2:])
        y, x, height, width = (values[:, None] for values in paste.unbind(1))
        high, wide = (rows >= y) & (rows < y + height), (columns >= x) & (columns < x + width)
        own = torch.where((high[:, :, None] & wide[:, None, :])[:, None], partner, own)
    if share is not None:
        kept = share[:, None, None, None]
        own = (own * kept).add_(partner * (1 - kept))  # two products, each rounded; no fused step
    return own


def random_partner(seed: int, record: int, view: int, count: int) -> int:
    """Return the place of the record that a view is mixed with, 0 .. count - 1: a pure function, SplitMix64."""
    return mix64(mix64(mix64(seed) ^ record) ^ (view * 8 + 5)) % count


def random_share(seed: int, record: int, view: int) -> float:
    """Return a view's own share in a blend, even in 0..1, as mixup draws it with alpha = 1."""
    return mix64(mix64(mix64(seed) ^ record) ^ (view * 8 + 6)) / 2**64


def random_paste(seed: int, record: int, view: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the box of CutMix, (y, x, height, width): of a random share of the area, cut off at the border.

    Source: CutMix, Eq. 2 and its code's rand_bbox.
    """
    draws = [mix64(mix64(mix64(seed ^ 0x5EED) ^ record) ^ (view * 8 + step)) / 2**64 for step in range(3)]
    side = (1 - draws[0]) ** 0.5
    high, wide = int(height * side), int(width * side)
    y, x = int(draws[1] * height), int(draws[2] * width)
    top, left = max(0, y - high // 2), max(0, x - wide // 2)
    bottom, right = min(height, y + high // 2), min(width, x + wide // 2)
    return top, left, bottom - top, right - left
