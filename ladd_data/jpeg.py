"""JPEG bytes: looked at without decoding, decoded with every size checked before memory is taken.

What a JPEG decodes to is the format's business (LADD-029): decoders may differ in the inverse DCT, in how they
enlarge colour, and in whether they turn a picture by its EXIF note. Ours is libjpeg-turbo by way of Pillow.

Source: ITU-T T.81, Annex B (markers); JFIF 1.02; Exif 2.3, 4.6.4 (orientation).
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ladd_data.types import U8

MAX_SCANS = 100
"""Of one JPEG (LADD-084): each costs a pass over all pixels, however few bytes it has."""

_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ORIENTATION = 0x0112


class JpegSizeError(ValueError):
    """A JPEG of more bytes or scans than its pixels can need (LADD-084)."""


class HeaderCutError(ValueError):
    """The bytes end before the frame header."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What a JPEG says of itself before its first scan.

    orientation: of the EXIF note, 1 to 8; 1 where there is none. scan: where the first scan header's marker is.
    """

    channels: int
    height: int
    width: int
    orientation: int
    scan: int


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Return what a JPEG is, from its first bytes.

    Raises:
        HeaderCutError: the bytes end too early; more of them may help.
        ValueError: not a JPEG, or not one of 8 bits, baseline or progressive, with 1 or 3 components.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("bytes that are not a JPEG")
    at, orientation, shape = 2, 1, None
    while True:
        marker, at, size = _read_marker(data, at)
        if marker == _SOS and shape is not None:
            return JpegHeader(*shape, orientation, at - 4)
        if marker in _FRAMES:
            shape = _read_frame(data, at)
        elif marker in _OTHER_FRAMES:
            raise ValueError("a lossless or arithmetic-coded JPEG, not a baseline or progressive one")
        elif marker == _APP1 and data[at : at + 6] == b"Exif\0\0":
            orientation = _read_orientation(data[at + 6 : at + size])
        elif marker in (_SOS, _EOI):
            raise ValueError("a JPEG without a frame header")
        at += size


def check_jpeg(data: bytes) -> JpegHeader:
    """Check that a JPEG is whole: it has an end, and nothing behind it; nothing is decoded.

    Raises:
        JpegSizeError: more bytes or scans than its size allows.
        ValueError: not a JPEG of a kind the format takes, cut short, or with bytes behind its end.
    """
    try:
        header = read_jpeg_header(data)
    except HeaderCutError:
        raise ValueError("a JPEG that breaks off in its header") from None
    if len(data) > max_jpeg_bytes(header.channels, header.height, header.width):
        raise JpegSizeError(f"a JPEG of {len(data)} bytes for {_shape(header)}")
    end = data.find(b"\xff\xd9", header.scan)
    if end != len(data) - 2 or data.count(b"\xff\xda") > MAX_SCANS:  # else there is nothing to look for
        end = _find_end(data, header.scan)
    if end < 0:
        raise ValueError("a JPEG that breaks off: no end-of-image marker")
    if end != len(data) - 2:
        raise ValueError(f"a JPEG with {len(data) - 2 - end} bytes behind its end")
    return header


def decode_jpeg(data: bytes, channels: int, height: int, width: int) -> U8:
    """Turn a JPEG file of the stated shape into pixels, uint8 [channels, height, width] (LADD-029).

    Raises:
        JpegSizeError: more bytes or scans than its size allows.
        ValueError: not a JPEG, damaged, turned by its EXIF note, or of another size or colour kind; says which.
    """
    header = check_jpeg(data)
    if (header.channels, header.height, header.width) != (channels, height, width):
        expected = JpegHeader(channels, height, width, 1, 0)
        raise ValueError(f"a JPEG of {_shape(header)}, not {_shape(expected)}")
    if header.orientation != 1:
        raise ValueError(f"a JPEG whose EXIF note turns it (orientation {header.orientation})")
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            array = np.asarray(picture)
        return np.ascontiguousarray(array.reshape(height, width, channels).transpose(2, 0, 1))
    except Exception as error:  # hostile bytes: a decoder's error may be of any kind
        raise ValueError(f"a damaged JPEG ({error})") from error


def max_jpeg_bytes(channels: int, height: int, width: int) -> int:
    """Return the size above which a JPEG of this shape is refused undecoded."""
    return 2 * channels * height * width + 65536


def _read_marker(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the next marker, where its content begins, and the content's length."""
    try:
        while data[at] == 0xFF and data[at + 1] in (0xFF, *_ALONE):  # fill bytes, and markers of nothing
            at += 1 if data[at + 1] == 0xFF else 2
        if data[at] != 0xFF:
            raise ValueError("a JPEG with other bytes where a marker should be")
        marker = data[at + 1]
        if marker == _EOI:
            return marker, at + 2, 0
        size = data[at + 2] * 256 + data[at + 3]
    except IndexError:
        raise HeaderCutError("a JPEG that breaks off in its header") from None
    if size < 2:
        raise ValueError(f"a JPEG segment of {size} bytes")
    return marker, at + 4, size - 2


def _read_frame(data: bytes, at: int) -> tuple[int, int, int]:
    """Return (channels, height, width)."""
    if len(data) < at + 6:
        raise HeaderCutError("a JPEG that breaks off in its header")
    depth, height, width, components = struct.unpack_from(">BHHB", data, at)
    if depth != 8:
        raise ValueError(f"a JPEG of {depth} bits, not 8")
    if components not in (1, 3):
        kind = "a CMYK JPEG" if components == 4 else f"a JPEG of {components} components"
        raise ValueError(f"{kind}, not an RGB or greyscale one")
    if not height or not width:
        raise ValueError("a JPEG without a stated size")
    return components, height, width


def _read_orientation(exif: bytes) -> int:
    """Return the orientation that an EXIF note states, 1 where it states none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for number in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * number)
            if tag == _ORIENTATION and kind == 3 and count == 1:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass  # a note that breaks off says nothing
    return 1


def _find_end(data: bytes, at: int) -> int:
    """Return where the end-of-image marker is, from the first scan on; -1 where there is none."""
    scans = 0
    while (found := _NEXT_MARKER.search(data, at)) is not None:
        marker = data[found.start() + 1]
        if marker == _EOI:
            return found.start()
        scans += marker == _SOS
        if scans > MAX_SCANS:
            raise JpegSizeError(f"a JPEG of more than {MAX_SCANS} scans")
        size = int.from_bytes(data[found.end() : found.end() + 2], "big")
        at = found.end() if marker in _ALONE else found.end() + max(2, size)
    return -1


def _shape(header: JpegHeader) -> str:
    return f"{header.width}x{header.height} {'RGB' if header.channels == 3 else 'greyscale'}"
