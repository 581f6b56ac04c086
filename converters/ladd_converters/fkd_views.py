"""The rows of a relabel run, put in the order of pictures: one view an epoch, one label a view."""

from __future__ import annotations

import os
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ladd_converters.fkd_batches import (
    FLAT_INDEX_FILE,
    BatchFile,
    BatchRows,
    find_gap,
    list_batches,
    pixel_boxes,
    read_batch,
)
from ladd_converters.fkd_order import (
    INDEX_FILE,
    SEED,
    Order,
    check_places,
    folder_listing,
    listing_digest,
    read_batch_places,
    read_index_file,
    sampled_orders,
)
from ladd_converters.temporary import room
from ladd_data import RECIPES, Answers, Boxes, ConvertError, Mix, Opaque, Pictures, Recipe, UsageError, ViewLabels

_UNMIXED_SIDE = 64
"""Side up to which G-VBSM's branches feed their teachers un-mixed crops where MixUp is on."""

_CUT_OUT = "LPLD filled a rectangle of each crop with a colour (ImageNet-21K), which the format has not"

OrderIs = Literal["stated by each row", "stated by the index file", "sampled"]


class FkdReader:
    """Reads one relabel run, file by file, once.

    facts: what was found; notes: what should be known; both are complete when `read` has returned.
    """

    def __init__(self, run: Path, answers: Answers | None = None) -> None:
        """Look at the names, and at the first file."""
        self._run, self._answers = run, answers or Answers()
        self._files = list_batches(run)
        self._first = read_batch(self._files[0])
        self._flat = self._files[0].epoch is None
        self._index_file = run / (FLAT_INDEX_FILE if self._flat else INDEX_FILE)
        self.order_is: OrderIs = "sampled"
        if self._first.index is not None:
            self.order_is = "stated by each row"
        elif self._index_file.is_file():
            self.order_is = "stated by the index file"
        self.facts: dict[str, JsonValue] = {}
        self.notes: list[str] = []

    def names_notes(self) -> list[str]:
        """Return what the names alone tell."""
        epochs = len({file.epoch for file in self._files})
        said = [f"{len(self._files)} batches of {epochs} epochs: {epochs} view{'s' if epochs > 1 else ''} a picture."]
        if self._flat:
            said = [
                f"{len(self._files)} batches; view k of a picture is the one it got when it came up for the k-th time."
            ]
        if gap := find_gap(self._files):
            said.append(f"{gap} is missing.")
        return said

    def read(self, folder: Path, pictures: Pictures, classes: int) -> ViewLabels:
        """Read all batches.

        Args:
            folder: of class folders.
            pictures: those of it that become records, in record order.
            classes: how many there are.

        Raises:
            ConvertError: labels and pictures do not belong together, or a file is damaged.
            UsageError: an answer is missing, or contradicts what the files say.
        """
        records = _records_by_place(self._run, folder, pictures)
        self._check_names()
        if self._flat:
            return self._read_flat(folder, pictures.shape, records, classes)
        epochs = sorted({file.epoch for file in self._files if file.epoch is not None})
        views = _Views(pictures.shape, len(epochs), self._first, classes)
        orders = self._orders(len(records), len(epochs))
        sizes = Counter[int]()
        for view, (_, files) in enumerate(groupby(self._files, key=lambda file: file.epoch)):
            rows = self._read_epoch(list(files), orders[view] if orders else None, records, views, view)
            sizes[rows] += 1
        labels = views.labels(self._space(views), self._answers.temperature or 1.0)
        self._say(folder, records, views, sizes, len(epochs))
        return labels

    def _read_flat(
        self, folder: Path, shape: tuple[int, int, int, int], records: NDArray[np.int64], classes: int
    ) -> ViewLabels:
        """Read LPQLD's batches, whose epochs are in no name and need not be whole."""
        self._refuse_order_answers()
        places = read_batch_places(self._index_file, [file.number for file in self._files], len(records))
        times = np.bincount(np.concatenate(places), minlength=len(records))
        views = _Views(shape, int(times.max()), self._first, classes)
        seen = np.zeros(len(records), np.int64)
        for file, here in zip(self._files, places, strict=True):
            rows = self._first if file == self._files[0] else read_batch(file)
            if len(rows) != len(here):
                raise self._wrong_count(file.path, len(rows), len(here))
            own = records[here]
            views.put(rows, seen[own], own)
            seen[own] += 1
        labels = views.labels(self._space(views), 1.0)
        self._say(folder, records, views, Counter(map(len, places)), int(times.max()))
        return labels

    def _check_names(self) -> None:
        gap = find_gap(self._files)
        if gap is None:
            return
        if self.order_is == "sampled":
            raise ConvertError(
                f"{self._run}: found no {gap}, but later ones; expected all. Which picture a row is of follows from "
                "the rows before it: fetch what is missing."
            )
        self.notes.append(f"{gap} is missing; the rows of the others say which pictures they are of.")

    def _orders(self, count: int, epochs: int) -> list[Order] | None:
        """Return the places of each epoch's rows; None where each file says them."""
        answers = self._answers
        if self.order_is != "sampled":
            self._refuse_order_answers()
        if self.order_is == "stated by each row":
            return None
        if self.order_is == "stated by the index file":
            return read_index_file(self._run, count, epochs)
        seed, draws = SEED if answers.seed is None else answers.seed, answers.permutations or 2
        if answers.seed is None:
            self.facts["fkd_seed"] = f"{SEED}, SRe2L's default"
        return sampled_orders(count, epochs, seed, 1 if draws == 1 else 2)

    def _refuse_order_answers(self) -> None:
        for name in ("seed", "permutations"):
            if getattr(self._answers, name) is not None:
                raise UsageError(f"--{name}: the order is {self.order_is}; leave it out.")

    def _read_epoch(
        self, files: list[BatchFile], order: Order | None, records: NDArray[np.int64], views: _Views, view: int
    ) -> int:
        """Read one epoch's files into their view, and return how many rows there were."""
        epoch, at = files[0].epoch, 0
        place = self._run / f"epoch_{epoch}"
        seen: list[Order] = []
        for number, file in enumerate(files):
            rows = self._first if file == self._files[0] else read_batch(file)
            here = rows.index if order is None else order[at : at + len(rows)]
            if here is None or len(here) != len(rows):
                raise self._wrong_count(place, at + len(rows), len(records if order is None else order))
            check_places(file.path, "this batch", here, len(records))
            if self.order_is == "sampled" and len(rows) != len(self._first) and number + 1 < len(files):
                raise ConvertError(
                    f"{file.path}: found {len(rows)} rows, and {len(self._first)} in other batches; expected one batch "
                    "size in all but an epoch's last."
                )
            views.put(rows, view, records[here])
            seen.append(here)
            at += len(rows)
        check_places(place, f"epoch {epoch}", np.concatenate(seen), len(records))
        last = file.epoch == self._files[-1].epoch
        if order is not None and (at < len(order) and not (self.order_is == "sampled" and last)):
            raise self._wrong_count(place, at, len(order))
        return at

    def _wrong_count(self, place: Path, rows: int, pictures: int) -> ConvertError:
        whose = f"{self._index_file.name} lists" if self.order_is == "stated by the index file" else "there are"
        return ConvertError(
            f"{place}: found {rows} rows where {whose} {pictures} pictures; expected as many of each. A picture was "
            "added or removed since the labels were made, or a batch is missing or of another run: rows would be of "
            "other pictures."
        )

    def _space(self, views: _Views) -> Literal["logits", "probs"]:
        """Return what the outputs are, read from them or said by the person."""
        said = self._answers.label_space
        if views.kept and said not in (None, "logits"):
            raise UsageError(f"--label-space {said}: LPQLD keeps the largest logits. Leave it out.")
        if said not in (None, "logits", "probs"):
            raise UsageError(f"--label-space {said}: relabel files hold logits, or probs where a method softened them.")
        if views.sum_to_one and said is None:
            raise UsageError(
                f"{self._run}: found outputs that sum to 1, so they are probabilities and no logits; their temperature "
                "is in no file (HALD's is 20). Give --label-space probs --temperature T."
            )
        if said == "probs" and not views.sum_to_one:
            raise UsageError(f"{self._run}: --label-space probs: found outputs that do not sum to 1.")
        if said == "probs" and self._answers.temperature is None:
            raise UsageError(
                "--label-space probs: what the logits were divided by is in no file; give --temperature T."
            )
        if said is None:
            self.facts["label_space"] = "logits"
        return "probs" if said == "probs" else "logits"

    def _say(self, folder: Path, records: NDArray[np.int64], views: _Views, sizes: Counter[int], epochs: int) -> None:
        count = len(records)
        self.facts |= {
            "fkd_run": self._run.absolute().name,
            "fkd_epochs": epochs,
            "fkd_batch_size": len(self._first),
            "fkd_order": self.order_is,
            "fkd_listing_sha256": listing_digest(folder_listing(folder)),
            "fkd_mixing": views.mixing,
            "fkd_outputs": str(views.outputs.dtype),
        }
        if self.order_is == "sampled":
            self.notes.append(
                "Which picture each row is of follows from the listing, the seed and torch's sampler; only a replay "
                "with the teacher can confirm it (--teacher, or ladd check-labels)."
            )
        short, missing = sum(times for rows, times in sizes.items() if rows < count), int((~views.present).sum())
        if missing and self._flat:
            self.notes.append(f"Not every picture came up {epochs} times: {missing} views are missing.")
        elif short and not self._flat:
            self.notes.append(f"{short} of {epochs} epochs hold fewer rows than pictures: {missing} views are missing.")
        self.notes += views.notes


