"""Each loss against its formula in float64, gradients too: missing views, masks, mixing, extreme logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import SPACES, Case, hard_ce, log_s, row_of
from torch import Tensor

from ladd_data.deploy.losses import Mixed, loss_of
from ladd_data.recipe import Recipe

RECIPES = {
    "soft-ce": Recipe(loss="soft-ce", view_reduction="sum"),
    "soft-ce, teacher at 3": Recipe(loss="soft-ce", teacher_temperature=3.0),
    "soft-ce-ce": Recipe(loss="soft-ce-ce", hard_weight=0.1),
    "kl": Recipe(loss="kl"),
    "kl at 20": Recipe(loss="kl", temperature=20.0, view_reduction="sum"),
    "kl at 4, squared": Recipe(loss="kl", temperature=4.0, temperature_squared=True),
    "kl at 1 to 20": Recipe(loss="kl", temperature=1.0, teacher_temperature=20.0),
    "kl-ce": Recipe(loss="kl-ce", temperature=2.0, hard_weight=0.5),
    "kl-ce, smooth": Recipe(loss="kl-ce", temperature=2.0, hard_weight=0.5, smoothing=0.8),
    "topk-kl": Recipe(loss="topk-kl", top_k=3, temperature=1.0, teacher_temperature=14.0),
    "mse": Recipe(loss="mse"),
    "mse-ce": Recipe(loss="mse-ce", hard_weight=0.025, view_reduction="sum"),
    "gift": Recipe(loss="gift"),
    "gift code": Recipe(loss="gift", gift="code", gift_weight=0.3, smoothing=0.2),
}


def make_case(
    seed: int, classes: int, scale: float, *, missing: bool = False, masked: bool = False, **more: Any
) -> Case:
    generator = torch.Generator().manual_seed(seed)
    batch, views = 3, 4

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    present = None
    if missing:
        present = torch.rand(batch, views, generator=generator) < 0.6
        present[0] = False  # an image without any view
    mask = torch.tensor([True, True, False]) if masked else None
    label = torch.randint(0, classes, (batch,), generator=generator)
    return Case(
        scale * draw(batch, views, classes), label, scale * draw(batch * (1 + views), classes), present, mask, **more
    )


def agree(found: tuple[float, Tensor], expected: tuple[float, Tensor]) -> None:
    """Compare losses, and gradients by their largest entry, to a relative 1e-5."""
    assert found[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-12)
    largest = float(expected[1].abs().max())
    assert float((found[1].double() - expected[1]).abs().max()) <= 1e-5 * largest


seeds, scales = st.integers(0, 2**31), st.sampled_from([0.01, 1.0, 10.0, 300.0])


@pytest.mark.parametrize("name", RECIPES)
@settings(max_examples=8, deadline=None)
@given(
    seed=seeds,
    classes=st.sampled_from([3, 10, 1000]),
    scale=scales,
    missing=st.booleans(),
    masked=st.booleans(),
    temperature=st.sampled_from([1.0, 20.0]),
    passes=st.sampled_from([None, 1, 3]),
)
def test_a_loss_over_views_and_its_gradient_are_the_formulas(
    name: str,
    seed: int,
    classes: int,
    scale: float,
    missing: bool,
    masked: bool,
    temperature: float,
    passes: int | None,
) -> None:
    recipe = RECIPES[name]
    if recipe.loss in ("soft-ce", "soft-ce-ce"):
        temperature = 1.0  # probabilities are taken as they are stored: see below
    case = make_case(seed, classes, scale, missing=missing, masked=masked, temperature=temperature)
    soft, weight = row_of(recipe), recipe.hard_weight or 0.0
    smoothing = 0.0 if recipe.loss == "gift" else recipe.smoothing or 0.0

    found = case.run(loss_of(recipe, views_per_pass=passes))

    reduction = recipe.view_reduction or "mean"
    row = case.views_part(
        lambda z, t, y: soft(z, t, y) + weight * hard_ce(z, y, smoothing), reduction, SPACES[recipe.loss]
    )
    agree(found, case.expect(row))


@settings(max_examples=20, deadline=None)
@given(
    seed=seeds,
    classes=st.sampled_from([2, 10, 1000]),
    scale=scales,
    missing=st.booleans(),
    masked=st.booleans(),
    reduction=st.sampled_from(["sum", "mean"]),
)
def test_ladd_is_equation_5(seed: int, classes: int, scale: float, missing: bool, masked: bool, reduction: Any) -> None:
    case = make_case(seed, classes, scale, missing=missing, masked=masked)
    recipe = Recipe(loss="ladd", view_reduction=reduction)

    found = case.run(loss_of(recipe))

    local = case.views_part(row_of(recipe), reduction, "probabilities")
    agree(found, case.expect(lambda z, i: hard_ce(case.full(z, i), int(case.label[i])) + local(z, i)))


@settings(max_examples=8, deadline=None)
@given(seed=seeds, scale=scales, smoothing=st.sampled_from([0.0, 0.1, 0.8]), masked=st.booleans())
def test_hard_cross_entropy_with_smoothing(seed: int, scale: float, smoothing: float, masked: bool) -> None:
    case = make_case(seed, 10, scale, masked=masked)

    found = case.run(loss_of(Recipe(loss="hard-ce", smoothing=smoothing)))

    agree(found, case.expect(lambda z, i: hard_ce(case.full(z, i), int(case.label[i]), smoothing)))


COMBINATIONS = [
    (full, sub, hard, soft)
    for full in (True, False)
    for sub in (True, False)
    for hard in (True, False)
    for soft in (True, False)
    if (full or sub) and (hard or soft)
]


@pytest.mark.parametrize("own", [False, True], ids=["mean over views", "own"])
@pytest.mark.parametrize(("full", "sub", "hard", "soft"), COMBINATIONS)
def test_every_combination_of_table_6(full: bool, sub: bool, hard: bool, soft: bool, own: bool) -> None:
    case = make_case(5, 10, 2.0, missing=True)
    case.present[0, 1] = True  # type: ignore[index]
    if own:
        case = replace(case, own=2 * torch.randn(3, 10), own_space="logits")

    found = case.run(loss_of(Recipe(loss="ladd"), full=full, sub=sub, hard=hard, soft=soft))

    def whole_label(i: int) -> Tensor:
        if case.own is not None:
            return torch.exp(log_s(case.own[i].double()))
        return torch.stack([torch.exp(log_s(case.teacher[i, v].double())) for v in case.there(i)]).mean(0)

    def expected(z: Tensor, i: int) -> Tensor:
        total, y = torch.zeros((), dtype=torch.float64), int(case.label[i])
        everything = full and sub and hard and soft
        if full and hard:
            total = total + hard_ce(case.full(z, i), y)
        if full and soft and not everything:
            total = total - (whole_label(i) * log_s(case.full(z, i))).sum()
        if sub and hard and not everything:
            total = total + case.views_part(lambda z, t, y: hard_ce(z, y), "sum")(z, i)
        if sub and soft:
            total = total + case.views_part(row_of(Recipe(loss="ladd")), "sum")(z, i)
        return total

    agree(found, case.expect(expected))


@pytest.mark.parametrize(
    ("recipe", "space"),
    [
        (Recipe(loss="soft-ce", target="image"), "logits"),
        (Recipe(loss="kl", temperature=3.0, target="image"), "logits"),
        (Recipe(loss="kl", temperature=3.0, target="image"), "probs"),
        (Recipe(loss="mse-ce", hard_weight=0.5, target="image"), "logits"),
        (Recipe(loss="mse", target="image"), "targets"),
        (Recipe(loss="gift", target="image"), "logits"),
        (Recipe(loss="gift", gift="code", target="image"), "targets"),
        (Recipe(loss="topk-kl", top_k=2, target="image"), "logits"),
    ],
    ids=lambda value: value.loss if isinstance(value, Recipe) else value,
)
def test_whole_image_soft_labels_serve_the_same_losses(recipe: Recipe, space: str) -> None:
    logits = 3 * torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    case = make_case(2, 10, 2.0, masked=True)
    case = replace(case, own=logits.softmax(-1) if space == "probs" else logits, own_space=space)

    found = case.run(loss_of(recipe))

    row, weight = row_of(recipe), recipe.hard_weight or 0.0

    def of_image(z: Tensor, i: int) -> Tensor:
        own, y = logits[i].double(), int(case.label[i])
        return row(case.full(z, i), own, y) + weight * hard_ce(case.full(z, i), y)

    agree(found, case.expect(of_image))


def test_labels_stored_at_a_temperature_are_brought_to_that_of_the_loss() -> None:
    plain, softened = make_case(3, 10, 3.0), make_case(3, 10, 3.0, temperature=20.0)
    for recipe in (Recipe(loss="kl", temperature=4.0), Recipe(loss="mse"), Recipe(loss="gift")):
        agree(softened.run(loss_of(recipe)), (lambda run: (run[0], run[1].double()))(plain.run(loss_of(recipe))))

    as_stored = softened.run(loss_of(Recipe(loss="soft-ce")))

    agree(
        as_stored,
        softened.expect(softened.views_part(row_of(Recipe(loss="soft-ce", teacher_temperature=20.0)), "mean")),
    )


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_drawn_views_estimate_all_of_them_without_bias(reduction: Any, missing: bool) -> None:
    case = make_case(7, 5, 2.0, missing=missing)
    recipe = Recipe(loss="soft-ce", view_reduction=reduction)
    whole = case.run(loss_of(recipe))

    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    found = [replace(case, drawn=pair).run(loss_of(recipe, views_per_step=2)) for pair in pairs]

    assert sum(value for value, _ in found) / len(pairs) == pytest.approx(whole[0], rel=1e-9)
    assert torch.allclose(torch.stack([gradient for _, gradient in found]).mean(0), whole[1], atol=1e-7)
    some = replace(case, drawn=(0, 3))
    agree(some.run(loss_of(recipe, views_per_step=2)), some.expect(some.views_part(row_of(recipe), reduction)))


def test_mixed_pictures_answer_to_both_labels() -> None:
    case = make_case(11, 10, 2.0)
    order = torch.tensor([2, 0, 1])

    def student(pictures: Tensor) -> Tensor | Mixed:
        logits = case.rows(pictures)
        if len(pictures) == 3:
            return Mixed(logits, order, 0.7)
        order_of_views = torch.arange(12).reshape(3, 4)[order].flatten()
        return Mixed(logits, order_of_views, torch.full((12,), 0.7))

    loss = loss_of(Recipe(loss="ladd"))
    value = loss(student, case.batch("probabilities"), case.scene)
    gradient = torch.autograd.grad(value, case.rows.rows)[0]

    other = replace(case, label=case.label[order], teacher=case.teacher[order])
    plain, swapped = (c.run(loss) for c in (case, other))
    agree(
        (float(value.detach()), gradient),
        (0.7 * plain[0] + 0.3 * swapped[0], 0.7 * plain[1].double() + 0.3 * swapped[1].double()),
    )


def test_half_precision_logits_are_widened_first() -> None:
    case = make_case(1, 10, 1.0)
    loss = loss_of(Recipe(loss="ladd"))

    low = loss(lambda x: case.rows(x).bfloat16(), case.batch("probabilities"), case.scene)
    rounded = replace(case, student=case.student.bfloat16().float())

    assert float(low.detach()) == pytest.approx(rounded.run(loss)[0], rel=1e-12)


@pytest.mark.parametrize("name", ["ladd", "kl-ce"])
def test_parts_add_up_to_the_loss_and_hold_one_pass_at_a_time(name: Any) -> None:
    case = make_case(4, 10, 1.0, missing=True, masked=True)
    loss = loss_of(Recipe(loss=name, hard_weight=0.5), views_per_pass=1)
    total, graphs = 0.0, []

    for part in loss.parts(case.rows, case.batch(SPACES[name]), case.scene):
        torch.autograd.backward(part)
        total += float(part.detach())
        graphs.append(part)

    whole = case.run(loss)
    assert len(graphs) == 4 + (name == "ladd") and case.rows.rows.grad is not None
    agree((total, case.rows.rows.grad), (whole[0], whole[1].double()))
