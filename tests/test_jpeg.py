"""JPEG files are looked at without decoding, decoded in one way, and refused before they cost anything."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.io import decode_jpeg as decode_by_torchvision

from ladd_data.jpeg import (
    MAX_SCANS,
    HeaderCutError,
    JpegSizeError,
    check_jpeg,
    decode_jpeg,
    max_jpeg_bytes,
    read_jpeg_header,
)


def encode(width: int = 24, height: int = 16, mode: str = "RGB", **options: Any) -> bytes:
    """Return a JPEG file of smooth noise."""
    rough = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """Put a segment behind the first marker."""
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


def exif(orientation: int, order: str) -> bytes:
    """Return an EXIF note with an orientation, in a byte order."""
    kind: Literal["big", "little"] = "big" if order == "MM" else "little"
    numbers = ((42, 2), (8, 4), (1, 2), (0x0112, 2), (3, 2), (1, 4), (orientation, 2))
    fields = b"".join(value.to_bytes(size, kind) for value, size in numbers)
    return b"Exif\0\0" + order.encode() + fields + bytes(6)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"quality": 5}])
@pytest.mark.parametrize("size", [(24, 16), (33, 17), (1, 1), (7, 200)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_that_torchvision_decodes(size: tuple[int, int], mode: str, options: dict[str, Any]) -> None:
    data = encode(*size, mode, **options)
    channels = 3 if mode == "RGB" else 1

    pixels = decode_jpeg(data, channels, size[1], size[0])

    other = decode_by_torchvision(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    assert pixels.shape == (channels, size[1], size[0])
    assert np.array_equal(pixels, other.numpy())


@pytest.mark.parametrize("order", ["II", "MM"])
def test_the_orientation_is_read_in_both_byte_orders(order: str) -> None:
    assert read_jpeg_header(with_segment(encode(), 0xE1, exif(6, order))).orientation == 6
    assert read_jpeg_header(with_segment(encode(), 0xE1, exif(1, order))).orientation == 1
    assert read_jpeg_header(with_segment(encode(), 0xE1, exif(6, order)[:14])).orientation == 1
    assert read_jpeg_header(encode()).orientation == 1


def frame(marker: int) -> Callable[[bytes], bytes]:
    """Return a change of a JPEG: another kind of frame."""
    return lambda data: data.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)


def in_frame(place: int, value: int) -> Callable[[bytes], bytes]:
    """Return a change of a JPEG: a byte of the frame header."""

    def change(data: bytes) -> bytes:
        at = data.index(b"\xff\xc0") + 4 + place
        return data[:at] + bytes([value]) + data[at + 1 :]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "not a JPEG"),
        (lambda data: b"<html>", "not a JPEG"),
        (lambda data: data[:2], "breaks off in its header"),
        (lambda data: data[:300], "breaks off in its header"),
        (lambda data: data[:-2], "breaks off: no end-of-image"),
        (lambda data: data[:-30], "breaks off: no end-of-image"),
        (lambda data: data + b"12345", "5 bytes behind its end"),
        (lambda data: encode(mode="CMYK"), "CMYK"),
        (lambda data: encode(25, 16), "25x16 RGB, not 24x16 RGB"),
        (lambda data: encode(mode="L"), "greyscale, not 24x16 RGB"),
        (lambda data: with_segment(data, 0xE1, exif(3, "MM")), "EXIF note turns it"),
        (frame(0xC3), "lossless or arithmetic"),
        (frame(0xC9), "lossless or arithmetic"),
        (in_frame(0, 12), "12 bits"),
        (in_frame(5, 2), "2 components"),
        (lambda data: in_frame(1, 0)(in_frame(2, 0)(data)), "without a stated size"),
        (lambda data: data[:2] + b"more" + data[2:], "where a marker should be"),
        (lambda data: data[:2] + b"\xff\xe0\0\1" + data[2:], "segment of 1 bytes"),
        (lambda data: b"\xff\xd8\xff\xd9", "breaks off in its header|without a frame header"),
    ],
)
def test_what_is_not_a_whole_jpeg_of_the_size_is_refused_with_its_reason(
    change: Callable[[bytes], bytes], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        decode_jpeg(change(encode()), 3, 16, 24)


def test_a_header_that_states_a_huge_picture_is_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))

    with pytest.raises(ValueError, match="65535x65535"):
        decode_jpeg(in_frame(1, 255)(in_frame(2, 255)(in_frame(3, 255)(in_frame(4, 255)(encode())))), 3, 16, 24)


def test_more_bytes_or_scans_than_pixels_need_are_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))
    data = encode()
    start = read_jpeg_header(data).scan
    many = data[:start] + data[start:-2] * (MAX_SCANS + 1) + data[-2:]
    fat = with_segment(with_segment(data, 0xFE, bytes(60000)), 0xFE, bytes(60000))

    for hostile in (many[: max_jpeg_bytes(3, 16, 24) - 2] + b"\xff\xd9", fat):
        with pytest.raises(JpegSizeError):
            decode_jpeg(hostile, 3, 16, 24)


def test_a_header_needs_its_own_bytes_only_and_says_when_they_are_too_few() -> None:
    data = with_segment(encode(), 0xE2, bytes(9000))

    with pytest.raises(HeaderCutError):
        read_jpeg_header(data[:4096])
    header = read_jpeg_header(data[: read_jpeg_header(data).scan + 4])
    assert (header.channels, header.height, header.width) == (3, 16, 24)


def test_markers_of_nothing_and_fill_bytes_are_skipped() -> None:
    data = encode()

    assert check_jpeg(data[:2] + b"\xff\xff\xff\x01\xff\xd0" + data[2:]).width == 24


CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=12)
PROGRESSIVE = encode(progressive=True)


@given(places=CHANGES, cut=st.integers(0, 5000))
def test_damage_raises_nothing_but_value_errors(places: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(PROGRESSIVE)
    for place, value in places:
        data[place % len(data)] = value
    for hostile in (bytes(data), bytes(data)[: cut % len(data)]):
        try:
            pixels = decode_jpeg(hostile, 3, 16, 24)
        except ValueError:
            continue
        assert pixels.shape == (3, 16, 24)
