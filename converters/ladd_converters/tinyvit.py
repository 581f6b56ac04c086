"""TinyViT's saved logits: a teacher's likeliest classes of augmented pictures, kept without what can make these again.

    <path>/logits_top<k>_epoch<e>/rank<r>-keys.txt       a line a record: the picture
                                  rank<r>-values.bin     a record of 4 + 4 k bytes for each line, without a header:

        int32      seed of the augmentation
        k x int16  class numbers (above 32767 they wrap)
        k x f16    their probabilities (softmax at T = 1, in spite of the folder's name), descending

All little-endian; k is in the folder's name only, the number of classes nowhere. A key is a picture's name without its
suffix (ImageNet-22k) or its place in the sorted class folders (ImageNet-1k). Each epoch has an order of its own, which
the keys say. With MixUp or CutMix, records 2 i and 2 i + 1 of a file are of two pictures mixed with each other.

The seed goes through TinyViT's own augmentation code and NumPy's generators, so that no view can be cut again from the
files: labels are kept, their views are opaque. Source: microsoft/Cream 4a13c409, TinyViT/data/augmentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ladd_converters.class_folders import is_folder, scan, some
from ladd_converters.class_labels import refuse_answers
from ladd_converters.fkd_order import check_places
from ladd_converters.imagefolder import ImageFolderConverter
from ladd_converters.kept_classes import coding_of, make_whole
from ladd_converters.originals import add_labels, read_originals
from ladd_converters.temporary import room
from ladd_data import (
    Answers,
    Ask,
    ConvertError,
    Description,
    Distilled,
    Opaque,
    Pictures,
    Preset,
    Recipe,
    UsageError,
    ViewLabels,
)

_EPOCH = re.compile(r"logits_top(?P<k>[1-9][0-9]{0,4})_epoch(?P<epoch>[0-9]+)")
_KEYS = re.compile(r"rank(?P<rank>[0-9]+)-keys\.txt")
WHY = (
    "TinyViT keeps only the seed of each augmentation, and what it stands for is in its code and NumPy's generators; "
    "where it mixes pictures, the label is of two"
)
RECIPE = Recipe.model_validate(
    {"loss": "soft-ce", "target": "views", "views_per_step": 1, "epochs": 90, "batch_size": 4096, "source": "TinyViT"}
)


@dataclass(frozen=True, slots=True)
class _Records:
    """One file of records: keys; seeds int32 [n]; ids int16 [n, k]; probabilities float16 [n, k]."""

    path: Path
    keys: list[str]
    ids: NDArray[np.int16]
    kept: NDArray[np.float16]


class TinyVitConverter:
    """Reads the saved logits of one teacher, and the pictures that they are of."""

    name: ClassVar[str] = "tinyvit"
    summary: ClassVar[str] = (
        "TinyViT: logits_top100_epoch0/rank0-values.bin and the pictures; views cannot be cut again"
    )
    datasets: ClassVar[Mapping[str, Preset]] = ImageFolderConverter.datasets

    def detect(self, path: Path) -> str | None:
        """Return why this looks like saved logits, or None."""
        runs = _find_runs(path)
        return f"logits_top<k>_epoch<e> in {runs[0].name}, as TinyViT names them" if runs else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        run = _one(path)
        asks = (
            Ask("--images", "the pictures that were labelled lie in another folder", "FOLDER"),
            Ask("--dataset", "pictures do not say by which mean and std networks are fed with them", "imagenet-1k"),
        )
        return Description(self.detect(path) or "", (run,), asks, (f"No view can be cut again: {WHY}.",))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read saved logits and their pictures; see `ladd_data.Converter.read`."""
        refuse_answers(answers, self.name, "images")
        run = _one(path)
        distilled = read_originals(run, answers, "images")
        if not isinstance(distilled.images, Pictures):
            raise UsageError(f"{answers.images}: expected a folder of pictures.")
        epochs, kept = _epochs(run)
        count, classes = distilled.images.shape[0], len(distilled.classes.names)
        values = room((count, len(epochs), classes), np.dtype(np.float32))
        present = np.zeros((count, len(epochs)), np.bool_)
        names = [Path(distilled.images.file(number)).stem for number in range(count)]
        notes = []
        for view, folder in enumerate(epochs.values()):
            for records in _read_epoch(folder, kept):
                rows, twice = _rows(records, names, present[:, view])
                values[rows, view] = make_whole(records.path, records.ids, records.kept, classes)[~twice]
                present[rows, view] = True
                if twice.any():
                    where = f"{folder.name}/{records.path.name}"
                    notes.append(f"Left out: {twice.sum()} of {where}, of pictures that have a label already.")
        if not present.all():
            notes.append(
                f"{int((~present).sum())} of {present.size} labels are missing: their pictures are in no file."
            )
        notes.append(f"The views cannot be cut again: {WHY}. A loss over views refuses these labels.")
        labels = ViewLabels(
            name="tinyvit",
            views=Opaque(count=len(epochs), reason=WHY),
            columns={},
            values=values,
            space="probs",
            recipe=RECIPE,
            present=None if present.all() else present,
            coding=coding_of(kept, classes, exact=False),
        )
        facts: dict[str, JsonValue] = {
            "tinyvit_run": run.absolute().name,
            "tinyvit_epochs": list(epochs),
            "top_k": kept,
        }
        return add_labels(distilled, run, answers, labels, (facts, notes))


