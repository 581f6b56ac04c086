"""The views in torch, on any device: the one function that labeling and training both call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ladd_data.errors import UsageError
from ladd_data.manifest import Affine, Grid
from ladd_data.views.geometry import Axis, axis, boxes, is_exact_in_float32


class ViewMaker:
    """Cuts and resizes the views of uint8 images of one size, bit-equal on every device.

    Autocast is switched off inside and no matrix unit is used. Where every step is exact in float32 (5/8 at
    any size divisible by 8) torch's own bilinear kernel does the work: exact means that no order of
    operations can change a bit. Elsewhere the sums run over integers in float64, whose one rounding is the
    spec's.
    """

    def __init__(self, spec: Grid, height: int, width: int, device: torch.device | str = "cpu") -> None:
        """Prepare the geometry.

        Args:
            spec: the grid of views.
            height: rows of the images, and of the views.
            width: columns of the images, and of the views.
            device: where the images will be.
        """
        self.spec, self.height, self.width = spec, height, width
        self.count = spec.n**2
        self._boxes = boxes(spec, height, width)
        self._exact = is_exact_in_float32(spec, height, width)
        self._rows = _Taps(axis(spec, height), device)
        self._columns = _Taps(axis(spec, width), device)

    def __call__(self, images: Tensor, views: Sequence[int] | None = None) -> Tensor:
        """Return the views of a batch, before normalisation.

        Args:
            images: uint8 [batch, channels, height, width] on this maker's device.
            views: view numbers, in the order wanted; None for all, row-major from the top left.

        Returns:
            float32 [batch, views, channels, height, width], 0..255 scale.

        Raises:
            UsageError: the images are not uint8 or of another size.

        Source: LADD, Eq. 3; spec clause LADD-041.
        """
        if images.dtype != torch.uint8 or images.shape[-2:] != (self.height, self.width):
            found = f"{images.dtype} of size {tuple(images.shape[-2:])}"
            raise UsageError(f"views: found images {found}; expected torch.uint8 of ({self.height}, {self.width}).")
        chosen = range(self.count) if views is None else views
        shape = (len(images), len(chosen), images.shape[1], self.height, self.width)
        result = torch.empty(shape, dtype=torch.float32, device=images.device)
        resize = self._resize if self._exact else self._resize_in_float64
        with torch.autocast(images.device.type, enabled=False):
            pixels = images.to(torch.float32 if self._exact else torch.float64)
            for slot, view in enumerate(chosen):
                box = self._boxes[view]
                crop = pixels[:, :, box.y : box.y + box.height, box.x : box.x + box.width]
                result[:, slot] = resize(crop)
        return result

    def _resize(self, crop: Tensor) -> Tensor:
        return functional.interpolate(crop, (self.height, self.width), mode="bilinear", align_corners=False)

    def _resize_in_float64(self, crop: Tensor) -> Tensor:
        total = self._columns.mix(self._rows.mix(crop, dim=2), dim=3)  # whole numbers below 2**53
        return total / (self._rows.denominator * self._columns.denominator)


class _Taps:
    """The two taps and whole-number weights of every output position along one axis."""

    def __init__(self, line: Axis, device: torch.device | str) -> None:
        self.denominator = float(line.denominator)
        self._low, self._high = (torch.as_tensor(taps).to(device) for taps in (line.low, line.high))
        self._weight = torch.as_tensor(line.weight).to(device, torch.float64)

    def mix(self, pixels: Tensor, dim: int) -> Tensor:
        weight = self._weight[:, None] if dim == 2 else self._weight
        low = pixels.index_select(dim, self._low) * (self.denominator - weight)
        return low + pixels.index_select(dim, self._high) * weight


def apply_affine(affine: Affine, pixels: Tensor) -> Tensor:
    """Turn 0..255 pixels into model input: scale * pixel + offset, float32 [..., channels, height, width].

    The product is rounded before the sum on every device, so that labeler and student get equal bits.
    """
    scale = torch.tensor(affine.scale, dtype=torch.float32, device=pixels.device)[:, None, None]
    offset = torch.tensor(affine.offset, dtype=torch.float32, device=pixels.device)[:, None, None]
    return pixels.to(torch.float32).mul(scale).add_(offset)
