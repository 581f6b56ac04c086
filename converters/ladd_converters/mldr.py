"""ml-dr's reinforced data sets (ImageNet+): a teacher's likeliest classes of many augmentations of each picture.

    <path>/<index>.pth.tar     a picture, by its place in the sorted class folders: (index, [{"params", "prob"}, ...]),
                               prob a pair: the k largest probabilities (softmax at T = 1, mean of teachers), unsorted,
                               and their class numbers; or all probabilities
    <path>/config.pth.tar      the augmentations, whose order in the program's code says what params are

Files are torch files whose pickle is of protocol 4, or zlib streams of joblib under the same name; both hold numbers in
plain containers, and anything else in them is refused. Pictures were cut, put through RandAugment, erased and mixed as
params say: the format has not these operations, so views are opaque and params are not kept. What is left of the
probability goes to the other classes evenly ("smooth", which all of upstream's configurations ask for).

Written from the source (apple/ml-dr c72c884e, reinforce.py, dr/data.py, dr/utils.py): never tried on a published file.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import JsonValue

from ladd_converters.class_folders import is_folder, scan
from ladd_converters.class_labels import refuse_answers
from ladd_converters.imagefolder import ImageFolderConverter
from ladd_converters.kept_classes import coding_of, make_whole
from ladd_converters.originals import add_labels, read_originals
from ladd_converters.temporary import room
from ladd_converters.torch_files import refuse_text
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

_FILE = re.compile(r"(?P<index>[0-9]{1,9})\.pth\.tar")
_LARGEST = 2**28
_NUMBERING = {"PUT", "BINPUT", "LONG_BINPUT"}
WHY = "ml-dr's views went through RandAugment, random erasing and mixing, which the format has not"
UNPROVEN = "Unproven: written from ml-dr's source, and never tried on a file that it published."
RECIPE = Recipe.model_validate(
    {"loss": "kl", "target": "views", "views_per_step": 1, "temperature": 1.0, "batch_size": 1024, "source": "ml-dr"}
)


class _Plain(pickle.Unpickler):
    """Builds numbers, text and plain containers; there is no name that it would look up, and so nothing to call."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, _: Any) -> Any:
        raise pickle.UnpicklingError("a tensor")


class MldrConverter:
    """Reads a reinforced data set, and the pictures that it is of."""

    name: ClassVar[str] = "mldr"
    summary: ClassVar[str] = "ml-dr (ImageNet+), unproven: 0.pth.tar, ... and its pictures; views are not kept"
    datasets: ClassVar[Mapping[str, Preset]] = ImageFolderConverter.datasets

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a reinforced data set, or None."""
        run = _find(path)
        return None if run is None else f"config.pth.tar and 0.pth.tar in {run.name}, as ml-dr names them"

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        run = _one(path)
        asks = (
            Ask("--images", "the pictures that were labelled lie in another folder", "FOLDER"),
            Ask("--dataset", "pictures do not say by which mean and std networks are fed with them", "imagenet-1k"),
        )
        return Description(self.detect(path) or "", (run,), asks, (f"No view can be cut again: {WHY}.", UNPROVEN))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a reinforced data set and its pictures; see `ladd_data.Converter.read`."""
        refuse_answers(answers, self.name, "images")
        run = _one(path)
        distilled = read_originals(run, answers, "images")
        if not isinstance(distilled.images, Pictures):
            raise UsageError(f"{answers.images}: expected a folder of pictures.")
        count, classes = distilled.images.shape[0], len(distilled.classes.names)
        files = _files(run, count)
        first = _read_file(files[0], 0)
        values = room((count, len(first), classes), np.dtype(np.float32))
        kept = len(first[0][0])
        for index, file in enumerate(files):
            samples = first if index == 0 else _read_file(file, index)
            if len(samples) != len(first) or any(len(ids) != kept for ids, _ in samples):
                raise ConvertError(f"{file}: found another number of samples or classes than in {files[0].name}.")
            ids, probs = np.array([one[0] for one in samples]), np.array([one[1] for one in samples])
            values[index] = make_whole(file, ids, probs, classes)
        labels = ViewLabels(
            name="mldr",
            views=Opaque(count=len(first), reason=WHY),
            columns={},
            values=values,
            space="probs",
            recipe=RECIPE,
            coding=coding_of(kept, classes, exact=kept >= classes),
        )
        facts: dict[str, JsonValue] = {"mldr_run": run.absolute().name, "mldr_samples": len(first), "mldr_top_k": kept}
        notes = (f"The views cannot be cut again: {WHY}. A loss over views refuses these labels.", UNPROVEN)
        return add_labels(distilled, run, answers, labels, (facts, notes))


