"""From a recipe to its loss, with the switches of LADD's Table 6."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ladd_data.deploy.losses.criterion import SoftLoss
from ladd_data.deploy.losses.gift import GIFT
from ladd_data.deploy.losses.hard import HardCE
from ladd_data.deploy.losses.regression import MSE
from ladd_data.deploy.losses.soft import KL, SoftCE, TemperedCE, TopKKL
from ladd_data.deploy.losses.terms import Terms, TermsLoss
from ladd_data.errors import UsageError
from ladd_data.recipe import Recipe

_WITH_HARD = ("mse-ce", "kl-ce", "soft-ce-ce")


def loss_of(
    recipe: Recipe,
    *,
    full: bool | None = None,
    sub: bool | None = None,
    hard: bool | None = None,
    soft: bool | None = None,
    views_per_pass: int | None = None,
    views_per_step: int | None = None,
) -> TermsLoss:
    """Return the loss that a recipe names, with the images and labels that the switches say.

    Args:
        recipe: names the loss and its constants; its optimiser and epochs are not looked at.
        full: train on full images; None: as the recipe's loss does.
        sub: train on views; None: as the recipe's loss does.
        hard: against hard labels; None: as the recipe's loss does.
        soft: against soft labels; None: as the recipe's loss does.
        views_per_pass: see `TermsLoss`.
        views_per_step: see `TermsLoss`; None: as the recipe says.

    With w the recipe's `hard_weight` (1 where it has none), S its soft loss, sums (or means) over views j:

        full,      hard:       w CE(x, y)
        full,      soft:       S(x, p)
        full,      hard, soft: w CE(x, y) + S(x, p)
        sub,       hard:       sum_j w CE(S_j x, y)
        sub,       soft:       sum_j S(S_j x, p_j)
        sub,       hard, soft: sum_j [w CE(S_j x, y) + S(S_j x, p_j)]
        full, sub, hard:       w CE(x, y) + sum_j w CE(S_j x, y)
        full, sub, soft:       S(x, p) + sum_j S(S_j x, p_j)
        full, sub, hard, soft: w CE(x, y) + sum_j S(S_j x, p_j), which is Eq. 5

    Table 6 has seven of these; its last row is Eq. 5, as the text says (its gain over row 5 is that of "full images
    and their hard labels", 2.8 points). What p is, for whole images, is in `image_labels`.

    Raises:
        UsageError: no images, or no labels, are left; or a constant that the loss needs is missing.
    """
    base = _default_switches(recipe)
    terms = _terms(
        base.full if full is None else full,
        base.sub if sub is None else sub,
        base.hard if hard is None else hard,
        base.soft if soft is None else soft,
        1.0 if recipe.hard_weight is None else recipe.hard_weight,
    )
    for name, value in (("views_per_pass", views_per_pass), ("views_per_step", views_per_step)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: expected 1 or more, or None for all.")
    needs_soft = bool(terms.full_soft or terms.sub_soft)
    gift = recipe.loss == "gift"
    return TermsLoss(
        terms,
        HardCE(0.0 if recipe.smoothing is None or gift else recipe.smoothing),
        _soft_loss(recipe) if needs_soft else None,
        _reduction(recipe),
        recipe.views_per_step if views_per_step is None else views_per_step,
        views_per_pass,
    )


class _Switches(NamedTuple):
    full: bool
    sub: bool
    hard: bool
    soft: bool


def _default_switches(recipe: Recipe) -> _Switches:
    """Return what the loss itself trains on and against."""
    if recipe.loss == "ladd":
        return _Switches(True, True, True, True)
    if recipe.loss == "hard-ce":
        return _Switches(full=True, sub=False, hard=True, soft=False)
    whole = recipe.target == "image"
    return _Switches(full=whole, sub=not whole, hard=recipe.loss in _WITH_HARD, soft=True)


def _terms(full: bool, sub: bool, hard: bool, soft: bool, weight: float) -> Terms:
    if not (full or sub):
        raise UsageError("no images are left to train on: switch full images or views on.")
    if not (hard or soft):
        raise UsageError("no labels are left to train against: switch hard or soft labels on.")
    if full and sub and hard and soft:
        return Terms(full_hard=weight, sub_soft=1.0)
    return Terms(weight * (full and hard), float(full and soft), weight * (sub and hard), float(sub and soft))


def _reduction(recipe: Recipe) -> Literal["sum", "mean"]:
    return recipe.view_reduction or ("sum" if recipe.loss in ("ladd", "hard-ce") else "mean")


def _soft_loss(recipe: Recipe) -> SoftLoss:
    student = 1.0 if recipe.temperature is None else recipe.temperature
    match recipe.loss:
        case "ladd" | "hard-ce" | "soft-ce" | "soft-ce-ce":
            return SoftCE() if recipe.teacher_temperature is None else TemperedCE(recipe.teacher_temperature)
        case "kl" | "kl-ce":
            return KL(student, recipe.teacher_temperature, recipe.temperature_squared)
        case "mse" | "mse-ce":
            return MSE()
        case "topk-kl":
            if recipe.top_k is None:
                raise UsageError("topk-kl: say of how many classes (top_k); LPQLD takes 10, 50 or 100.")
            return TopKKL(recipe.top_k, student, recipe.teacher_temperature)
        case "gift":
            weight = 0.1 if recipe.gift_weight is None else recipe.gift_weight
            return GIFT(recipe.gift or "paper", weight, 0.1 if recipe.smoothing is None else recipe.smoothing)
