"""Stored labels beside recomputed ones: both as they come out of the stored coding, so that storing costs neither."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ladd_data.encodings.coding import decode_logits, decode_probs, encode_log_probs, log_softmax
from ladd_data.labeling.average import Average, average_labels
from ladd_data.manifest import Coding, Labels
from ladd_data.types import F32, F64, Columns

TINY = float(np.finfo(np.float32).tiny)

ARITHMETIC = {"float32": (1e-4, 2e-3, 1e-3), "bf16": (2e-2, 1e-1, 5e-2)}
"""Total variation of a shard in the mean, of one record, and relative difference of log-sum-exp, that another
device, another batch or another release of torch may cause; see docs/labeling.md, "Checking labels"."""
ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 0.0}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far stored labels may be from recomputed ones.

    mean_tv: total variation in the mean over the views compared, of all and of each shard.
    record_tv: in the mean over the views of any one record.
    logz: largest difference of log-sum-exp, as a share of it (of 1 where it is smaller); None judges it not.
    """

    mean_tv: float
    record_tv: float
    logz: float | None = None


def near(tolerance: Tolerance) -> float:
    """Return the mean total variation over the views of a few records that counts as none."""
    return 3 * tolerance.mean_tv


def default_tolerance(labels: Labels) -> Tolerance:
    """Return the tolerance that follows from the certificate and the arithmetic.

    Recomputed labels are stored by the same coding before they are compared, so what storing costs cancels,
    but where another last bit moves a number over the edge between two codes. In the mean that is rare: a tenth of
    the certificate's mean. In one record it may happen to one view, and cost what storing costs twice.
    """
    precision = labels.labeler.precision if labels.labeler is not None else "float32"
    mean, record, logz = ARITHMETIC[precision]
    error = labels.certificate
    rounding = ROUNDING[labels.coding.dtype] if labels.coding.space == "logits" else 0.0
    return Tolerance(
        mean_tv=mean + error.mean_tv / 10,
        record_tv=min(1.0, record + 2 * error.max_tv / labels.count),
        logz=logz + rounding,
    )


@dataclass(frozen=True, slots=True)
class Decoded:
    """Labels as a reader has them.

    probs: float32 [records, views, classes]; logz: log-sum-exp of the logits, float64 [records, views], where
    logits were stored; present: bool [records, views].
    """

    probs: F32
    logz: F64 | None
    present: NDArray[np.bool_]

    def pick(self, rows: list[int] | slice, views: list[int] | slice) -> Decoded:
        """Return some views of some records."""
        logz = None if self.logz is None else self.logz[rows][:, views]
        return Decoded(self.probs[rows][:, views], logz, self.present[rows][:, views])


def decode(columns: Columns, coding: Coding, classes: int) -> Decoded:
    """Return what label columns say."""
    probs = decode_probs(columns, coding, classes)
    logz: F64 | None = None
    if coding.space == "logits":
        logz = log_softmax(decode_logits(columns, coding, classes))[1]
    elif coding.logz:
        logz = columns["dense_logz"].astype(np.float64)
    return Decoded(probs, logz, columns.get("view_present", np.ones(probs.shape[:2], np.bool_)))


Scores = tuple[F64, F64 | None]
"""Log-probabilities [records, views, classes] and log-sum-exp [records, views], as `average_labels` returns them."""


def read_scores(logits: F32, average: Average, temperature: float) -> Scores:
    """Return what labelers say at a temperature, logits: float32 [labelers, records, views, classes]."""
    at_one = temperature == 1
    return average_labels(logits if at_one else np.asarray(logits / np.float32(temperature), np.float32), average)


def through_coding(scores: Scores, coding: Coding) -> Decoded:
    """Return labels as they would come back, had they been stored by this coding."""
    log_probs, logz = scores
    return decode(encode_log_probs(log_probs, logz, coding), coding, log_probs.shape[-1])


def total_variation(one: F32, other: F32) -> F64:
    """Return half the absolute difference, summed over classes, of probabilities [..., classes]."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return np.asarray(np.abs(a / a.sum(-1, keepdims=True) - b / b.sum(-1, keepdims=True)).sum(-1) / 2)


def mean_over_views(values: F64, present: NDArray[np.bool_]) -> F64:
    """Return each record's mean over the views there are, [records]; 0 for a record without any."""
    return np.asarray((values * present).sum(-1) / np.maximum(1, present.sum(-1)))
