"""Mosaics taken apart: images that hold factor x factor pictures each, as RDED and IDC make them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ladd_data.errors import UsageError
from ladd_data.manifest import Distillation, Images
from ladd_data.views.device import ViewMaker, apply_affine
from ladd_data.views.geometry import grid


def take_apart(
    batch: Tensor, stored: Images, distillation: Distillation, *, resize: bool = True, normalize: bool = True
) -> Tensor:
    """Return the pictures that mosaics are made of, row by row from the top left; see `Dataset.tiles`.

    Args:
        batch: uint8 [batch, channels, height, width].
        stored: what the manifest says of the images.
        distillation: what it says of the method; its mosaic factor may be 1.
        resize: to the size of a stored image; False cuts the pixels out as they are.
        normalize: turn resized tiles into model input; False leaves them on the 0..255 scale.

    Raises:
        UsageError: the factor does not divide the image's sides, and the set is not IDC's or not to be resized.
    """
    factor = distillation.mosaic_factor
    if stored.height % factor or stored.width % factor:
        _check_padding(stored, distillation, resize)
        scales, offsets = stored.affine.scale, stored.affine.offset
        grey = [(0.5 - offset) / scale for scale, offset in zip(scales, offsets, strict=True)]
        cut = _padded_tiles(batch, factor, grey)
        return apply_affine(stored.affine, cut) if normalize else cut
    if not resize:
        sides = (factor, stored.height // factor, factor, stored.width // factor)
        return batch.reshape(*batch.shape[:2], *sides).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    cut = ViewMaker(grid(factor, f"1/{factor}"), stored.height, stored.width, batch.device)(batch)
    return apply_affine(stored.affine, cut) if normalize else cut


def _check_padding(stored: Images, distillation: Distillation, resize: bool) -> None:
    """Refuse to take mosaics apart that need padding, unless it is known how.

    Raises:
        UsageError: the method is not IDC, or uint8 tiles are wanted, which cannot hold its grey.
    """
    factor = distillation.mosaic_factor
    what = f"tiles of {stored.width}x{stored.height} images by a mosaic factor of {factor}: the factor does not"
    if distillation.method != "IDC":
        raise UsageError(
            f"{what} divide the sides, and methods differ in how they pad. Cut them by the method's own rule."
        )
    if not resize:
        raise UsageError(f"{what} divide the sides, and IDC pads with a grey that uint8 lacks. Leave resize on.")


def _padded_tiles(images: Tensor, factor: int, grey: Sequence[float]) -> Tensor:
    """Take mosaics apart as IDC does where the factor does not divide the sides.

    Args:
        images: uint8 [batch, channels, height, width].
        factor: tiles per side; each has ceil(height / factor) rows and ceil(width / factor) columns.
        grey: for each channel, what is added right and below, on the images' scale.

    Returns:
        float32 [batch, factor * factor, channels, height, width]: tiles row by row, resized bilinearly.

    Source: IDC's code, `decode_zoom` (snu-mllab/Efficient-Dataset-Condensation, test.py).
    """
    count, channels, height, width = images.shape
    rows, columns = -(-height // factor), -(-width // factor)
    fill = torch.tensor(grey, dtype=torch.float32, device=images.device)[:, None, None]
    padded = fill.expand(count, channels, rows * factor, columns * factor).clone()
    padded[..., :height, :width] = images
    tiles = padded.reshape(count, channels, factor, rows, factor, columns).permute(0, 2, 4, 1, 3, 5)
    resized = functional.interpolate(
        tiles.reshape(-1, channels, rows, columns), (height, width), mode="bilinear", align_corners=False
    )
    return resized.reshape(count, factor**2, channels, height, width)
