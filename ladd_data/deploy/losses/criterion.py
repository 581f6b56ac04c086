"""The losses against soft labels, and the one place where a label's kind is matched with what a loss takes."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ladd_data.deploy.losses.gift import GIFT
from ladd_data.deploy.losses.regression import MSE
from ladd_data.deploy.losses.soft import KL, SoftCE, TemperedCE, TopKKL
from ladd_data.errors import UsageError
from ladd_data.types import Logits, LogProbabilities, Probabilities, RegressionTargets, SoftLabels

SoftLoss = SoftCE | TemperedCE | KL | TopKKL | MSE | GIFT


def soft_rows(loss: SoftLoss, logits: Tensor, target: SoftLabels, label: Tensor, order: Tensor | None = None) -> Tensor:
    """Return the losses [n] of logits [n, classes] and soft labels, which are never taken for what they are not.

    Args:
        loss: what is computed.
        logits: the student's.
        target: the soft labels, [n, classes].
        label: int64 [n], the classes, for GIFT; in the order wanted.
        order: int64 [n], rows of `target` that are to be taken; None for each its own.

    Raises:
        UsageError: the labels are not of the kind that the loss takes.
    """
    if order is not None:
        target = replace(target, values=target.values[order])
    match loss, target:
        case SoftCE(), Probabilities():
            return loss.rows(logits, target)
        case TemperedCE() | KL() | TopKKL(), LogProbabilities():
            return loss.rows(logits, target)
        case MSE(), Logits() | RegressionTargets():
            return loss.rows(logits, target)
        case GIFT(), Logits() | RegressionTargets():
            return loss.rows(logits, target, label)
    raise UsageError(f"the loss {loss.formula} takes {loss.space}, not {type(target).__name__}: no label is converted.")
