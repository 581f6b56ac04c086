"""PNG files of both kinds are ordinary PNGs and give the pixels back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ladd_data.png import PngKind, choose_png, decode_png, encode_png
from ladd_data.types import U8

PICTURES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


@settings(deadline=None, max_examples=50)
@given(image=PICTURES, kind=st.sampled_from(["stored", "small"]))
def test_pixels_come_back_through_our_decoder_and_through_pillow(image: U8, kind: PngKind) -> None:
    data = encode_png(image, kind)

    assert np.array_equal(decode_png(data, *image.shape), image)
    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(np.asarray(picture).reshape(*image.shape[1:], -1).transpose(2, 0, 1), image)


def test_a_large_stored_png_spans_several_deflate_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 300, 400), np.uint8)

    data = encode_png(image, "stored")

    assert np.array_equal(decode_png(data, 3, 300, 400), image)
    assert len(data) < image.nbytes * 1.01


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
