"""The views in torch, on any device: the one function that labeling and training both call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ladd_data.errors import UsageError
from ladd_data.manifest import Affine, Boxes, ByRecord, Full, Grid, Mix, Opaque, ViewSpec, count_views
from ladd_data.views.geometry import (
    PILLOW_BITS,
    PILLOW_SUPPORT,
    Box,
    boxes,
    count_pillow_taps,
    is_exact_in_float32,
    view_sides,
)
from ladd_data.views.mixing import Partners, mix


class ViewMaker:
    """Cuts and resizes the views of uint8 images of one size, bit-equal on every device.

    Autocast is switched off inside and no matrix unit is used. Where every step is exact in float32 (5/8 at
    any size divisible by 8) torch's own bilinear kernel does the work: exact means that no order of
    operations can change a bit. Elsewhere the sums run over integers in float64, whose one rounding is the
    spec's.
    """

    def __init__(self, spec: ViewSpec, height: int, width: int, device: torch.device | str = "cpu") -> None:
        """Prepare the geometry.

        Args:
            spec: the views.
            height: rows of the images, and of the views where these have no size of their own.
            width: columns of the images, and of the views alike.
            device: where the images will be.

        Raises:
            UsageError: the views cannot be cut.
        """
        if isinstance(spec, Opaque):
            raise UsageError(
                f"these labels are of {spec.count} views an image that cannot be cut again: {spec.reason}. The labels "
                "can be read; views cannot."
            )
        self.spec, self.height, self.width = spec, height, width
        self.count = count_views(spec)
        self._grid = boxes(spec, height, width) if isinstance(spec, Grid) else ()
        self._exact = isinstance(spec, Grid) and is_exact_in_float32(spec, height, width)
        self._sides = view_sides(spec, height, width)
        self._positions = [_positions(size, device) for size in self._sides]
        rows = [[box.y, box.x, box.height, box.width] for box in self._grid]
        self._rows = torch.tensor(rows, dtype=torch.int64, device=device)  # copied once, not once a view

    def __call__(
        self,
        images: Tensor,
        views: Sequence[int] | None = None,
        *,
        view_box: Tensor | None = None,
        view_flip: Tensor | None = None,
        partners: Partners | None = None,
    ) -> Tensor:
        """Return the views of a batch, before normalisation.

        Args:
            images: uint8 [batch, channels, height, width] on this maker's device.
            views: view numbers, in the order wanted; None for all.
            view_box: for `Boxes` and `Mix`, integers [batch, count, 4]: y, x, height, width of each record's views.
            view_flip: for those with flip, bool [batch, count].
            partners: for `Mix`, what each of the views wanted is mixed with.

        Returns:
            float32 [batch, views, channels, height, width], 0..255 scale.

        Raises:
            UsageError: the images are not uint8 or of another size, or boxes are needed and missing.

        Source: LADD, Eq. 3; spec clause LADD-041.
        """
        self._check(images, view_box, partners)
        chosen = range(self.count) if views is None else views
        shape = (len(images), len(chosen), images.shape[1], *self._sides)
        result = torch.empty(shape, dtype=torch.float32, device=images.device)
        with torch.autocast(images.device.type, enabled=False):
            pixels = images.to(torch.float32 if self._exact else torch.float64)
            for slot, view in enumerate(chosen):
                if isinstance(self.spec, Full):
                    result[:, slot] = images
                elif self._exact:
                    result[:, slot] = self._resize(pixels, self._grid[view])
                else:
                    result[:, slot] = self._resize_any(pixels, self._boxes(images, view_box, view))
                if view_flip is not None:
                    result[:, slot] = _flip(result[:, slot], view_flip[:, view])
                if partners is not None:
                    result[:, slot] = self._mix(result[:, slot], partners, slot)
        return result

    def _check(self, images: Tensor, view_box: Tensor | None, partners: Partners | None) -> None:
        fits = images.shape[-2:] == (self.height, self.width) or (isinstance(self.spec, Boxes) and self.spec.size)
        if images.dtype != torch.uint8 or not fits:
            found = f"{images.dtype} of size {tuple(images.shape[-2:])}"
            raise UsageError(f"views: found images {found}; expected torch.uint8 of ({self.height}, {self.width}).")
        if isinstance(self.spec, ByRecord) and view_box is None:
            raise UsageError("views: these differ from record to record; say which records: index=batch.index.")
        if isinstance(self.spec, Mix) and partners is None:
            raise UsageError("views: these are mixed with those of other records, which are missing here.")

    def _boxes(self, images: Tensor, view_box: Tensor | None, view: int) -> Tensor:
        """Return int64 [batch, 4]: y, x, height, width of one view of each image."""
        if view_box is not None:
            return view_box[:, view].to(torch.int64)
        return self._rows[view].expand(len(images), 4)

    def _resize(self, pixels: Tensor, box: Box) -> Tensor:
        crop = pixels[:, :, box.y : box.y + box.height, box.x : box.x + box.width]
        return functional.interpolate(crop, (self.height, self.width), mode="bilinear", align_corners=False)

    def _mix(self, own: Tensor, partners: Partners, slot: int) -> Tensor:
        """Mix one view of each record with its partner's."""
        other = self._resize_any(partners.images[:, slot].to(torch.float64), partners.box[:, slot])
        if partners.flip is not None:
            other = _flip(other, partners.flip[:, slot])
        paste, share = (None if values is None else values[:, slot] for values in (partners.paste, partners.share))
        return mix(own, other.to(torch.float32), paste, share)

    def _resize_any(self, pixels: Tensor, box: Tensor) -> Tensor:
        """Return crops, each of its own box, int64 [batch, 4], of float64 pixels at full size."""
        if isinstance(self.spec, ByRecord) and self.spec.resample != "bilinear":
            return self._resize_like_pillow(pixels, box, self.spec.resample)
        return self._resize_in_float64(pixels, box)

    def _resize_like_pillow(self, pixels: Tensor, box: Tensor, way: str) -> Tensor:
        (high, wide), (y, x, height, width) = self._positions, box.unbind(1)
        narrow = _filter_like_pillow(pixels, wide, x, width, way, dim=3)
        resized = _filter_like_pillow(narrow, high, y, height, way, dim=2)
        if not way.startswith("pillow13"):
            return resized
        tall = (height > len(high)) & (height - len(high) > 2 * (width - len(wide)))  # `geometry.is_tall`
        short = _filter_like_pillow(pixels, high, y, height, way, dim=2)
        return torch.where(tall[:, None, None, None], _filter_like_pillow(short, wide, x, width, way, dim=3), resized)

    def _resize_in_float64(self, pixels: Tensor, box: Tensor) -> Tensor:
        """Mix whole-number weights; every sum is a whole number below 2**53, so only the division rounds."""
        mixed = _mix(pixels, self._positions[0], box[:, 0], box[:, 2], dim=2)
        mixed = _mix(mixed, self._positions[1], box[:, 1], box[:, 3], dim=3)
        return mixed / float(4 * self._sides[0] * self._sides[1])


