"""A group's images as files, PNG or JPEG, whether the container holds files, pixels or both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import overload

import numpy as np

from ladd_data.digests import digest_pixels
from ladd_data.jpeg import decode_jpeg
from ladd_data.png import PngKind, decode_png, encode_png
from ladd_data.shards.layout import Layout
from ladd_data.types import U8


class PixelImages(Sequence[bytes]):
    """Images held as pixels; each becomes a PNG file only when it is asked for, or has its JPEG file beside it.

    A PNG file is a pure function of pixels and kind, so what went from Parquet to Arrow comes back as it was.
    """

    def __init__(self, pixels: U8, source: PngKind | Sequence[bytes]) -> None:
        """Wrap pixels, uint8 [n, channels, height, width], without a copy; `source`: the kind, or the JPEG files."""
        self.pixels, self.source = pixels, source

    def __len__(self) -> int:
        return len(self.pixels)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> PixelImages: ...

    def __getitem__(self, index: int | slice) -> bytes | PixelImages:
        source = self.source
        if isinstance(index, slice):
            return PixelImages(self.pixels[index], source if isinstance(source, str) else source[index])
        return encode_png(self.pixels[index], source) if isinstance(source, str) else source[index]


def decode_image(images: Sequence[bytes], row: int, layout: Layout) -> U8:
    """Return the pixels of one image, uint8 [channels, height, width], as a copy.

    Raises:
        ValueError: not a file of the layout's kind, damaged, or of another size or colour type; says which.
    """
    if isinstance(images, PixelImages):
        return np.array(images.pixels[row])
    decode = decode_png if layout.png else decode_jpeg
    return decode(images[row], *layout.shape)


def digest_image(images: Sequence[bytes], row: int, pixels: U8 | None, layout: Layout) -> str:
    """Return what identifies one image (LADD-025): the SHA-256 of its pixels, or of its JPEG file."""
    if layout.png is None:
        return hashlib.sha256(images[row]).hexdigest()
    return digest_pixels(decode_image(images, row, layout) if pixels is None else pixels)


def join_images(parts: list[Sequence[bytes]]) -> Sequence[bytes]:
    """Return the images of several groups as one group's."""
    held = [part for part in parts if isinstance(part, PixelImages)]
    if len(held) < len(parts):
        return [image for part in parts for image in part]
    pixels, kind = np.concatenate([part.pixels for part in held]), held[0].source
    return PixelImages(pixels, kind if isinstance(kind, str) else [image for part in parts for image in part])
