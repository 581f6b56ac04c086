"""What may be wrong with the columns that say where views lie, which there are, and with whole-image labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ladd_data.manifest import Manifest
from ladd_data.types import Array, Columns
from ladd_data.validation.labels import Breach

SOFT_SUM_TOLERANCE = 1e-3


def check_view_columns(manifest: Manifest, columns: Columns) -> Iterator[Breach]:
    """Yield each box that does not lie in the image, and each missing view whose label is not the neutral one."""
    height, width = manifest.images.height, manifest.images.width
    if "view_box" in columns:
        boxes = columns["view_box"].astype(np.int64)  # [rows, views, (y, x, height, width)]
        inside = (boxes[..., 2:] >= 1).all(-1) & (boxes[..., :2] + boxes[..., 2:] <= [height, width]).all(-1)
        for row, view in np.argwhere(~inside):
            found = f"box {boxes[row, view].tolist()} of view {view}"
            yield Breach("LADD-044", int(row), "view_box", found, f"y, x, height, width inside {height}x{width}")


def check_missing_views(columns: Columns, probs: Array) -> Iterator[Breach]:
    """Yield each missing view whose stored label is not uniform."""
    if "view_present" not in columns:
        return
    off = np.abs(probs - 1 / probs.shape[-1]).max(-1) > 0.02 / probs.shape[-1] + 1e-6
    for row, view in np.argwhere(off & ~columns["view_present"]):
        yield Breach("LADD-045", int(row), "view_present", f"a label in missing view {view}", "the uniform one")


def check_soft(manifest: Manifest, columns: Columns) -> Iterator[Breach]:
    """Yield each whole-image label that is not what its column says."""
    if manifest.soft is None:
        return
    name = f"soft_{manifest.soft.space}"
    values = columns[name].astype(np.float64)
    for row in np.flatnonzero(~np.isfinite(values).all(-1)):
        yield Breach("LADD-031", int(row), name, "NaN or infinity", "finite numbers")
    if manifest.soft.space == "probs":
        wrong = (np.abs(values.sum(-1) - 1) > SOFT_SUM_TOLERANCE) | (values.min(-1) < 0)
        for row in np.flatnonzero(wrong):
            yield Breach("LADD-039", int(row), name, f"numbers that sum to {values[row].sum():.6g}", "probabilities")
