"""SRe2L's relabel files and their kin: the soft labels of mixed crops that a teacher gave, epoch by epoch.

    <fkd-path>/epoch_<e>/batch_<b>.tar      SRe2L, CDA, LPLD, G-VBSM, EDC: see fkd_batches.py for the fields
    <fkd-path>/sampler_indices_epoch.json   LPLD only: which picture each row is of; see fkd_order.py
    <fkd-path>/batch_<b>.tar                LPQLD, with sampler_indices_batch.json, which says the same
    <save_path>/train/<class>/<name>.tar    FKD itself: a file a picture; see fkd_images.py

The pictures lie elsewhere (--images): the folder of class folders that the relabel program was run on. An epoch
becomes a view: view e of a picture is the crop it got in epoch e, mixed as it was then (LPQLD: the one it got when it
came up for the e-th time); of FKD's own files, each crop does. The labels become a label set of their own beside the
pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ladd_converters.class_folders import is_folder, scan
from ladd_converters.class_labels import refuse_answers
from ladd_converters.fkd_batches import FLAT_INDEX_FILE, holds_batches
from ladd_converters.fkd_images import ImageLabelReader, find_images_of_labels
from ladd_converters.fkd_views import FkdReader
from ladd_converters.gvbsm import GvbsmConverter
from ladd_converters.imagefolder import ImageFolderConverter
from ladd_converters.originals import add_labels, read_originals
from ladd_converters.sre2l import Sre2lConverter
from ladd_data import Answers, Ask, Converter, Description, Distilled, Pictures, Preset, UsageError

_PICTURES: tuple[Converter, ...] = (Sre2lConverter(), GvbsmConverter(), ImageFolderConverter())
"""Who may have written the pictures, in the order they are asked."""
_OF_BATCHES = ("images", "label_space", "temperature", "seed", "permutations")
_OF_IMAGES = ("images", "temperature", "view_size", "pillow")
_UNPROVEN = (
    "No file says which picture a row is of: it follows from the sorted listing, the seed and torch's sampler. "
    "--teacher LABELER replays the labels and refuses a wrong order; nothing else can tell."
)


class FkdConverter:
    """Reads the labels of one relabel run, and its pictures through the converter that knows them."""

    name: ClassVar[str] = "fkd"
    summary: ClassVar[str] = "FKD, SRe2L, CDA, LPLD, LPQLD, G-VBSM, EDC: label files of a relabel run, and its pictures"
    datasets: ClassVar[Mapping[str, Preset]] = Sre2lConverter.datasets

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a relabel run, or None."""
        runs = _find_labels(path)
        if not runs:
            root = find_images_of_labels(path)
            return None if root is None else f"<class>/<picture>.tar in {root.name}, as FKD names its label files"
        if (runs[0] / FLAT_INDEX_FILE).is_file():
            return f"batch_0.tar and {FLAT_INDEX_FILE} in {runs[0].name}, as LPQLD's relabel step names them"
        return f"epoch_0/batch_0.tar in {runs[0].name}, as SRe2L's relabel step names them"

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        own = None if _find_labels(path) else find_images_of_labels(path)
        asks = (
            Ask("--images", "the pictures that were relabelled lie in another folder", "FOLDER"),
            Ask("--dataset", "class folders are numbered by a list that they do not name", "imagenet-1k"),
        )
        if own is not None:
            size = Ask("--view-size", "no file says what size crops were resized to", "224")
            return Description(self.detect(path) or "", (own,), (*asks, size))
        run = _one(path)
        reader = FkdReader(run)
        notes = (*((_UNPROVEN,) if reader.order_is == "sampled" else ()), *reader.names_notes())
        return Description(self.detect(path) or "", (run,), asks, notes)

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run and its pictures; see `ladd_data.Converter.read`."""
        own = None if _find_labels(path) else find_images_of_labels(path)
        if own is not None:
            return _read_images(own, answers)
        refuse_answers(answers, self.name, *_OF_BATCHES)
        run = _one(path)
        if answers.images is None:
            raise UsageError(
                f"{run}: holds labels only. Give --images FOLDER: the folder of class folders that was relabelled."
            )
        given = {"images": None, "label_space": None, "temperature": None, "seed": None, "permutations": None}
        distilled = _converter_of(answers.images).read(answers.images, replace(answers, **given))
        if not isinstance(distilled.images, Pictures):
            raise UsageError(f"{answers.images}: expected a folder of pictures.")
        reader = FkdReader(run, answers)
        labels = reader.read(distilled.files[0], distilled.images, len(distilled.classes.names))
        return replace(
            distilled,
            files=(*distilled.files, run),
            view_labels=labels,
            read=distilled.read | reader.facts,
            asserted=answers.said(),
            notes=(*_without_labels_note(distilled.notes), *reader.notes),
        )


def _read_images(root: Path, answers: Answers) -> Distilled:
    """Read FKD's own label files and their pictures."""
    refuse_answers(answers, "FKD's own label files", *_OF_IMAGES)
    distilled = read_originals(root, answers, *_OF_IMAGES)
    if not isinstance(distilled.images, Pictures):
        raise UsageError(f"{answers.images}: expected a folder of pictures.")
    reader = ImageLabelReader(root, answers)
    labels = reader.read(distilled.images, len(distilled.classes.names))
    return add_labels(distilled, root, answers, labels, (reader.facts, reader.notes))


def _find_labels(path: Path) -> list[Path]:
    """Return the folders of epochs at `path` or just below it, sorted."""
    if holds_batches(path):
        return [path]
    return sorted(path / entry.name for entry in scan(path) if is_folder(entry) and holds_batches(path / entry.name))


def _one(path: Path) -> Path:
    runs = _find_labels(path)
    if not runs:
        found = "no such folder" if not path.exists() else "found no epoch_0/batch_0.tar or <class>/<picture>.tar in it"
        raise UsageError(f"{path}: {found}; expected the folder of a relabel run.")
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs[:8])
        raise UsageError(f"{path}: found {len(runs)} relabel runs; name one of them: {names}.")
    return runs[0]


def _converter_of(pictures: Path) -> Converter:
    found = next((converter for converter in _PICTURES if converter.detect(pictures)), None)
    if found is None:
        raise UsageError(f"{pictures}: found no class folders with pictures; --images names the relabelled folder.")
    return found


def _without_labels_note(notes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(note for note in notes if not note.startswith("There are soft labels in batch files"))
