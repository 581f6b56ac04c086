"""Losses of the deployment stage: of full images and views, against hard and soft labels.

`loss_of` builds the one that a recipe names; `LADD` and `HardLabels` are the two that need no recipe.
"""

from __future__ import annotations

from typing import Literal

from ladd_data.deploy.losses.capability import has_stand_in
from ladd_data.deploy.losses.gift import GIFT
from ladd_data.deploy.losses.hard import HardCE
from ladd_data.deploy.losses.loss import Loss, Mixed, Scene, Student
from ladd_data.deploy.losses.naming import loss_of
from ladd_data.deploy.losses.regression import MSE
from ladd_data.deploy.losses.soft import KL, SoftCE, TemperedCE, TopKKL
from ladd_data.deploy.losses.terms import Terms, TermsLoss
from ladd_data.errors import UsageError, nearest
from ladd_data.recipe import Recipe

__all__ = [
    "GIFT",
    "KL",
    "LADD",
    "MSE",
    "HardCE",
    "HardLabels",
    "Loss",
    "Mixed",
    "Scene",
    "SoftCE",
    "Student",
    "TemperedCE",
    "Terms",
    "TermsLoss",
    "TopKKL",
    "has_stand_in",
    "loss_of",
]


def LADD(
    view_reduction: Literal["sum", "mean"] = "sum", views_per_pass: int | None = None, views_per_step: int | None = None
) -> TermsLoss:
    """Return LADD's loss: CE of the full image and its hard label, plus the sum over views of CE with dense labels.

    The paper sums over views and does not state the reduction over images; here it is the mean.

    Args:
        view_reduction: "sum" is Eq. 5, in which 25 views weigh 25 times the full image; "mean" weighs them as one.
        views_per_pass: views of each image in one forward pass; None for all at once.
        views_per_step: views drawn for each batch; None for all.

    Source: LADD, Eq. 5.
    """
    if view_reduction not in ("sum", "mean"):
        raise UsageError(f'view_reduction "{view_reduction}" is not known. {nearest(view_reduction, ["sum", "mean"])}')
    recipe = Recipe(loss="ladd", view_reduction=view_reduction)
    return loss_of(recipe, views_per_pass=views_per_pass, views_per_step=views_per_step)


def HardLabels() -> TermsLoss:
    """Return cross-entropy of the full images against their hard labels: the baseline without dense labels."""
    return loss_of(Recipe(loss="hard-ce"))