def _find(path: Path) -> Path | None:
    below = sorted(path / entry.name for entry in scan(path) if is_folder(entry))
    wanted = {"config.pth.tar", "0.pth.tar"}
    return next((one for one in (path, *below) if wanted <= {entry.name for entry in scan(one)}), None)


def _one(path: Path) -> Path:
    run = _find(path)
    if run is None:
        found = "no such folder" if not path.exists() else "found no config.pth.tar with 0.pth.tar"
        raise UsageError(f"{path}: {found}; expected the unpacked reinforced_data of ml-dr.")
    return run


def _files(run: Path, count: int) -> list[Path]:
    """Return the file of each picture.

    Raises:
        ConvertError: there is not one for each picture.
    """
    found = {int(name["index"]) for entry in scan(run) if (name := _FILE.fullmatch(entry.name))}
    if found != set(range(count)):
        missing = sorted(set(range(count)) - found)
        what = f"none of picture {missing[0]}" if missing else f"one of picture {max(found)}"
        raise ConvertError(
            f"{run}: found labels of {len(found)} pictures, {what}; there are {count} pictures. Numbers are places "
            "in the sorted class folders: pictures were added or removed since, or the run was broken off."
        )
    return [run / f"{index}.pth.tar" for index in range(count)]


def _read_file(path: Path, index: int) -> list[tuple[list[Any], list[Any]]]:
    """Return each sample's class numbers and probabilities.

    Raises:
        ConvertError: it is something else, is damaged, or of another picture.
    """
    refuse_text(path, "a file of ml-dr")
    try:
        content = _load(_pickle_of(path))
        number, samples = content
        read = [_split(sample["prob"]) for sample in samples]
    except Exception as error:  # a flipped byte can raise nearly anything
        reason = (f"{type(error).__name__}: {error}".splitlines() or ["?"])[0][:100]
        raise ConvertError(
            f"{path}: found no plain (index, samples) of ml-dr ({reason}). Nothing in it was run. Download it again."
        ) from error
    if number != index or not read:
        raise ConvertError(f"{path}: found {len(read)} samples of picture {number!r}; expected some of {index}.")
    return read


def _load(data: bytes) -> Any:
    """Return what a pickle holds.

    Raises:
        UnpicklingError: it names something to call, or numbers its parts so that a table of gigabytes would be made.
    """
    for code, argument, _ in pickletools.genops(data):
        if code.name in _NUMBERING and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"a part numbered {argument} in {len(data)} bytes")
    return _Plain(io.BytesIO(data)).load()


def _pickle_of(path: Path) -> bytes:
    data = path.read_bytes()
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inside = next(item for item in archive.infolist() if item.filename.endswith("/data.pkl"))
            if inside.file_size > _LARGEST:
                raise ValueError(f"{inside.file_size} bytes of numbers")
            return archive.read(inside)
    unfolding = zlib.decompressobj()
    plain = unfolding.decompress(data, _LARGEST)
    if unfolding.unconsumed_tail:
        raise ValueError("more than 256 MB of numbers")
    return plain


def _split(prob: Any) -> tuple[list[Any], list[Any]]:
    """Return class numbers and probabilities of one label, checked to be numbers."""
    if isinstance(prob, list | tuple) and len(prob) == 2 and all(isinstance(part, list | tuple) for part in prob):
        probs, ids = list(prob[0]), list(prob[1])
    else:
        probs, ids = list(prob), list(range(len(prob)))
    if len(ids) != len(probs) or not ids or not all(isinstance(one, int | float) for one in (*ids, *probs)):
        raise ValueError("a label that is not numbers")
    return ids, probs
