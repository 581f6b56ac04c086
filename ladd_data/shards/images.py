"""A group's images as PNG files, whether the container holds files or pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from ladd_data.png import PngKind, decode_png, encode_png
from ladd_data.types import U8


class PixelImages(Sequence[bytes]):
    """Images held as pixels; each becomes a PNG file only when it is asked for.

    The file is a pure function of pixels and kind, so what went from Parquet to Arrow comes back as it was.
    """

    def __init__(self, pixels: U8, kind: PngKind) -> None:
        """Wrap pixels, uint8 [n, channels, height, width], without a copy."""
        self.pixels, self.kind = pixels, kind

    def __len__(self) -> int:
        return len(self.pixels)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> PixelImages: ...

    def __getitem__(self, index: int | slice) -> bytes | PixelImages:
        if isinstance(index, slice):
            return PixelImages(self.pixels[index], self.kind)
        return encode_png(self.pixels[index], self.kind)


def decode_image(images: Sequence[bytes], row: int, channels: int, height: int, width: int) -> U8:
    """Return the pixels of one image, uint8 [channels, height, width], as a copy.

    Raises:
        ValueError: not a PNG, damaged, or of another size or colour type; says which.
    """
    if isinstance(images, PixelImages):
        return np.array(images.pixels[row])
    return decode_png(images[row], channels, height, width)


def join_images(parts: list[Sequence[bytes]]) -> Sequence[bytes]:
    """Return the images of several groups as one group's."""
    pixels = [part for part in parts if isinstance(part, PixelImages)]
    if len(pixels) == len(parts):
        return PixelImages(np.concatenate([part.pixels for part in pixels]), pixels[0].kind)
    return [image for part in parts for image in part]
