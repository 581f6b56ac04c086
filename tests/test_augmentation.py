"""Augmentation: each operation equals a slow, plain one; draws depend on (seed, step, pass) alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import slow_augmentation as slow
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as transforms

import ladd_data as ladd
from ladd_data.deploy.augmentation import crops, dsa, mixing
from ladd_data.deploy.augmentation.augment import Augmenter
from ladd_data.deploy.augmentation.draws import Draws
from ladd_data.recipe import Augmentation
from ladd_data.recipes import DSA

CPU = torch.device("cpu")
BLACK = (-2.0, -1.6, -1.2)


def pictures(count: int = 6, height: int = 12, width: int = 12) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def draws(seed: int = 3, step: int = 5, number: int = 0, rows: int = 6) -> Draws:
    return Draws(seed, step, number, rows, CPU)


def numbers(count: int, columns: int) -> Tensor:
    """Return u that hold both ends of [0, 1)."""
    u = torch.rand(count, columns, generator=torch.Generator().manual_seed(2))
    u[0], u[1] = 0.0, 1 - 2**-24
    return u


@pytest.mark.parametrize("name", dsa.OPERATIONS)
@pytest.mark.parametrize("size", [(12, 12), (13, 13), (11, 15)])
def test_each_operation_of_dsa_is_the_plain_one(name: str, size: tuple[int, int]) -> None:
    given, u = pictures(8, *size), numbers(8, dsa.NUMBERS[name])

    found = dsa.apply(name, given, u).double().numpy()

    for row in range(8):
        expected = slow.OPERATIONS[name](given[row].double().numpy(), u[row].double().tolist())
        np.testing.assert_allclose(found[row], expected, atol=2e-5)


def test_the_published_parameters_of_dsa() -> None:
    assert (dsa.BRIGHTNESS, dsa.SATURATION, dsa.CONTRAST) == (1.0, 2.0, 0.5)
    assert (dsa.CROP_PAD, dsa.CUTOUT, dsa.FLIP, dsa.SCALE, dsa.ROTATE) == (0.125, 0.5, 0.5, 1.2, 15.0)
    assert set(DSA.split("_")) == set(dsa.OPERATIONS)


def changed_by(operation: str) -> Callable[[Tensor, Draws], Tensor]:
    augmenter = Augmenter(Augmentation(dsa=operation), BLACK)
    return lambda given, drawn: augmenter(given, drawn)[0]


def test_one_operation_is_drawn_a_batch_and_is_the_same_in_all_passes_of_a_step() -> None:
    given, augmenter = pictures(), Augmenter(Augmentation(dsa=DSA), BLACK)
    seen = set()
    for step in range(60):
        for number in range(2):
            found, _ = augmenter(given, draws(step=step, number=number))
            fits = [
                name
                for name in dsa.OPERATIONS
                if torch.equal(found, changed_by(name)(given, draws(step=step, number=number)))
            ]
            assert len(fits) == 1
            seen.add((step, fits[0]))
    assert len(seen) == 60  # not two operations in one step
    assert {name for _, name in seen} == set(dsa.OPERATIONS)


def test_per_image_each_picture_has_an_operation_of_its_own() -> None:
    given = pictures(48)
    found, _ = Augmenter(Augmentation(dsa=DSA, dsa_per_image=True), BLACK)(given, draws(rows=48))

    each = {name: changed_by(name)(given, draws(rows=48)) for name in dsa.OPERATIONS}
    fits = [[name for name, whole in each.items() if torch.equal(found[row], whole[row])] for row in range(48)]
    assert all(fits) and {name for names in fits for name in names} == set(dsa.OPERATIONS)


def test_idc_flips_and_colours_always_and_draws_one_of_the_others() -> None:
    given, strategy = pictures(), "color_crop_flip_scale_rotate"
    found, _ = Augmenter(Augmentation(dsa=strategy, dsa_always=True), BLACK)(given, draws())

    always = changed_by("color")(changed_by("flip")(given, draws()), draws())
    assert any(torch.equal(found, changed_by(name)(always, draws())) for name in ("crop", "scale", "rotate"))


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(dsa=DSA),
        Augmentation(crop_scale=(0.3, 1.0), flip=True, patch_shuffle=2, cutmix=1.0),
        Augmentation(crop_padding=2, mixup=0.8),
        Augmentation(dsa=DSA, dsa_per_image=True),
    ],
)
def test_draws_depend_on_seed_step_and_pass_alone(augmentation: Augmentation) -> None:
    given, augmenter = pictures(), Augmenter(augmentation, BLACK)

    def run(**key: int) -> Tensor:
        torch.rand(1)  # torch's generator has no part in it
        return augmenter(given, draws(**key))[0]

    assert torch.equal(run(), run())
    for other in ({"seed": 4}, {"step": 6}, {"number": 1}):
        assert not torch.equal(run(), run(**other)), other


def test_draws_are_even_and_do_not_share_streams() -> None:
    drawn = Draws(0, 0, 0, 20_000, CPU)
    one, other = drawn.per_row("crop", 2), drawn.per_row("scale", 2)

    assert one.min() >= 0 and one.max() < 1
    assert abs(one.mean() - 0.5) < 0.005 and abs(one.var() - 1 / 12) < 0.002
    for pair in ((one[:, 0], one[:, 1]), (one[:, 0], other[:, 0])):
        assert abs(np.corrcoef(*pair)[0, 1]) < 0.02
    assert sorted(drawn.order("partner")) == list(range(20_000))


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_the_share_of_a_mix_is_drawn_from_beta(alpha: float) -> None:
    values = np.array([draws(step=step).beta("mix", alpha) for step in range(2000)])

    assert values.min() >= 0 and values.max() <= 1
    assert abs(values.mean() - 0.5) < 0.03
    assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_a_random_resized_crop_is_torchvisions() -> None:
    given = pictures(6, 16, 20)
    boxes = crops.draw_boxes(draws().per_row("box", 4 * crops.TRIES), 16, 20, (0.1, 1.0))

    found = crops.resize_boxes(given, torch.from_numpy(boxes).float())

    for picture, (top, left, height, width), made in zip(given, boxes.tolist(), found, strict=True):
        expected = transforms.resized_crop(picture, top, left, height, width, [16, 20], antialias=True)
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "area"), [(32, 32, (0.08, 1.0)), (32, 32, (0.9, 1.0)), (8, 40, (0.9, 1.0))]
)
def test_boxes_are_drawn_as_torchvision_draws_them(height: int, width: int, area: tuple[float, float]) -> None:
    count = 4000
    ours = crops.draw_boxes(draws(rows=count).per_row("box", 4 * crops.TRIES), height, width, area)
    torch.manual_seed(0)
    blank = torch.zeros(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(blank, list(area), list(crops.RATIO)) for _ in range(count)])

    assert (
        (ours[:, :2] >= 0).all()
        and (ours[:, 0] + ours[:, 2] <= height).all()
        and (ours[:, 1] + ours[:, 3] <= width).all()
    )
    spread = np.maximum(theirs.std(0), 1)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * spread / np.sqrt(count)).all()
    assert (np.abs(ours.std(0) - theirs.std(0)) < 0.06 * spread).all()


def test_padding_is_black_and_every_shift_comes_up() -> None:
    given = pictures(200, 6, 6)
    found, _ = Augmenter(Augmentation(crop_padding=1), BLACK)(given, draws(rows=200))

    shifts = np.floor(draws(rows=200).per_row("pad", 2) * 3) - 1
    padded = np.stack(
        [np.pad(given[:, c].numpy(), ((0, 0), (1, 1), (1, 1)), constant_values=BLACK[c]) for c in range(3)], 1
    )
    assert {tuple(pair) for pair in shifts.astype(int).tolist()} == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    for row, (down, right) in enumerate(shifts.astype(int).tolist()):
        expected = padded[row, :, 1 + down : 7 + down, 1 + right : 7 + right]
        np.testing.assert_array_equal(found[row].numpy(), expected)


@pytest.mark.parametrize("factor", [2, 3])
def test_patches_are_shuffled_as_rded_does(factor: int) -> None:
    given = pictures(6, 13, 14)
    orders = np.argsort(np.random.default_rng(0).random((2, 6, factor)), 2)

    found = crops.shuffle_strips(given, orders[0], orders[1])

    for row in range(6):
        expected = slow.shuffle(given[row].double().numpy(), orders[0, row].tolist(), orders[1, row].tolist())
        np.testing.assert_array_equal(found[row].double().numpy(), expected)


def test_cutmix_takes_the_partners_pixels_in_the_box_and_counts_what_is_left() -> None:
    given = pictures(6, 12, 10)
    for step in range(20):
        drawn = draws(step=step)
        found, mixed = Augmenter(Augmentation(cutmix=1.0), BLACK)(given, drawn)
        assert mixed is not None
        u = drawn.per_step("box", 2).tolist()
        top, left, bottom, right = slow.cut_box(12, 10, drawn.beta("mix", 1.0), u)

        expected = given.clone()
        for row, partner in enumerate(mixed.partner.tolist()):
            expected[row, :, top:bottom, left:right] = given[partner, :, top:bottom, left:right]
        assert torch.equal(found, expected)
        assert mixed.share == pytest.approx(1 - (bottom - top) * (right - left) / 120)
        assert sorted(mixed.partner.tolist()) == list(range(6))


def test_mixup_is_linear_and_a_share_of_batches_may_stay_unmixed() -> None:
    given = pictures()
    found, mixed = Augmenter(Augmentation(mixup=0.8), BLACK)(given, draws())
    assert mixed is not None and mixed.share == draws().beta("mix", 0.8)
    torch.testing.assert_close(found, mixed.share * given + (1 - mixed.share) * given[mixed.partner])

    half = Augmenter(Augmentation(mixup=1.0, mix_share=0.5), BLACK)
    mixes = [half(given, draws(step=step))[1] is not None for step in range(400)]
    assert 160 < sum(mixes) < 240


def test_mixed_losses_have_the_gradient_of_mixed_labels() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    labels, partner, share = torch.rand(6, 5, dtype=torch.float64).softmax(1), torch.randperm(6), 0.3

    def cross_entropy(target: Tensor) -> Tensor:
        return -(target * logits.log_softmax(1)).sum(1).mean()

    weighted = share * cross_entropy(labels) + (1 - share) * cross_entropy(labels[partner])
    mixed = cross_entropy(share * labels + (1 - share) * labels[partner])

    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (weighted, mixed)))


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ladd.UsageError, match='Did you mean "color"'):
        Augmenter(Augmentation(dsa="colour_crop"), BLACK)
    with pytest.raises(ladd.UsageError, match="both cutmix and mixup"):
        Augmenter(Augmentation(cutmix=1.0, mixup=1.0), BLACK)


def test_the_box_of_cutmix_is_the_papers() -> None:
    for share in (0.0, 0.2, 0.5, 0.99):
        for u in ((0.0, 0.0), (0.999, 0.5), (0.4, 0.7)):
            assert mixing.cut_box(12, 17, share, u) == slow.cut_box(12, 17, share, u)


def test_a_pass_of_other_rows_is_another_draw_of_the_same_kind() -> None:
    few, many = draws(rows=3), replace(draws(), rows=6)

    np.testing.assert_array_equal(few.per_row("flip"), many.per_row("flip")[:3])
    assert few.per_step("choice") == many.per_step("choice")
