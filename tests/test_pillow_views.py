"""Crops resized by our own whole numbers equal Pillow's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ladd_data.views.pillow import PillowFilter, resize_as_pillow

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@st.composite
def crops(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]], int, int]:
    """Images of one size, a box in each, and a size to resize to."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        tall, wide = draw(st.integers(1, height)), draw(st.integers(1, width))
        boxes.append([draw(st.integers(0, height - tall)), draw(st.integers(0, width - wide)), tall, wide])
    channels, seed = draw(st.sampled_from([1, 3])), draw(st.integers(0, 2**32 - 1))
    images = np.random.default_rng(seed).integers(0, 256, (len(boxes), channels, height, width), dtype=np.uint8)
    return images, boxes, draw(st.integers(1, 80)), draw(st.integers(1, 80))


def by_pillow(image: np.ndarray, box: list[int], height: int, width: int, resample: PillowFilter) -> np.ndarray:
    y, x, tall, wide = box
    planes = [Image.fromarray(plane).crop((x, y, x + wide, y + tall)) for plane in image]
    return np.stack([np.asarray(plane.resize((width, height), PILLOW[resample])) for plane in planes])


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@given(case=crops())
@settings(max_examples=150, deadline=None)
def test_crops_equal_pillows(resample: PillowFilter, case: tuple[np.ndarray, list[list[int]], int, int]) -> None:
    images, boxes, height, width = case

    ours = resize_as_pillow(torch.from_numpy(images), torch.tensor(boxes), height, width, resample).numpy()

    for row, box in enumerate(boxes):
        np.testing.assert_array_equal(ours[row], by_pillow(images[row], box, height, width, resample))


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_extreme_pixels_do_not_overflow(resample: PillowFilter) -> None:
    images = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (8, 3, 224, 224))
    boxes = [[number, 2 * number, 224 - 3 * number, 37 + number] for number in range(8)]

    ours = resize_as_pillow(torch.from_numpy(images), torch.tensor(boxes), 224, 224, resample).numpy()

    for row, box in enumerate(boxes):
        np.testing.assert_array_equal(ours[row], by_pillow(images[row], box, 224, 224, resample))