def _find_runs(path: Path) -> list[Path]:
    """Return the folders of epochs at `path` or just below it, sorted."""
    below = sorted(path / entry.name for entry in scan(path) if is_folder(entry))
    return [folder for folder in (path, *below) if any(_EPOCH.fullmatch(entry.name) for entry in scan(folder))]


def _one(path: Path) -> Path:
    runs = _find_runs(path)
    if not runs:
        found = "no such folder" if not path.exists() else "found no logits_top<k>_epoch<e> in it"
        raise UsageError(f"{path}: {found}; expected the folder that TinyViT saved logits to.")
    if len(runs) > 1:
        raise UsageError(f"{path}: found {len(runs)} of them; name one: {some([run.name for run in runs])}.")
    return runs[0]


def _epochs(run: Path) -> tuple[dict[int, Path], int]:
    """Return the folder of each epoch by number, and how many classes they keep.

    Raises:
        ConvertError: they keep different numbers.
    """
    found = {entry.name: name for entry in scan(run) if (name := _EPOCH.fullmatch(entry.name))}
    kept = {int(name["k"]) for name in found.values()}
    if len(kept) > 1:
        raise ConvertError(f"{run}: found labels of {some([f'top {k}' for k in sorted(kept)])}; expected one run's.")
    epochs = {int(match["epoch"]): run / name for name, match in found.items()}
    return {epoch: epochs[epoch] for epoch in sorted(epochs)}, kept.pop()


def _read_epoch(folder: Path, kept: int) -> list[_Records]:
    files = sorted(
        (int(name["rank"]), folder / entry.name) for entry in scan(folder) if (name := _KEYS.fullmatch(entry.name))
    )
    if not files:
        raise ConvertError(f"{folder}: found no rank0-keys.txt; expected keys and values of one process at least.")
    record = np.dtype([("seed", "<i4"), ("ids", "<i2", (kept,)), ("kept", "<f2", (kept,))])
    read = []
    for rank, path in files:
        values = folder / f"rank{rank}-values.bin"
        try:
            keys, data = path.read_text("utf-8").splitlines(), values.read_bytes()
        except (OSError, UnicodeDecodeError) as error:
            raise ConvertError(f"{values}: cannot be read with its keys ({error}). Fetch both again.") from error
        if len(data) != len(keys) * record.itemsize:
            raise ConvertError(
                f"{values}: found {len(data)} bytes for {len(keys)} keys; expected {record.itemsize} each, of the top "
                f"{kept} that the folder's name says. The folder was renamed, or a file was cut short."
            )
        rows = np.frombuffer(data, record)
        read.append(_Records(values, keys, rows["ids"], rows["kept"]))
    return read


def _rows(records: _Records, names: list[str], taken: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the pictures of records, int64, and which records are of one that came before, bool [n].

    Raises:
        ConvertError: a key is of no picture, or pictures were added to numbered ones.
    """
    place = {name: number for number, name in enumerate(names)}
    if all(key in place for key in records.keys) and len(place) == len(names):
        rows = np.array([place[key] for key in records.keys], np.int64)
    elif all(key.isascii() and key.isdecimal() and len(key) < 10 for key in records.keys):
        rows = np.array([int(key) for key in records.keys], np.int64)
        check_places(records.path, "these keys", np.unique(rows), len(names))
        last = int(rows.max(initial=-1)) + 1
        if not taken.any() and last < len(names) and len(np.unique(rows)) == last:
            raise ConvertError(
                f"{records.path}: found keys of all of {last} pictures; there are {len(names)}. A picture was added "
                "since the labels were made, so that the numbers are of other ones."
            )
    else:
        strange = [key for key in records.keys if key not in place]
        raise ConvertError(
            f"{records.path}: found {len(strange)} keys of no picture ({some(strange)}); expected names "
            "without suffix, or numbers of their sorted list. Pictures were renamed or are missing, or two share a "
            "name."
        )
    first = np.zeros(len(rows), np.bool_)
    first[np.unique(rows, return_index=True)[1]] = True
    twice = ~first | taken[rows]
    return rows[~twice], twice
