"""GIFT: the cosine of the student's logits and a refined label, as the paper has it and as its code has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ladd_data.deploy.losses.loss import widen
from ladd_data.types import DenseSpace, Logits, RegressionTargets


@dataclass(frozen=True, slots=True)
class GIFT:
    """1 - cos(z, q), where q mixes the soft label t and the smoothed hard label y, each divided by its length.

    form: "paper": q = g y / |y| + (1 - g) t / |t| (Sec. 4). "code": q = t / |t| + g y / |y|, which for g = 0.1
        is the paper's g = 1/11.
    weight: g.
    smoothing: a; y is 1 - a for the class and a / (C - 1) for the others, in both forms.

    The released code takes a teacher's raw logits for t, and so does this.
    """

    form: Literal["paper", "code"] = "paper"
    weight: float = 0.1
    smoothing: float = 0.1

    @property
    def space(self) -> DenseSpace:
        """What it takes."""
        return "logits"

    @property
    def formula(self) -> str:
        """In one line."""
        soft = "t/|t|" if self.form == "code" else f"{1 - self.weight:g} t/|t|"
        return f"1 - cos(z, {soft} + {self.weight:g} y/|y|), y smoothed by {self.smoothing:g} over the others"

    def rows(self, logits: Tensor, target: Logits | RegressionTargets, label: Tensor) -> Tensor:
        """Return float64 [n] of logits [n, classes] and classes int64 [n]."""
        soft = widen(target.undivided())
        classes = logits.shape[-1]
        hard = torch.full_like(soft, self.smoothing / max(1, classes - 1))
        hard.scatter_(-1, label[:, None], 1 - self.smoothing)
        kept = 1.0 if self.form == "code" else 1 - self.weight
        refined = kept * functional.normalize(soft, dim=-1) + self.weight * functional.normalize(hard, dim=-1)
        apart = functional.normalize(widen(logits), dim=-1) - functional.normalize(refined, dim=-1)
        return apart.square().sum(-1) / 2  # 1 - cos, without the cancellation
