"""The rows of a relabel run, put in the order of pictures: one view an epoch, one label a view."""

from __future__ import annotations

import os
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ladd_converters.fkd_batches import BatchFile, find_gap, is_flat, list_batches, read_batch
from ladd_converters.fkd_columns import FkdColumns
from ladd_converters.fkd_order import (
    BATCH_INDEX_FILE,
    INDEX_FILE,
    SEED,
    Order,
    check_places,
    folder_listing,
    listing_digest,
    read_batch_index_file,
    read_index_file,
    sampled_orders,
)
from ladd_converters.teacher_classes import TeacherClasses
from ladd_data import Answers, Classes, ConvertError, Pictures, UsageError, ViewLabels

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
        self.order_is: OrderIs = "sampled"
        if self._first.index is not None:
            self.order_is = "stated by each row"
        elif is_flat(run) or (run / INDEX_FILE).is_file():
            self.order_is = "stated by the index file"
        self.facts: dict[str, JsonValue] = {}
        self.notes: list[str] = []

    def names_notes(self) -> list[str]:
        """Return what the names alone tell."""
        if is_flat(self._run):
            return [f"{len(self._files)} batches in one folder, as LPQLD writes them."]
        epochs = len({file.epoch for file in self._files})
        said = [f"{len(self._files)} batches of {epochs} epochs: {epochs} view{'s' if epochs > 1 else ''} a picture."]
        if gap := find_gap(self._files):
            said.append(f"{gap} is missing.")
        return said

    def read(self, folder: Path, pictures: Pictures, classes: Classes) -> ViewLabels:
        """Read all batches.

        Args:
            folder: of class folders.
            pictures: those of it that become records, in record order.
            classes: of the dataset.

        Raises:
            ConvertError: labels and pictures do not belong together, or a file is damaged.
            UsageError: an answer is missing, or contradicts what the files say.
        """
        records = _records_by_place(self._run, folder, pictures)
        first = self._first
        teacher = TeacherClasses(
            self._run, classes, len(classes.names) if first.ids is not None else first.output.shape[1]
        )
        if note := teacher.note():
            self.notes.append(note)
            self.facts["fkd_teacher_classes"] = teacher.outputs
        if is_flat(self._run):
            views = self._read_flat(records, pictures.shape, teacher)
        else:
            views = self._read_epochs(records, pictures.shape, teacher)
        labels = views.labels(self._space(views), self._answers.temperature or 1.0)
        self._say(folder, views)
        return labels

    def _read_epochs(
        self, records: NDArray[np.int64], shape: tuple[int, int, int, int], teacher: TeacherClasses
    ) -> FkdColumns:
        """Read a folder an epoch: each epoch is a view."""
        epochs = sorted({file.epoch for file in self._files})
        self._check_names(epochs)
        views = FkdColumns(shape, len(epochs), self._first, teacher)
        orders = self._orders(len(records), len(epochs))
        sizes = Counter[int]()
        for view, (_, files) in enumerate(groupby(self._files, key=lambda file: file.epoch)):
            rows = self._read_epoch(list(files), orders[view] if orders else None, records, views, view)
            sizes[rows] += 1
        self.facts["fkd_epochs"] = len(epochs)
        short = sum(times for rows, times in sizes.items() if rows < len(records))
        if short:
            missing = int((~views.present).sum())
            said = f"{short} of {len(epochs)} epochs hold fewer rows than pictures: {missing} views are missing."
            self.notes.append(said)
        return views

    def _read_flat(
        self, records: NDArray[np.int64], shape: tuple[int, int, int, int], teacher: TeacherClasses
    ) -> FkdColumns:
        """Read one folder of batches, LPQLD's: view v of a picture is its v-th crop, whatever the epoch was."""
        self._refuse_order()
        numbers = [file.number for file in self._files]
        places = read_batch_index_file(self._run, numbers, len(records))
        seen = np.zeros(len(records), np.int64)
        which = []
        for here in places:
            which.append(seen[here])
            seen[here] += 1
        views = FkdColumns(shape, int(seen.max()), self._first, teacher)
        for file, here, view in zip(self._files, places, which, strict=True):
            rows = self._first if file == self._files[0] else read_batch(file)
            if len(rows) != len(here):
                raise ConvertError(
                    f"{file.path}: found {len(rows)} rows where {BATCH_INDEX_FILE} lists {len(here)} pictures; "
                    "expected as many of each. The file is of another run."
                )
            views.put(rows, view, records[here])
        gone = max(numbers) + 1 - len(numbers)
        if gone:
            self.notes.append(f"{gone} of {max(numbers) + 1} batches are missing: so are their views.")
        if not views.present.all():
            self.notes.append(f"{int((~views.present).sum())} of {views.present.size} views are missing.")
        self.facts["fkd_batches"] = len(numbers)
        return views

    def _check_names(self, epochs: list[int]) -> None:
        gap = find_gap(self._files)
        if gap is None:
            return
        if self.order_is == "sampled":
            raise ConvertError(
                f"{self._run}: found no {gap}, but later ones; expected all. Which picture a row is of follows from "
                "the rows before it: fetch what is missing."
            )
        self.notes.append(f"{gap} is missing; the rows of the others say which pictures they are of.")

    def _refuse_order(self) -> None:
        """Refuse answers that are of an order which the files state."""
        for name in ("seed", "permutations") if self.order_is != "sampled" else ():
            if getattr(self._answers, name) is not None:
                raise UsageError(f"--{name}: the order is {self.order_is}; leave it out.")

    def _orders(self, count: int, epochs: int) -> list[Order] | None:
        """Return the places of each epoch's rows; None where each file says them."""
        answers = self._answers
        self._refuse_order()
        if self.order_is == "stated by each row":
            return None
        if self.order_is == "stated by the index file":
            return read_index_file(self._run, count, epochs)
        seed, draws = SEED if answers.seed is None else answers.seed, answers.permutations or 2
        if answers.seed is None:
            self.facts["fkd_seed"] = f"{SEED}, SRe2L's default"
        return sampled_orders(count, epochs, seed, 1 if draws == 1 else 2)

    def _read_epoch(
        self, files: list[BatchFile], order: Order | None, records: NDArray[np.int64], views: FkdColumns, view: int
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
            views.put(rows, np.full(len(rows), view), records[here])
            seen.append(here)
            at += len(rows)
        check_places(place, f"epoch {epoch}", np.concatenate(seen), len(records))
        last = file.epoch == self._files[-1].epoch
        if order is not None and (at < len(order) and not (self.order_is == "sampled" and last)):
            raise self._wrong_count(place, at, len(order))
        return at

    def _wrong_count(self, place: Path, rows: int, pictures: int) -> ConvertError:
        whose = f"{INDEX_FILE} lists" if self.order_is == "stated by the index file" else "there are"
        return ConvertError(
            f"{place}: found {rows} rows where {whose} {pictures} pictures; expected as many of each. A picture was "
            "added or removed since the labels were made, or a batch is missing or of another run: rows would be of "
            "other pictures."
        )

    def _space(self, views: FkdColumns) -> Literal["logits", "probs"]:
        """Return what the outputs are, read from them or said by the person."""
        said = self._answers.label_space
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

    def _say(self, folder: Path, views: FkdColumns) -> None:
        self.facts |= {
            "fkd_run": self._run.absolute().name,
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
        self.notes += views.notes


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
