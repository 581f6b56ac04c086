"""The rows of relabel files as columns by record and view, filled batch by batch."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ladd_converters.fkd_batches import BatchRows, pixel_boxes
from ladd_converters.teacher_classes import TeacherClasses
from ladd_converters.temporary import room
from ladd_data import RECIPES, Boxes, Coding, ConvertError, Mix, Opaque, Recipe, ViewLabels

_UNMIXED_SIDE = 64
"""Side up to which G-VBSM's branches feed their teachers un-mixed crops where MixUp is on."""
_LEFT_OUT = 40.0
"""By how much the logits of classes that LPQLD left out are put below the least one kept: no probability at all."""
_RANDOM = "the pictures went through RandAugment before they were cut, whose operations the format has not"
_CUT_OUT = "a rectangle of each crop was filled with a colour (LPLD on ImageNet-21K), which the format has not"


class FkdColumns:
    """Columns by record and view.

    outputs: [records, views, classes], as stored. present: bool [records, views]. kinds: rows by how they were mixed.
    sum_to_one: whether all outputs are probabilities. notes: what should be known.
    """

    def __init__(self, shape: tuple[int, int, int, int], views: int, first: BatchRows, classes: TeacherClasses) -> None:
        """Make room.

        Args:
            shape: of the pictures: how many, channels, height, width.
            views: of each.
            first: the first batch; others are like it.
            classes: which of the teacher's outputs are the dataset's classes.
        """
        count, _, self._height, self._width = shape
        self._classes, self._first = classes, first
        self.outputs = room((count, views, classes.count), first.output.dtype)
        self.present = np.zeros((count, views), np.bool_)
        self.columns: dict[str, NDArray[Any]] = {
            "view_box": np.zeros((count, views, 4), np.uint16),
            "view_flip": np.zeros((count, views), np.bool_),
            "view_partner": np.repeat(np.arange(count, dtype=np.uint32)[:, None], views, 1),
            "view_partner_view": np.repeat(np.arange(views, dtype=np.uint16)[None], count, 0),
            "view_mix_box": np.zeros((count, views, 4), np.uint16),
            "view_mix_lambda": np.ones((count, views), np.float32),
        }
        self.columns["view_box"][:] = (0, 0, self._height, self._width)  # of missing views
        self.kinds = Counter[str]()
        self.sum_to_one = True
        self.notes: list[str] = []
        self._unmixed = first.index is not None and first.fields == 7 and self._height <= _UNMIXED_SIDE

    @property
    def mixing(self) -> str:
        """How rows were mixed."""
        return " and ".join(sorted(self.kinds))

    def put(self, rows: BatchRows, views: NDArray[np.int64], records: NDArray[np.int64]) -> None:
        """Put a batch's rows where they belong: the view and the record of each, int64 [B]."""
        path, first = rows.file.path, self._first
        alike = [(one.output.dtype, one.flip is None, one.ids is None, one.operations) for one in (rows, first)]
        if alike[0] != alike[1] or (rows.ids is not None and rows.output.shape[1:] != first.output.shape[1:]):
            raise ConvertError(
                f"{path}: found other kinds of fields than in the first batch; expected one run's files."
            )
        if rows.ids is None:
            self.outputs[records, views] = self._classes.pick(path, rows.output)
        else:
            self.outputs[records, views] = self._widen(rows, rows.ids)
        if self._opaque is None:
            self._place(rows, views, records)
        self.kinds[rows.kind] += len(rows)
        self.present[records, views] = True
        sums = rows.output.astype(np.float64).sum(1)
        self.sum_to_one &= bool(rows.output.min() >= 0 and np.abs(sums - 1).max() < 0.02)

    def _widen(self, rows: BatchRows, ids: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Return logits of all classes, [B, classes], those that were left out far below the others."""
        self._classes.check_ids(rows.file.path, ids)
        lowest = rows.output.min(1, keepdims=True) - rows.output.dtype.type(_LEFT_OUT)
        wide = np.repeat(lowest, self._classes.count, 1)
        np.put_along_axis(wide, ids, rows.output, 1)
        return wide

    def _place(self, rows: BatchRows, views: NDArray[np.int64], records: NDArray[np.int64]) -> None:
        columns = self.columns
        columns["view_box"][records, views] = pixel_boxes(rows, self._height, self._width)
        if rows.flip is not None:
            columns["view_flip"][records, views] = rows.flip
        if rows.partner is not None:
            columns["view_partner"][records, views] = records[rows.partner]
            columns["view_partner_view"][records, views] = views[rows.partner]
            if rows.bbox is not None:
                columns["view_mix_box"][records, views] = self._paste(rows, rows.bbox)
            else:
                columns["view_mix_lambda"][records, views] = rows.lam

    def _paste(self, rows: BatchRows, bbox: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        top, left, bottom, right = bbox
        if bottom > self._height or right > self._width:
            raise ConvertError(
                f"{rows.file.path}: found a CutMix box up to row {bottom}, column {right}; expected inside views of "
                f"{self._height}x{self._width}. The labels were made from pictures of another size."
            )
        return top, left, bottom - top, right - left

    @property
    def _opaque(self) -> str | None:
        """Why no view can be cut again, if that is so."""
        if self._first.operations:
            return _RANDOM
        return _CUT_OUT if self._first.cutout is not None else None

    def labels(self, space: Literal["logits", "probs"], temperature: float) -> ViewLabels:
        """Return what was read."""
        views, names = self._views()
        ids = self._first.ids
        kept = None if ids is None else ids.shape[1]
        coding = None
        if kept is not None and kept < self._classes.count:
            coding = Coding(encoding="topk", k=kept, logz=True)
            self.notes.append(
                f"Labels keep the {kept} largest logits of each view; the others are gone, and get no probability, "
                "as in LPQLD's loss."
            )
        return ViewLabels(
            name="fkd",
            views=views,
            columns={name: self.columns[name] for name in names},
            values=self.outputs,
            space=space,
            temperature=temperature,
            present=None if self.present.all() else self.present,
            recipe=RECIPES["sre2l"] if kept is None else _lpqld(kept),
            coding=coding,
            as_stored=self._as_stored if kept is not None or self._classes.narrowed else None,
        )

    def _views(self) -> tuple[Boxes | Mix | Opaque, list[str]]:
        """Return what views are, and the columns that say where."""
        count, with_flips = self.present.shape[1], self._first.flip is not None
        if self._opaque is not None:
            self.notes.append(f"No view can be cut again: {self._opaque}. A loss over views refuses these labels.")
            return Opaque(count=count, reason=self._opaque), []
        cutmix, mixup = "cutmix" in self.kinds, "mixup" in self.kinds
        if mixup and self._unmixed:
            mixup = False
            self.notes.append("G-VBSM's teachers saw the crops before MixUp at this size, so the views are not mixed.")
        common: dict[str, Any] = {
            "count": count,
            "flip": with_flips,
            "resample": "bilinear" if self._first.fields == 8 and self._first.index is not None else "pillow-bilinear",
        }
        names = ["view_box", *(["view_flip"] if with_flips else [])]
        if not cutmix and not mixup:
            return Boxes(**common), names
        names += ["view_partner", "view_partner_view"]
        names += [*(["view_mix_box"] if cutmix else []), *(["view_mix_lambda"] if mixup else [])]
        return Mix(**common, cutmix=cutmix, mixup=mixup), names

    def _as_stored(self, said: NDArray[np.float64], stored: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what of a teacher's answers would have been stored."""
        picked = self._classes.pick(None, said)
        ids = self._first.ids
        if ids is None:
            return np.asarray(picked, np.float64)
        kept = np.sort(stored, 1)[:, -ids.shape[1], None]
        return np.where(stored >= kept, picked, stored)


def _lpqld(kept: int) -> Recipe:
    """Return LPQLD's recipe; its teacher's temperature falls from 20 to 2, which a recipe cannot say."""
    changes = {"loss": "topk-kl", "top_k": kept, "temperature": 1.0, "teacher_temperature": 20.0, "source": "LPQLD"}
    return Recipe.model_validate({**RECIPES["sre2l"].model_dump(), **changes, "batch_size": 128})
