"""Labels of pictures that nobody distilled: FKD, TinyViT and ml-dr label a training set as it is, in its own sizes."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from ladd_converters.class_folders import scan
from ladd_converters.imagefolder import SUFFIXES, ImageFolderConverter, NotedPictures, Root
from ladd_converters.padded_pictures import open_any
from ladd_data import Answers, ConvertError, Distilled, Pictures, UsageError, ViewLabels

LARGEST_PICTURE = 2**28
"""Bytes of a picture in a zip file."""


def read_originals(labels: Path, answers: Answers, *taken: str) -> Distilled:
    """Read the pictures that --images names, a folder or a zip file a class, of any sizes.

    Args:
        labels: the run, for messages.
        answers: what was said.
        taken: the answers that are of the labels.

    Raises:
        UsageError: an answer is missing.
        ConvertError: the pictures cannot be read.
    """
    if answers.images is None:
        raise UsageError(
            f"{labels}: holds labels only. Give --images FOLDER: the folder of class folders that was labelled."
        )
    given = replace(answers, **dict.fromkeys(taken))
    zipped = _list_zips(answers.images)
    opener = open_any if zipped is None else _open_zipped
    distilled = ImageFolderConverter().read_with(answers.images, given, opener, zipped)
    if not isinstance(distilled.images, Pictures):
        raise UsageError(f"{answers.images}: expected a folder of pictures.")
    return distilled


def add_labels(
    distilled: Distilled,
    run: Path,
    answers: Answers,
    labels: ViewLabels,
    said: tuple[Mapping[str, JsonValue], Sequence[str]],
) -> Distilled:
    """Return the pictures with their labels, and what was read and noted of these."""
    facts, notes = said
    return replace(
        distilled,
        files=(*distilled.files, run),
        view_labels=labels,
        read=distilled.read | dict(facts),
        asserted=answers.said(),
        notes=(*distilled.notes, *notes),
    )


def _list_zips(folder: Path) -> Root | None:
    """Return the pictures of a folder of zip files, one a class, as TinyViT's ImageNet-22k has them; None of others."""
    files = sorted(folder / entry.name for entry in scan(folder) if entry.name.endswith(".zip"))
    root = Root(folder)
    for path in files:
        try:
            with zipfile.ZipFile(path) as archive:
                inside = [item.filename for item in archive.infolist() if item.file_size <= LARGEST_PICTURE]
        except (OSError, zipfile.BadZipFile) as error:
            raise ConvertError(f"{path}: found no zip file that can be read ({error}). Fetch it again.") from error
        names = sorted(name for name in inside if Path(name).suffix.lower() in SUFFIXES)
        if names:
            root.files[path.stem] = [f"{path}{os.sep}{name}" for name in names]
    return root if root.files else None


def _open_zipped(files: list[str]) -> NotedPictures:
    def give(number: int) -> bytes:
        path, _, name = files[number].rpartition(f".zip{os.sep}")
        try:
            with zipfile.ZipFile(f"{path}.zip") as archive:
                return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise ConvertError(f"{files[number]}: cannot be read ({error}). Fetch the zip file again.") from error

    return open_any(files, give)
