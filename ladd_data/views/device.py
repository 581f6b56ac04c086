"""The views in torch, on any device: the one function that labeling and training both call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ladd_data.errors import UsageError
from ladd_data.manifest import Affine, Grid
from ladd_data.types import I64
from ladd_data.views.geometry import Axis, axis, is_exact_in_float32


class ViewMaker:
    """Cuts and resizes the views of uint8 images of one size, bit-equal on every device.

    Autocast is switched off inside, no matrix unit is used, and nothing is rounded on the way: where
    float32 is not exact for this geometry the sums run in float64, whose one rounding is the spec's.
    """

    def __init__(self, spec: Grid, height: int, width: int, device: torch.device | str = "cpu") -> None:
        """Prepare taps and weights on the device.

        Args:
            spec: the grid of views.
            height: rows of the images, and of the views.
            width: columns of the images, and of the views.
            device: where the images will be.
        """
        self.spec, self.height, self.width = spec, height, width
        self.device = torch.device(device)
        self.count = spec.n**2
        exact = is_exact_in_float32(spec, height, width)
        self._dtype = torch.float32 if exact else torch.float64
        self._rows = self._taps(axis(spec, height))
        self._columns = self._taps(axis(spec, width))
        self._divisor = float(axis(spec, height).denominator * axis(spec, width).denominator)

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
        with torch.autocast(images.device.type, enabled=False):
            pixels = images.to(self._dtype)
            bands: dict[int, Tensor] = {}
            for slot, view in enumerate(chosen):
                row, column = divmod(int(view), self.spec.n)
                if row not in bands:  # the five views of one row share their vertical mix
                    bands[row] = _mix(pixels, self._rows[row], dim=2)
                mixed = _mix(bands[row], self._columns[column], dim=3)
                result[:, slot] = mixed.div_(self._divisor)
        return result

    def _taps(self, line: Axis) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Return (low, high, weight of low, weight of high) for each crop along one axis."""
        high_weight = torch.as_tensor(line.weight).to(self.device, self._dtype)
        low_weight = line.denominator - high_weight

        def at(taps: I64, offset: int) -> Tensor:
            return torch.as_tensor(taps + offset).to(self.device)

        return [(at(line.low, o), at(line.high, o), low_weight, high_weight) for o in line.offsets]


def apply_affine(affine: Affine, pixels: Tensor) -> Tensor:
    """Turn 0..255 pixels into model input: scale * pixel + offset, float32 [..., channels, height, width].

    The product is rounded before the sum on every device, so that labeler and student get equal bits.
    """
    scale = torch.tensor(affine.scale, dtype=torch.float32, device=pixels.device)[:, None, None]
    offset = torch.tensor(affine.offset, dtype=torch.float32, device=pixels.device)[:, None, None]
    return pixels.to(torch.float32).mul(scale).add_(offset)


def _mix(pixels: Tensor, taps: tuple[Tensor, Tensor, Tensor, Tensor], dim: int) -> Tensor:
    low, high, low_weight, high_weight = taps
    if dim == 2:
        low_weight, high_weight = low_weight[:, None], high_weight[:, None]
    mixed = pixels.index_select(dim, low).mul_(low_weight)
    return mixed.add_(pixels.index_select(dim, high).mul_(high_weight))