def _positions(size: int, device: torch.device | str) -> Tensor:
    """Return 2i + 1 for each output position, int64 [size]."""
    return 2 * torch.arange(size, dtype=torch.int64, device=device) + 1


def _mix(pixels: Tensor, positions: Tensor, start: Tensor, side: Tensor, dim: int) -> Tensor:
    """Mix two taps along one axis, in units of 1 / (2 * size): LADD-041 without lowest terms."""
    size = len(positions)
    at = (positions * side[:, None] - size).clamp_min(0)  # [batch, size]
    low = at // (2 * size)
    weight = at - low * 2 * size
    high = torch.minimum(low + 1, side[:, None] - 1)
    share = _along(weight, dim).to(torch.float64)
    first, second = (_gather(pixels, taps + start[:, None], dim) for taps in (low, high))
    return first * (2 * size - share) + second * share


def _filter_like_pillow(pixels: Tensor, positions: Tensor, start: Tensor, side: Tensor, way: str, dim: int) -> Tensor:
    """Resize one axis as `geometry.pillow_taps` says; every sum is a whole number below 2**53."""
    size = len(positions)
    ratio = side[:, None].to(torch.float64) / size  # [batch, 1]
    wider = ratio.clamp_min(1)
    support = PILLOW_SUPPORT[way] * wider
    center = positions.to(torch.float64) / 2 * ratio  # [batch, size]
    low = (center - support + 0.5).to(torch.int64).clamp_min(0)
    stop = torch.minimum((center + support + 0.5).to(torch.int64), side[:, None])
    taps = [low + step for step in range(count_pillow_taps(pixels.shape[dim], size, way))]
    shares = [
        torch.where(tap < stop, _pillow_share(((tap - center + 0.5) * (1 / wider)).abs(), way), 0.0) for tap in taps
    ]
    sums = shares[0]
    for share in shares[1:]:
        sums = sums + share
    total = torch.full((), float(1 << (PILLOW_BITS - 1)), dtype=torch.float64, device=pixels.device)
    for tap, share in zip(taps, shares, strict=True):
        exact = share / sums * 2**PILLOW_BITS
        weight = torch.where(exact < 0, exact - 0.5, exact + 0.5).trunc()
        inside = torch.minimum(tap, side[:, None] - 1) + start[:, None]
        total = total + _gather(pixels, inside, dim) * _along(weight, dim)
    rounded: Tensor = (total / 2**PILLOW_BITS).floor()
    return rounded.clamp(0, 255)


def _pillow_share(distance: Tensor, way: str) -> Tensor:
    """Return the filter's value, as `geometry.pillow_taps` has it."""
    if way == "pillow-bilinear":
        return (1 - distance).clamp_min(0)
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def _along(values: Tensor, dim: int) -> Tensor:
    """Return [batch, size] as [batch, 1, 1, 1] with `size` at `dim`."""
    shape = [len(values), 1, 1, 1]
    shape[dim] = values.shape[1]
    return values.view(shape)


def _gather(pixels: Tensor, taps: Tensor, dim: int) -> Tensor:
    """Return the rows or columns `taps`, int64 [batch, size], of each image."""
    wide = list(pixels.shape)
    wide[dim] = taps.shape[1]
    taken: Tensor = pixels.gather(dim, _along(taps, dim).expand(wide))
    return taken


def _flip(views: Tensor, flip: Tensor) -> Tensor:
    return torch.where(flip[:, None, None, None], views.flip(-1), views)


def apply_affine(affine: Affine, pixels: Tensor) -> Tensor:
    """Turn 0..255 pixels into model input: scale * pixel + offset, float32 [..., channels, height, width].

    The product is rounded before the sum on every device, so that labeler and student get equal bits.
    """
    scale = torch.tensor(affine.scale, dtype=torch.float32, device=pixels.device)[:, None, None]
    offset = torch.tensor(affine.offset, dtype=torch.float32, device=pixels.device)[:, None, None]
    return pixels.to(torch.float32).mul(scale).add_(offset)
