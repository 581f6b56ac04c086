"""What may be wrong with the columns that say where views lie, which there are, and with whole-image labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ladd_data.manifest import Manifest
from ladd_data.types import Array, Columns
from ladd_data.validation.labels import Breach
from ladd_data.views.checks import check_places, first_views

SOFT_SUM_TOLERANCE = 1e-3


def check_view_columns(manifest: Manifest, columns: Columns) -> Iterator[Breach]:
    """Yield the first view of each record that cannot be cut, column by column."""
    images = manifest.images
    for wrong in check_places(columns, images.count, images.height, images.width):
        column = f"{wrong.column}, view {wrong.view}"
        yield Breach(wrong.clause, wrong.row, column, wrong.found, wrong.expected)


def check_missing_views(columns: Columns, probs: Array) -> Iterator[Breach]:
    """Yield the first missing view of each record whose stored label is not uniform."""
    if "view_present" not in columns:
        return
    off = np.abs(probs - 1 / probs.shape[-1]).max(-1) > 0.02 / probs.shape[-1] + 1e-6
    for row, view in first_views(off & ~columns["view_present"]):
        found = (
            f"a label that prefers class {int(probs[row, view].argmax())}, of a view that view_present calls missing"
        )
        yield Breach("LADD-045", row, f"view_present, view {view}", found, "the uniform distribution")


def check_soft(manifest: Manifest, columns: Columns) -> Iterator[Breach]:
    """Yield each whole-image label that is not what its column says."""
    if manifest.soft is None:
        return
    name = f"soft_{manifest.soft.space}"
    values = columns[name].astype(np.float64)
    finite = np.isfinite(values).all(-1)
    for row in np.flatnonzero(~finite).tolist():
        yield Breach("LADD-031", row, name, "NaN or infinity", "finite numbers")
    if manifest.soft.space == "probs":
        sums, lowest = np.where(finite, values.T, 1 / values.shape[1]).sum(0), values.min(-1)
        for row in np.flatnonzero(finite & ((np.abs(sums - 1) > SOFT_SUM_TOLERANCE) | (lowest < 0))).tolist():
            low = lowest[row]
            found = f"probabilities that sum to {sums[row]:.6g}" if low >= 0 else f"a probability of {low:.4g}"
            yield Breach("LADD-039", row, name, found, "at least 0, summing to 1")
