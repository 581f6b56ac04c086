"""The certificate: how far stored labels are from the float32 labels they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ladd_data.manifest import Certificate
from ladd_data.types import F32, F64


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """What a meter has added up: views, sums of (TV, KL, agreement), maxima of (TV, KL)."""

    rows: int
    sums: tuple[float, float, float]
    largest: tuple[float, float]


class CertificateMeter:
    """Adds up the error of stored labels, batch by batch."""

    def __init__(self) -> None:
        """Start at nothing seen."""
        self._rows = 0
        self._sums = np.zeros(3)  # TV, KL, agreement
        self._max = np.zeros(2)  # TV, KL

    def sums(self) -> ErrorSums:
        """Return what was added up so far; `merge` takes it."""
        tv, kl, agreement = self._sums.tolist()
        max_tv, max_kl = self._max.tolist()
        return ErrorSums(self._rows, (tv, kl, agreement), (max_tv, max_kl))

    def merge(self, other: ErrorSums) -> None:
        """Count what another meter has added up; the order of merging decides the last bits."""
        self._rows += other.rows
        self._sums += other.sums
        self._max = np.maximum(self._max, other.largest)

    def add(self, log_probs: F64, stored: F32) -> None:
        """Count a batch.

        Args:
            log_probs: float64 [..., classes], what was to be stored.
            stored: float32 [..., classes], probabilities decoded from what was stored.
        """
        p, q = np.exp(log_probs), stored.astype(np.float64)
        q /= q.sum(-1, keepdims=True)  # float32 rows sum to 1 within 1e-7, which would show in the KL
        tv = np.abs(p - q).sum(-1) / 2
        log_q = np.log(np.maximum(q, np.finfo(np.float64).tiny))
        kl = np.maximum((p * (log_probs - log_q)).sum(-1), 0)
        agree = p.argmax(-1) == q.argmax(-1)
        self._rows += tv.size
        self._sums += [tv.sum(), kl.sum(), agree.sum()]
        self._max = np.maximum(self._max, [tv.max(initial=0), kl.max(initial=0)])

    def result(self) -> Certificate:
        """Return the certificate over everything added."""
        mean_tv, mean_kl, agreement = (self._sums / max(1, self._rows)).tolist()
        max_tv, max_kl = self._max.tolist()
        return Certificate(
            mean_tv=mean_tv, max_tv=max_tv, mean_kl=mean_kl, max_kl=max_kl, top1_agreement=min(1.0, agreement)
        )
