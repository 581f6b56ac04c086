"""Soft labels to stored numbers and back, and what the storing cost.

The column's name says what its numbers are (`dense_log_probs`, `dense_probs`), and each has one rule
that turns it into probabilities. Decoders widen to float32 before any arithmetic. No torch here; the
loader's torch decoder (loaders/decode.py) is tested against this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ladd_data.errors import LabelError, UsageError, nearest
from ladd_data.manifest import Certificate
from ladd_data.types import F32, F64, LabelSpace

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Profile:
    """A named way to store soft labels."""

    name: str
    space: LabelSpace
    dtype: Literal["float16", "float32"]
    logz: bool


PROFILES = {
    # float16 log-probabilities keep every class (float16 probabilities underflow), and the float32
    # log-sum-exp gives back the logits that MSE losses and GIFT need.
    "default": Profile("default", "log_probs", "float16", logz=True),
    # What the paper counts: 4 bytes a class and view, 2.03 % of raw pixels at C=10, 128 px, 25 views.
    "paper": Profile("paper", "probs", "float32", logz=False),
}


def find_profile(name: str) -> Profile:
    """Return a profile by name.

    Raises:
        UsageError: no profile has this name; lists those there are.
    """
    if name not in PROFILES:
        raise UsageError(f'profile "{name}" is not known. {nearest(name, list(PROFILES))}')
    return PROFILES[name]


def encode_labels(logits: F32, profile: Profile) -> dict[str, FloatArray]:
    """Turn a labeler's output into the columns of a profile.

    Args:
        logits: float32 [images, views, classes], unnormalised.
        profile: how to store them.

    Returns:
        `dense_<space>` [images, views, classes] and, where the profile has it, `dense_logz` float32
        [images, views], with logits = log_probs + logz.

    Raises:
        LabelError: a logit is not finite.
    """
    if not np.isfinite(logits).all():
        image, view = np.argwhere(~np.isfinite(logits))[0][:2]
        raise LabelError(f"labeler output for image {image} of the batch, view {view}: not finite. Check its weights.")
    log_probs, logz = _log_softmax(logits)
    values = np.exp(log_probs) if profile.space == "probs" else log_probs
    columns: dict[str, FloatArray] = {f"dense_{profile.space}": values.astype(profile.dtype)}
    if profile.logz:
        columns["dense_logz"] = logz.astype(np.float32)
    return columns


def decode_probs(columns: Mapping[str, FloatArray], space: LabelSpace) -> F32:
    """Turn stored columns into probabilities, float32 [images, views, classes], rows summing to 1.

    Source: spec/ladd-1.0.md, LADD-032: probs as they are; log_probs and logits by softmax in float32.
    """
    values = columns[f"dense_{space}"].astype(np.float32)
    if space == "probs":
        return values
    raised = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)


def dense_columns(
    space: LabelSpace, dtype: str, views: int, classes: int, *, logz: bool
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return each dense column's shape per record and dtype, in column order."""
    columns: dict[str, tuple[tuple[int, ...], str]] = {f"dense_{space}": ((views, classes), dtype)}
    if logz:
        columns["dense_logz"] = ((views,), "float32")
    return columns


class CertificateMeter:
    """Adds up the error of stored labels against the float32 output they came from."""

    def __init__(self) -> None:
        """Start at nothing seen."""
        self._rows = 0
        self._sums = np.zeros(3)  # TV, KL, agreement
        self._max = np.zeros(2)  # TV, KL

    def add(self, logits: F32, stored: F32) -> None:
        """Count a batch.

        Args:
            logits: float32 [..., classes], the labeler's output.
            stored: float32 [..., classes], probabilities decoded from what was stored.
        """
        log_p, _ = _log_softmax(logits)
        p = np.exp(log_p)
        q = stored.astype(np.float64)
        q /= q.sum(-1, keepdims=True)  # float32 rows sum to 1 within 1e-7, which would show in the KL
        tv = np.abs(p - q).sum(-1) / 2
        log_q = np.log(np.maximum(q, np.finfo(np.float64).tiny))
        kl = np.maximum((p * (log_p - log_q)).sum(-1), 0)
        agree = p.argmax(-1) == q.argmax(-1)
        self._rows += tv.size
        self._sums += [tv.sum(), kl.sum(), agree.sum()]
        self._max = np.maximum(self._max, [tv.max(initial=0), kl.max(initial=0)])

    def result(self) -> Certificate:
        """Return the certificate over everything added."""
        mean_tv, mean_kl, agreement = (self._sums / max(1, self._rows)).tolist()
        max_tv, max_kl = self._max.tolist()
        return Certificate(mean_tv=mean_tv, max_tv=max_tv, mean_kl=mean_kl, max_kl=max_kl, top1_agreement=agreement)


def _log_softmax(logits: F32) -> tuple[F64, F64]:
    """Return (log-probabilities, log-sum-exp) in float64, so that the float32 input is the only error."""
    wide = logits.astype(np.float64)
    peak = wide.max(-1, keepdims=True)
    logz = peak + np.log(np.exp(wide - peak).sum(-1, keepdims=True))
    return wide - logz, logz[..., 0]
