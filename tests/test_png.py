"""PNG files of both kinds are ordinary PNGs and give the pixels back."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from browser import open_page
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from ladd_data.png import PngKind, choose_png, decode_png, encode_png
from ladd_data.types import U8

PICTURES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


SIDES = [
    (1, 1),
    (1, 3),
    (7, 5),
    (16, 16),
    (32, 32),
    (103, 211),
    (128, 128),
    (146, 149),
    (147, 149),
    (224, 224),
    (1, 224),
]
"""Height and width. Stored RGB rows of 146x149 fill one deflate block, those of 147x149 begin a second, and those of
224x224 take three."""

KINDS: tuple[PngKind, ...] = ("stored", "small")
CASES = [(kind, channels, side) for kind in KINDS for channels in (1, 3) for side in SIDES]
TO_PIXELS = """async (urls) => {
  const decoded = [];
  for (const url of urls) {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(image, 0, 0);
    const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
    let text = "";
    for (let start = 0; start < data.length; start += 8192)
      text += String.fromCharCode(...data.subarray(start, start + 8192));
    decoded.push([canvas.height, canvas.width, btoa(text)]);
  }
  return decoded;
}"""


def picture(channels: int, side: tuple[int, int]) -> U8:
    """Return noise: every byte value, and nothing that a wrong row or channel order would leave as it is."""
    return np.random.default_rng(side).integers(0, 256, (channels, *side), np.uint8)


@settings(deadline=None, max_examples=50)
@given(image=PICTURES, kind=st.sampled_from(["stored", "small"]))
def test_pixels_come_back_through_our_decoder_and_through_pillow(image: U8, kind: PngKind) -> None:
    data = encode_png(image, kind)

    assert np.array_equal(decode_png(data, *image.shape), image)
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(np.asarray(opened).reshape(*image.shape[1:], -1).transpose(2, 0, 1), image)


@pytest.mark.parametrize(("kind", "channels", "side"), CASES)
def test_pixels_come_back_through_libpng(kind: PngKind, channels: int, side: tuple[int, int]) -> None:
    image = picture(channels, side)

    data = torch.frombuffer(bytearray(encode_png(image, kind)), dtype=torch.uint8)

    assert np.array_equal(decode_image(data, ImageReadMode.UNCHANGED).numpy(), image)


def test_pixels_come_back_through_a_browser() -> None:
    images = [picture(channels, side) for _, channels, side in CASES]
    files = [encode_png(image, kind) for image, (kind, _, _) in zip(images, CASES, strict=True)]

    with open_page() as page:
        urls = ["data:image/png;base64," + base64.b64encode(file).decode() for file in files]
        decoded = page.evaluate(TO_PIXELS, urls)

    for image, case, (height, width, text) in zip(images, CASES, decoded, strict=True):
        rgba = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4).transpose(2, 0, 1)
        assert np.array_equal(rgba[:3], np.broadcast_to(image, (3, *image.shape[1:]))), case
        assert (rgba[3] == 255).all(), case


@pytest.mark.parametrize(("side", "blocks"), [((146, 149), 1), ((147, 149), 2), ((224, 224), 3)])
def test_a_stored_png_is_unfiltered_rows_in_deflate_blocks_that_store(side: tuple[int, int], blocks: int) -> None:
    image = picture(3, side)

    data = encode_png(image, "stored")

    length, name = struct.unpack(">I4s", data[33:41])
    body = data[41 : 41 + length]
    assert name == b"IDAT" and zlib.crc32(data[37 : 41 + length]) == int.from_bytes(data[41 + length : 45 + length])
    assert body[:2] == b"\x78\x01"
    rows, found, last, place = bytearray(), 0, 0, 2
    while not last:
        last, size, inverse = struct.unpack_from("<BHH", body, place)  # one bit "last", two bits 0: stored
        assert last in (0, 1) and size == inverse ^ 0xFFFF
        rows += body[place + 5 : place + 5 + size]
        place, found = place + 5 + size, found + 1
    assert found == blocks and int.from_bytes(body[place:]) == zlib.adler32(rows)
    unpacked = np.frombuffer(rows, np.uint8).reshape(side[0], -1)
    assert not unpacked[:, 0].any()
    assert np.array_equal(unpacked[:, 1:].reshape(*side, 3).transpose(2, 0, 1), image)


def test_noise_is_stored_and_smooth_pictures_are_deflated() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), np.uint8)
    smooth = np.broadcast_to(np.arange(32, dtype=np.uint8), (20, 3, 32, 32)).copy()

    assert choose_png(noise) == "stored"
    assert choose_png(smooth) == "small"


def test_a_png_of_another_shape_or_kind_is_named() -> None:
    grey = encode_png(np.zeros((1, 4, 6), np.uint8), "stored")
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4)).save(buffer, "PNG")

    with pytest.raises(ValueError, match="6x4 greyscale, not 6x4 RGB"):
        decode_png(grey, 3, 4, 6)
    with pytest.raises(ValueError, match="colour type 6"):
        decode_png(buffer.getvalue(), 3, 4, 4)
    with pytest.raises(ValueError, match="not a PNG"):
        decode_png(b"GIF89a" * 10, 3, 4, 4)


def test_a_header_that_claims_a_huge_picture_is_refused_before_memory_is_taken() -> None:
    data = bytearray(encode_png(np.zeros((3, 4, 4), np.uint8), "stored"))
    data[16:24] = (60000).to_bytes(4, "big") * 2

    with pytest.raises(ValueError, match="60000x60000"):
        decode_png(bytes(data), 3, 4, 4)


def test_equal_pictures_give_equal_bytes() -> None:
    image = np.random.default_rng(1).integers(0, 256, (3, 8, 8), np.uint8)

    assert encode_png(image, "stored") == encode_png(image.copy(), "stored")
    assert encode_png(image, "small") == encode_png(image.copy(), "small")
