"""Views are pure functions of (image, view number), bit-equal in every implementation."""

from __future__ import annotations

import hashlib
import json
import runpy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as vision
from hypothesis import given, settings
from hypothesis import strategies as st

from ladd_data.errors import UsageError
from ladd_data.types import U8
from ladd_data.views.device import ViewMaker
from ladd_data.views.geometry import Box, boxes, crop_side, grid, is_exact_in_float32, offsets, taps
from ladd_data.views.reference import reference_view

GOLDEN = Path(__file__).parents[1] / "spec" / "golden"


def random_images(count: int, channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [32, 64, 96, 128, 224, 256])
def test_views_equal_torchvision_bit_for_bit(size: int, antialias: bool) -> None:
    spec, images = grid(5, "5/8"), random_images(2, 3, size, size)

    views = ViewMaker(spec, size, size)(images)

    for number, box in enumerate(boxes(spec, size, size)):
        crop = images.float()[:, :, box.y : box.y + box.height, box.x : box.x + box.width]
        assert torch.equal(views[:, number], vision.resize(crop, [size, size], antialias=antialias))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    ratio=st.fractions(min_value=Fraction(1, 20), max_value=1, max_denominator=20),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.sampled_from([1, 3]),
)
def test_torch_and_numpy_give_the_same_bits_for_any_grid(
    n: int, ratio: Fraction, height: int, width: int, channels: int
) -> None:
    spec, images = grid(n, ratio), random_images(1, channels, height, width)

    views = ViewMaker(spec, height, width)(images)[0].numpy()

    for view in {0, n - 1, n * n // 2, n * n - 1}:
        assert np.array_equal(views[view], reference_view(spec, images[0].numpy(), view))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 16),
    ratio=st.fractions(min_value=Fraction(1, 30), max_value=1, max_denominator=30),
    size=st.integers(1, 300),
)
def test_every_crop_and_every_tap_lies_inside(n: int, ratio: Fraction, size: int) -> None:
    spec = grid(n, ratio)
    side, starts = crop_side(spec, size), offsets(spec, size)
    line = taps(side, size)

    assert 1 <= side <= size
    assert all(0 <= offset <= size - side for offset in starts)
    assert list(starts) == sorted(starts)
    assert line.low.min() >= 0 and line.high.max() < side
    assert line.weight.min() >= 0 and line.weight.max() < line.denominator


def test_the_papers_grid_has_crops_of_80_with_stride_12_at_128_px() -> None:
    spec = grid(5, "5/8")

    assert (crop_side(spec, 128), offsets(spec, 128)) == (80, (0, 12, 24, 36, 48))


def test_views_are_numbered_row_major_from_the_top_left() -> None:
    assert boxes(grid(2, "1/2"), 8, 4) == (Box(0, 0, 4, 2), Box(0, 2, 4, 2), Box(4, 0, 4, 2), Box(4, 2, 4, 2))


def test_halves_round_up_and_a_single_crop_is_centred() -> None:
    assert crop_side(grid(1, "1/2"), 5) == 3
    assert offsets(grid(1, "1/2"), 8) == (2,)


def test_a_float_ratio_is_taken_as_the_fraction_it_means() -> None:
    assert grid(5, 0.625).ratio == "5/8"
    assert grid(5, 0.6).ratio == "3/5"


@pytest.mark.parametrize(("n", "ratio"), [(0, "5/8"), (65, "5/8"), (5, "9/8"), (5, "0"), (5, "x"), (5, "1/0")])
def test_a_grid_out_of_range_is_a_usage_error(n: int, ratio: str) -> None:
    with pytest.raises(UsageError):
        grid(n, ratio)


def test_some_of_the_views_are_the_same_as_in_all_of_them() -> None:
    maker, images = ViewMaker(grid(5, "5/8"), 32, 32), random_images(3, 3, 32, 32)

    assert torch.equal(maker(images, [24, 3]), maker(images)[:, [24, 3]])


def test_a_view_does_not_depend_on_its_batch_nor_on_autocast() -> None:
    maker, images = ViewMaker(grid(3, "3/4"), 50, 50), random_images(4, 3, 50, 50)
    alone = maker(images[2:3])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        together = maker(images)

    assert torch.equal(alone[0], together[2])


def test_images_of_another_type_or_size_are_refused() -> None:
    maker = ViewMaker(grid(5, "5/8"), 32, 32)

    with pytest.raises(UsageError, match=r"torch\.float32"):
        maker(torch.zeros(1, 3, 32, 32))
    with pytest.raises(UsageError, match=r"\(32, 64\)"):
        maker(random_images(1, 3, 32, 64))


def test_5_8_is_exact_in_float32_and_odd_sizes_are_not() -> None:
    assert all(is_exact_in_float32(grid(5, "5/8"), size, size) for size in (32, 64, 96, 128, 224, 256))
    assert not is_exact_in_float32(grid(5, "5/8"), 50, 50)


def test_the_golden_vectors_hold_on_the_device_path() -> None:
    make = runpy.run_path(str(GOLDEN / "make.py"))
    for case in json.loads((GOLDEN / "views.json").read_text()):
        image: U8 = make["golden_image"](case["size"])
        views = ViewMaker(grid(case["n"], case["ratio"]), case["size"], case["size"])(torch.from_numpy(image)[None])
        assert hashlib.sha256(views[0].numpy().tobytes()).hexdigest() == case["sha256"], case


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("n", "ratio", "size"), [(5, "5/8", 32), (5, "5/8", 224), (3, "3/4", 50), (7, "1/3", 96)])
def test_cuda_views_equal_cpu_views_bit_for_bit(n: int, ratio: str, size: int) -> None:
    spec, images = grid(n, ratio), random_images(4, 3, size, size)

    on_device = ViewMaker(spec, size, size, "cuda")(images.cuda())

    assert torch.equal(on_device.cpu(), ViewMaker(spec, size, size)(images))
