"""PNG bytes: written in one of two ways, read with every size checked before memory is taken.

`stored` (no row filter, no deflate) is an ordinary PNG that opens everywhere and decodes at memory
speed. Optimised distilled images are noise-like: deflate saves them a few per cent and costs a factor
of 30 in decoding (docs/design.md), so it is used only where it saves at least a tenth.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Literal

import numpy as np
from PIL import Image

from ladd_data.types import U8

PngKind = Literal["stored", "small"]
SMALL_GAIN = 0.10
"""Share of the raw bytes that deflate must save before `small` is chosen."""

SPARE_BYTES = 65536
"""What a PNG may take beyond its pixels and a tenth of them: colour profiles and notes (LADD-084)."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 3: 2}


def choose_png(images: U8, sample: int = 64) -> PngKind:
    """Return the cheaper kind for these images, uint8 [n, channels, h, w], judged on an even sample."""
    step = max(1, -(-len(images) // sample))
    chosen = images[::step]
    saved = 1 - sum(len(encode_png(image, "small")) for image in chosen) / max(1, chosen.nbytes)
    return "small" if saved >= SMALL_GAIN else "stored"


def encode_png(image: U8, kind: PngKind) -> bytes:
    """Turn pixels, uint8 [channels, height, width] with 1 or 3 channels, into a PNG file."""
    rows = np.ascontiguousarray(image.transpose(1, 2, 0))
    if kind == "small":
        buffer = io.BytesIO()
        Image.fromarray(rows if image.shape[0] == 3 else rows[:, :, 0]).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()
    height, width, channels = rows.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[channels], 0, 0, 0)
    filtered = np.zeros((height, 1 + width * channels), np.uint8)  # filter byte 0 before each row
    filtered[:, 1:] = rows.reshape(height, -1)
    body = zlib.compress(filtered.tobytes(), level=0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def decode_png(data: bytes, channels: int, height: int, width: int) -> U8:
    """Turn a PNG file of the stated shape into pixels, uint8 [channels, height, width].

    Raises:
        ValueError: not a PNG, damaged, or of another size or colour type; says which.
    """
    found = read_png_header(data)
    if found != (channels, height, width):
        raise ValueError(f"a PNG of {_shape(*found)}, not {_shape(channels, height, width)}")
    if data[28]:
        raise ValueError("an interlaced PNG")
    if len(data) > max_png_bytes(channels, height, width):
        raise PngSizeError(f"a PNG of {len(data)} bytes for {_shape(channels, height, width)}")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            array = np.asarray(picture)
        return np.array(array.reshape(height, width, channels).transpose(2, 0, 1), order="C")  # ours to write to
    except Exception as error:  # hostile bytes: a decoder's error may be of any kind
        raise ValueError(f"a damaged PNG ({error})") from error


def max_png_bytes(channels: int, height: int, width: int) -> int:
    """Return the size above which a PNG of this shape is refused unread."""
    raw = height * (1 + width * channels)
    return raw + raw // 10 + SPARE_BYTES


class PngSizeError(ValueError):
    """A PNG of more bytes than its pixels can need (LADD-084)."""


def read_png_header(data: bytes) -> tuple[int, int, int]:
    """Return (channels, height, width) without decoding.

    Raises:
        ValueError: not an 8-bit greyscale or RGB PNG.
    """
    if len(data) < 33 or not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        raise ValueError("bytes that are not a PNG")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    channels = {kind: count for count, kind in _COLOUR_TYPE.items()}.get(colour)
    if depth != 8 or channels is None:
        raise ValueError(f"a PNG of bit depth {depth} and colour type {colour}, not 8-bit RGB or greyscale")
    return channels, height, width


def _shape(channels: int, height: int, width: int) -> str:
    return f"{width}x{height} {'RGB' if channels == 3 else 'greyscale'}"


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