class _Views:
    """Columns by record and view, filled batch by batch."""

    def __init__(self, shape: tuple[int, int, int, int], epochs: int, first: BatchRows, classes: int) -> None:
        count, _, self._height, self._width = shape
        self._classes, self._with_flips = classes, first.flip is not None
        self.kept = None if first.ids is None or first.ids.shape[1] == classes else first.ids.shape[1]
        self.outputs = room((count, epochs, classes), first.output.dtype)
        self.present = np.zeros((count, epochs), np.bool_)
        self.columns: dict[str, NDArray[Any]] = {
            "view_box": np.zeros((count, epochs, 4), np.uint16),
            "view_flip": np.zeros((count, epochs), np.bool_),
            "view_partner": np.repeat(np.arange(count, dtype=np.uint32)[:, None], epochs, 1),
            "view_partner_view": np.repeat(np.arange(epochs, dtype=np.uint16)[None], count, 0),
            "view_mix_box": np.zeros((count, epochs, 4), np.uint16),
            "view_mix_lambda": np.ones((count, epochs), np.float32),
        }
        self.columns["view_box"][:] = (0, 0, self._height, self._width)  # of missing views
        self.kinds = Counter[str]()
        self.sum_to_one = True
        self.notes: list[str] = []
        self._unmixed = first.index is not None and first.fields == 7 and self._height <= _UNMIXED_SIDE
        self._antialiased = first.fields == 8

    @property
    def mixing(self) -> str:
        """How rows were mixed."""
        return " and ".join(sorted(self.kinds))

    def put(self, rows: BatchRows, view: int | NDArray[np.int64], records: NDArray[np.int64]) -> None:
        """Put a batch's rows where they belong; `view` is of all of them, or of each."""
        path, output = rows.file.path, self._unfold(rows)
        if rows.output.dtype != self.outputs.dtype or (rows.flip is not None) != self._with_flips:
            raise ConvertError(
                f"{path}: found other kinds of fields than in the first batch; expected one run's files."
            )
        columns = self.columns
        columns["view_box"][records, view] = pixel_boxes(rows, self._height, self._width)
        if rows.flip is not None:
            columns["view_flip"][records, view] = rows.flip
        if rows.partner is not None:
            columns["view_partner"][records, view] = records[rows.partner]
            columns["view_partner_view"][records, view] = np.broadcast_to(view, len(rows))[rows.partner]
            if rows.bbox is not None:
                columns["view_mix_box"][records, view] = self._paste(rows, rows.bbox)
            else:
                columns["view_mix_lambda"][records, view] = rows.lam
        self.kinds[rows.kind] += len(rows)
        self.outputs[records, view] = output
        self.present[records, view] = True
        sums = rows.output.astype(np.float64).sum(1)
        self.sum_to_one &= bool(rows.output.min() >= 0 and np.abs(sums - 1).max() < 0.02) and rows.ids is None

    def _unfold(self, rows: BatchRows) -> NDArray[np.floating[Any]]:
        """Return an output for each class, [B, classes]; minus infinity for those that were not kept."""
        path, given = rows.file.path, rows.output
        if rows.ids is None:
            if given.shape[1] != self._classes:
                raise ConvertError(
                    f"{path}: found outputs of {given.shape[1]} classes; expected {self._classes}, the dataset's. "
                    f"{_way_to_classes(given.shape[1], self._classes)}"
                )
            return given
        if int(rows.ids.max()) >= self._classes or (self.kept or self._classes) != rows.ids.shape[1]:
            raise ConvertError(
                f"{path}: found {rows.ids.shape[1]} classes a row, up to number {int(rows.ids.max())}; expected "
                f"{self.kept or self._classes}, below {self._classes}, the dataset's. "
                f"{_way_to_classes(int(rows.ids.max()) + 1, self._classes)}"
            )
        output = np.full((len(rows), self._classes), -np.inf, given.dtype)
        np.put_along_axis(output, rows.ids, given, 1)
        return output

    def _paste(self, rows: BatchRows, bbox: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        top, left, bottom, right = bbox
        if bottom > self._height or right > self._width:
            raise ConvertError(
                f"{rows.file.path}: found a CutMix box up to row {bottom}, column {right}; expected inside views of "
                f"{self._height}x{self._width}. The labels were made from pictures of another size."
            )
        return top, left, bottom - top, right - left

    def labels(self, space: Literal["logits", "probs"], temperature: float) -> ViewLabels:
        """Return what was read."""
        count = self.present.shape[1]
        cutmix, mixup = "cutmix" in self.kinds, "mixup" in self.kinds
        if mixup and self._unmixed:
            mixup = False
            self.notes.append("G-VBSM's teachers saw the crops before MixUp at this size, so the views are not mixed.")
        common: dict[str, Any] = {
            "count": count,
            "flip": self._with_flips,
            "resample": "bilinear" if self._antialiased else "pillow-bilinear",
        }
        if not self._with_flips:
            self.notes.append(f"The views cannot be cut again: {_CUT_OUT}. A loss over views refuses these labels.")
        wanted = ["view_box", *(["view_flip"] if self._with_flips else [])]
        if cutmix or mixup:
            wanted += ["view_partner", "view_partner_view"]
            wanted += [*(["view_mix_box"] if cutmix else []), *(["view_mix_lambda"] if mixup else [])]
        views = Mix(**common, cutmix=cutmix, mixup=mixup) if cutmix or mixup else Boxes(**common)
        shown = self._with_flips
        return ViewLabels(
            name="fkd",
            views=views if shown else Opaque(count=count, reason=_CUT_OUT),
            columns={name: self.columns[name] for name in wanted} if shown else {},
            values=self.outputs,
            space=space,
            temperature=temperature,
            present=None if self.present.all() else self.present,
            recipe=RECIPES["sre2l"] if self.kept is None else _lpqld(self.kept),
            kept=self.kept,
        )


def _way_to_classes(outputs: int, classes: int) -> str:
    if outputs > classes:
        return (
            "The teacher knows more classes: give all of them in its order (--dataset imagenet-1k, or --classes "
            "@FILE), and --some-classes, as there are pictures of some only."
        )
    return "The teacher was trained on another list of classes: these labels are not of this dataset."


def _lpqld(kept: int) -> Recipe:
    """Return how LPQLD trains, but that its teacher's temperature falls from 20 to 2 (x 0.7 every 30 epochs)."""
    own = {"loss": "topk-kl", "top_k": kept, "temperature": 1.0, "teacher_temperature": 20.0, "source": "LPQLD"}
    return Recipe.model_validate(RECIPES["sre2l"].model_dump() | own)


def _records_by_place(run: Path, folder: Path, pictures: Pictures) -> NDArray[np.int64]:
    """Return the record of each place in the sorted listing.

    Raises:
        ConvertError: a picture of the listing is no record: its labels would have no image.
    """
    listing = folder_listing(folder)
    own = {os.path.relpath(pictures.file(number), folder): number for number in range(pictures.shape[0])}
    extra = [name for name in listing if name not in own]
    if extra or len(listing) != len(own):
        raise ConvertError(
            f"{folder}: found {len(listing)} pictures in the listing that the relabel program saw, of which {len(own)} "
            f"become records ({', '.join(extra[:3]) or 'links'} not); expected the same ones. Move the others out of "
            f"the folder only if {run.name} was made without them."
        )
    return np.array([own[name] for name in listing], np.int64)
