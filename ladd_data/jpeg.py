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

JPEG_END = b"\xff\xd9"
"""The end-of-image marker."""
MAX_SCANS = 100
"""Of one JPEG (LADD-084): each costs a pass over all pixels, however few bytes it has."""

_FRAMES = {0xC0, 0xC1, 0xC2}
"""Baseline, extended sequential and progressive, Huffman-coded."""
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_OTHER_FRAME = "a lossless or arithmetic-coded JPEG, not a baseline or progressive one"
_REFUSED = {
    **dict.fromkeys((0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), _OTHER_FRAME),
    **dict.fromkeys((_SOS, _EOI), "a JPEG without a frame header"),
}
_SEGMENT, _FRAME = struct.Struct(">BBH"), struct.Struct(">BHHB")
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
    try:
        while True:
            fill, marker, size = _SEGMENT.unpack_from(data, at)
            if fill != 0xFF:
                raise ValueError("a JPEG with other bytes where a marker should be")
            if marker == 0xFF or marker in _ALONE:  # fill bytes, and markers of nothing
                at += 1 if marker == 0xFF else 2
                continue
            if marker in _FRAMES:
                shape = _read_frame(data, at)
            elif marker == _SOS and shape is not None:
                return JpegHeader(*shape, orientation, at)
            elif marker == _APP1 and data[at + 4 : at + 10] == b"Exif\0\0":
                orientation = _read_orientation(data[at + 10 : at + 2 + size])
            elif marker in _REFUSED:
                raise ValueError(_REFUSED[marker])
            if size < 2:
                raise ValueError(f"a JPEG segment of {size} bytes")
            at += 2 + size
    except struct.error:
        raise HeaderCutError("a JPEG that breaks off in its header") from None


def check_jpeg(data: bytes) -> JpegHeader:
    """Check that a JPEG is of a kind the format takes, and whole; nothing is decoded.

    Raises:
        JpegSizeError: more bytes than its size allows.
        ValueError: not such a JPEG, cut short, or with bytes behind its end.
    """
    try:
        header = read_jpeg_header(data)
    except HeaderCutError as error:
        raise ValueError(str(error)) from None
    if len(data) > max_jpeg_bytes(header.channels, header.height, header.width):
        raise JpegSizeError(f"a JPEG of {len(data)} bytes for {_shape(header)}")
    check_jpeg_end(data, header.scan)
    return header


def check_jpeg_end(data: bytes, scan: int = 2) -> None:
    """Check that the last two bytes are the end-of-image marker.

    Raises:
        ValueError: they are not; says whether the JPEG breaks off, or goes on.
    """
    if not data.endswith(JPEG_END):
        end, _ = _walk_scans(data, scan)
        if end < 0:
            raise ValueError("a JPEG that breaks off: no end-of-image marker")
        raise ValueError(f"a JPEG with {len(data) - 2 - end} bytes behind its end")


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
    _, scans = _walk_scans(data, header.scan)
    if scans > MAX_SCANS:
        raise JpegSizeError(f"a JPEG of more than {MAX_SCANS} scans")
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            array = np.asarray(picture)
        return np.array(array.reshape(height, width, channels).transpose(2, 0, 1), order="C")  # ours to write to
    except Exception as error:  # hostile bytes: a decoder's error may be of any kind
        raise ValueError(f"a damaged JPEG ({error})") from error


def max_jpeg_bytes(channels: int, height: int, width: int) -> int:
    """Return the size above which a JPEG of this shape is refused undecoded."""
    return 2 * channels * height * width + 65536


def _read_frame(data: bytes, at: int) -> tuple[int, int, int]:
    """Return (channels, height, width) of the frame header whose marker is at `at`."""
    depth, height, width, components = _FRAME.unpack_from(data, at + 4)
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


def _walk_scans(data: bytes, at: int) -> tuple[int, int]:
    """Return where the end-of-image marker is, -1 where there is none, and the scans before it (some of too many)."""
    scans = 0
    while (found := _NEXT_MARKER.search(data, at)) is not None and scans <= MAX_SCANS:
        marker = data[found.start() + 1]
        if marker == _EOI:
            return found.start(), scans
        scans += marker == _SOS
        size = int.from_bytes(data[found.end() : found.end() + 2], "big")
        at = found.end() if marker in _ALONE else found.end() + max(2, size)
    return -1, scans


def _shape(header: JpegHeader) -> str:
    return f"{header.width}x{header.height} {'RGB' if header.channels == 3 else 'greyscale'}"
