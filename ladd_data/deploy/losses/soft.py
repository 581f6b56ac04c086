"""Losses between distributions: soft cross-entropy, KL divergence, and KL over the k likeliest classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ladd_data.deploy.losses.loss import widen
from ladd_data.types import DenseSpace, LogProbabilities, Probabilities


@dataclass(frozen=True, slots=True)
class SoftCE:
    """Cross-entropy of a soft label and the student: -sum_c p_c log s_c(z).

    Source: LADD, Eq. 5 (its local part); DATM's evaluation (`SoftCrossEntropy`).
    """

    @property
    def space(self) -> DenseSpace:
        """What it takes."""
        return "probabilities"

    @property
    def formula(self) -> str:
        """In one line."""
        return "-sum_c p_c log s_c(z)"

    def rows(self, logits: Tensor, target: Probabilities) -> Tensor:
        """Return float64 [n] of logits [n, classes]; 0 for a label that is all 0."""
        return -(target.values * widen(logits).log_softmax(-1)).sum(-1)


@dataclass(frozen=True, slots=True)
class TemperedCE:
    """Soft cross-entropy against the labels that the same teacher gives at another temperature.

    Source: "A Label Is Worth A Thousand Images" (c * t is temperature 1 / c).
    """

    teacher_temperature: float

    @property
    def space(self) -> DenseSpace:
        """What it takes."""
        return "log_probabilities"

    @property
    def formula(self) -> str:
        """In one line."""
        return f"-sum_c s_c(t / {self.teacher_temperature:g}) log s_c(z)"

    def rows(self, logits: Tensor, target: LogProbabilities) -> Tensor:
        """Return float64 [n] of logits [n, classes]."""
        return SoftCE().rows(logits, _widen(target).at(self.teacher_temperature).to_probabilities())


@dataclass(frozen=True, slots=True)
class KL:
    """KL(s(t / Tt) || s(z / Ts)), times Ts * Tt where `squared`: the field's codes leave that factor away.

    Source: SRe2L, RDED (both T = 20, no factor); the factor is of Hinton et al. 2015, Sec. 2.1.
    """

    temperature: float = 1.0
    teacher_temperature: float | None = None
    squared: bool = False

    @property
    def space(self) -> DenseSpace:
        """What it takes."""
        return "log_probabilities"

    @property
    def formula(self) -> str:
        """In one line."""
        factor = f"{self._factor():g} * " if self.squared else ""
        return f"{factor}KL(s(t / {self._teacher():g}) || s(z / {self.temperature:g}))"

    def rows(self, logits: Tensor, target: LogProbabilities) -> Tensor:
        """Return float64 [n] of logits [n, classes]."""
        wanted = _widen(target).at(self._teacher()).values
        found = (widen(logits) / self.temperature).log_softmax(-1)
        divergence = (wanted.exp() * (wanted - found)).sum(-1)
        return divergence * self._factor() if self.squared else divergence

    def _teacher(self) -> float:
        return self.temperature if self.teacher_temperature is None else self.teacher_temperature

    def _factor(self) -> float:
        return self.temperature * self._teacher()


@dataclass(frozen=True, slots=True)
class TopKKL:
    """KL(q || s(z / Ts)), where q is the softmax of t / Tt over the teacher's k likeliest classes and 0 elsewhere.

    It is another loss than KL, not a cheaper one: q forgets what the other classes had. Source: LPQLD.
    """

    k: int
    temperature: float = 1.0
    teacher_temperature: float | None = None

    @property
    def space(self) -> DenseSpace:
        """What it takes."""
        return "log_probabilities"

    @property
    def formula(self) -> str:
        """In one line."""
        teacher = self.temperature if self.teacher_temperature is None else self.teacher_temperature
        return f"KL(s(top {self.k} of t / {teacher:g}) || s(z / {self.temperature:g}))"

    def rows(self, logits: Tensor, target: LogProbabilities) -> Tensor:
        """Return float64 [n] of logits [n, classes]."""
        teacher = self.temperature if self.teacher_temperature is None else self.teacher_temperature
        kept, classes = widen(target.values).topk(self.k, dim=-1)
        wanted = (kept * (target.temperature / teacher)).log_softmax(-1)
        found = (widen(logits) / self.temperature).log_softmax(-1).gather(-1, classes)
        return (wanted.exp() * (wanted - found)).sum(-1)


def _widen(target: LogProbabilities) -> LogProbabilities:
    return LogProbabilities(widen(target.values), target.temperature)
