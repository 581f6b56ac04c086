"""Some views of a few records through the labelers again, where each view lies given explicitly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ladd_data.labeling.checking.compare import Decoded, mean_over_views, total_variation
from ladd_data.labeling.pipeline import Chunk, Computing, LabelPipeline, Member
from ladd_data.manifest import Boxes, ByRecord, Grid, Resample, ViewSpec
from ladd_data.shards.layout import Records
from ladd_data.types import F32, I64, U8
from ladd_data.views.geometry import boxes


@dataclass(frozen=True, slots=True)
class Probe:
    """A few records: pixels, where their views lie, and what is stored of these.

    pixels: uint8 [records, channels, height, width]; box: int64 [records, views, 4], y, x, height, width;
    flip: bool [records, views]; resample, size: how crops are resized, as in `Boxes`.
    """

    pixels: U8
    box: I64
    flip: NDArray[np.bool_]
    stored: Decoded
    resample: Resample = "bilinear"
    size: int | None = None

    @classmethod
    def of(cls, chunk: Chunk, views: ViewSpec, stored: Decoded) -> Probe:
        """Return the records of a chunk with all their views."""
        size, count = chunk.pixels.shape[-2:], len(chunk.records)
        box = chunk.boxes.get("view_box")
        if box is None:
            box = np.broadcast_to(place_views(views, size), (count, stored.probs.shape[1], 4)).copy()
        box = box.astype(np.int64)
        flip = chunk.boxes.get("view_flip", np.zeros(box.shape[:2], np.bool_))
        resample = views.resample if isinstance(views, ByRecord) else "bilinear"
        own = views.size if isinstance(views, Boxes) else None
        return cls(chunk.pixels, box, flip, stored, resample, own)

    def pick(self, rows: slice, views: list[int]) -> Probe:
        """Return some views of some records."""
        stored = self.stored.pick(rows, views)
        box, flip = self.box[rows][:, views], self.flip[rows][:, views]
        return replace(self, pixels=self.pixels[rows], box=box, flip=flip, stored=stored)

    def distance(self, probs: F32) -> float:
        """Return the mean total variation between probabilities [records, views, classes] and what is stored."""
        return float(mean_over_views(total_variation(self.stored.probs, probs), self.stored.present).mean())


def place_views(views: ViewSpec, size: Sequence[int]) -> I64:
    """Return where the views of a grid, or the whole image, lie: int64 [views, 4]."""
    if isinstance(views, Grid):
        return np.array([astuple(box) for box in boxes(views, *size)], np.int64)
    return np.array([[0, 0, *size]], np.int64)


def run_probe(probe: Probe, members: list[Member], computing: Computing) -> F32:
    """Return the logits of a probe's views, float32 [labelers, records, views, classes]."""
    flip = bool(probe.flip.any())
    views = Boxes(count=probe.box.shape[1], flip=flip, resample=probe.resample, size=probe.size)
    nothing = Records([], np.zeros(0, np.int64), [], {})
    given = {"view_box": probe.box} | ({"view_flip": probe.flip} if views.flip else {})
    count = len(probe.pixels)
    batch = computing.batch and min(computing.batch, count * views.count)  # a short pass is padded: keep it short
    with LabelPipeline(members, views, replace(computing, compile=False, batch=batch)) as pipeline:
        at_once = max(1, pipeline.batch // views.count)
        parts = [slice(row, row + at_once) for row in range(0, count, at_once)]
        chunks = (
            Chunk(nothing, probe.pixels[part], {name: values[part] for name, values in given.items()}) for part in parts
        )
        return np.concatenate([logits for _, logits in pipeline.stream(chunks)], axis=1)
