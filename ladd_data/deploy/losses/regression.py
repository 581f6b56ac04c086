"""Losses that compare the student's outputs with numbers: mean squared error."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ladd_data.deploy.losses.loss import widen
from ladd_data.types import DenseSpace, Logits, RegressionTargets


@dataclass(frozen=True, slots=True)
class MSE:
    """Mean over classes of (z - t)^2.

    Source: G-VBSM, EDC and HeLlO against a teacher's logits; FRePo against its learned targets.
    """

    @property
    def space(self) -> DenseSpace:
        """What it takes."""
        return "logits"

    @property
    def formula(self) -> str:
        """In one line."""
        return "mean_c (z_c - t_c)^2"

    def rows(self, logits: Tensor, target: Logits | RegressionTargets) -> Tensor:
        """Return float64 [n] of logits [n, classes]."""
        return (widen(logits) - widen(target.undivided())).square().mean(-1)
