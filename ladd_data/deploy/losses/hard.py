"""Cross-entropy against hard labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ladd_data.deploy.losses.loss import widen


@dataclass(frozen=True, slots=True)
class HardCE:
    """Cross-entropy of student and class; a share `smoothing` of the label is spread over all classes.

    The label is (1 - a) * onehot(y) + a / C (Szegedy et al. 2016, Sec. 7, and torch's `label_smoothing`); GIFT's
    own smoothing, which spares the class itself, is in its loss.
    """

    smoothing: float = 0.0

    @property
    def formula(self) -> str:
        """In one line."""
        return "CE(z, y)" if self.smoothing == 0 else f"CE(z, {1 - self.smoothing:g} y + {self.smoothing:g} / C)"

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return float64 [n] of logits [n, classes] and classes int64 [n]."""
        return functional.cross_entropy(widen(logits), label, reduction="none", label_smoothing=self.smoothing)
