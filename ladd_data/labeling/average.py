"""What several labelers say together: the mean of their probabilities, or of their logits.

The mean of probabilities is what an ensemble of classifiers says (Lakshminarayanan, Pritzel, Blundell 2017)
and has no logits. The mean of logits is what G-VBSM and EDC distil from (without their balancing of norms)
and has. Both in float64, in the order given.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ladd_data.encodings.coding import log_softmax
from ladd_data.errors import UsageError
from ladd_data.manifest import Coding
from ladd_data.types import F32, F64

Average = Literal["probs", "logits"]


def average_labels(logits: F32, average: Average) -> tuple[F64, F64 | None]:
    """Return log-probabilities, float64 [n, views, classes], and their log-sum-exp, [n, views], where there are logits.

    Args:
        logits: float32 [labelers, n, views, classes], finite.
        average: of what; without meaning for one labeler.
    """
    if len(logits) == 1:
        return log_softmax(logits[0])
    if average == "logits":
        mean = logits.astype(np.float64).sum(0) / len(logits)
        peak = mean.max(-1, keepdims=True)
        logz = peak + np.log(np.exp(mean - peak).sum(-1, keepdims=True))
        return mean - logz, logz[..., 0]
    log_probs = np.stack([log_softmax(one)[0] for one in logits])
    peak = log_probs.max(0)
    return peak + np.log(np.exp(log_probs - peak).sum(0) / len(logits)), None


def check_average(coding: Coding, labelers: int, average: Average) -> None:
    """Refuse to store logits that an average does not have.

    Raises:
        UsageError: more than one labeler, the mean of their probabilities, and a coding with logits or logz.
    """
    if labelers > 1 and average == "probs" and (coding.logz or coding.space == "logits"):
        raise UsageError("the mean of probabilities has no logits: add --no-logz, or take --average logits.")
