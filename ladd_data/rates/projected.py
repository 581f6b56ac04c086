"""The rung of a projector: no labels are stored, a small network makes them while students are trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladd_data.dataset import Dataset
from ladd_data.encodings.certificate import CertificateMeter
from ladd_data.errors import UsageError
from ladd_data.manifest import Certificate, Full, Grid
from ladd_data.projector.online import load_online
from ladd_data.rates.rungs import Made
from ladd_data.shards.folder import read_metadata
from ladd_data.shards.projectors import open_projector

PREFIX = "projector-"
"""What the name of such a rung begins with; the rest is the projector's."""
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Projected:
    """A projector of the dataset at `path`, asked about the views of the labels that the ladder began with.

    backbone: the file of its backbone's weights, where they are not in the set nor to be downloaded.
    """

    path: Path
    projector: str
    backbone: Path | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{PREFIX}{self.projector}"

    def make(self, base: Dataset) -> Made:
        """Open the projector; its bytes are those of its own files, without what is public.

        Raises:
            UsageError: the labels are of views that differ from image to image.
        """
        views = base.view_spec
        if not isinstance(views, Grid | Full):
            raise UsageError(f"rung {self.name}: expected labels of a grid or of whole images; these are of others.")
        dataset = load_online(self.path, self.projector, backbone=self.backbone, views=views)
        size = open_projector(read_metadata(self.path), self.projector).bytes
        count = base.manifest.labels.count if base.manifest.labels is not None else 0
        return Made(dataset, size, size, count, _compare(base, dataset))


def _compare(base: Dataset, made: Dataset) -> Certificate:
    """Return the error of labels made against those stored, over the views that are there."""
    meter = CertificateMeter()
    for wanted, found in zip(base.loader(_BATCH), made.loader(_BATCH), strict=True):
        if wanted.dense is None or found.dense is None:
            raise UsageError("there are no labels to compare.")
        shape = wanted.dense.shape[:2]
        there = wanted.present.numpy() if wanted.present is not None else np.ones(shape, np.bool_)
        probs = np.maximum(wanted.dense.numpy().astype(np.float64), np.finfo(np.float32).tiny)
        meter.add(np.log(probs / probs.sum(-1, keepdims=True))[there], found.dense.numpy()[there])
    return meter.result()
