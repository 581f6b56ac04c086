"""Anybody's picture folders: one folder a class, as torchvision.datasets.ImageFolder reads them.

    <root>/<class>/<anything>.jpg       also .png, .bmp, .webp, .ppm, .tif; also below, as in <class>/images/

Classes are the folders' names, sorted as text, and so are the files of each: the order of torchvision 0.21.
Where class names are given, each folder finds its class by name, then by id (WordNet id), then by number.
"""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from pydantic import JsonValue

from ladd_converters.class_folders import DEEPEST, MOST_NAMES, is_folder, paths, scan, some
from ladd_converters.class_labels import label_numbers, label_words, refuse_answers
from ladd_data import (
    Answers,
    Ask,
    Classes,
    ConvertError,
    Description,
    Distilled,
    Pictures,
    Preset,
    UsageError,
    imagenet_indices,
    open_pictures,
)

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
"""torchvision's IMG_EXTENSIONS."""
PROGRAMS_OWN = {".pt", ".pth", ".npz", ".tar", ".py"}
"""Beside pictures, these tell a program's output folder from a class folder."""
LOOKED_AT = 200
_WNID = re.compile(r"n[0-9]{8}")
_NUMBER = re.compile(r"(?P<prefix>\D*)(?P<number>[0-9]{1,9})")
_RUNS_OWN = re.compile(r"new[0-9]{3,}|[0-9]{5,}")
"""Class folders of SRe2L's family, G-VBSM and RDED, which have converters of their own."""
_STEPS = re.compile(r"new[0-9]{3,}_it[0-9]+")
WHY = "pictures do not say by which mean and std networks are fed with them, and the format records it"


class NotedPictures(Pictures, Protocol):
    """Pictures, and what should be known of how they are stored."""

    notes: tuple[str, ...]


OpenPictures = Callable[[list[str]], NotedPictures]
"""Opens picture files, in record order."""


@dataclass(slots=True)
class Root:
    """What lies in a folder of class folders: picture files by class folder, in order; the rest by kind."""

    folder: Path
    files: dict[str, list[str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    loose: int = 0


class ImageFolderConverter:
    """Reads a folder of class folders."""

    name: ClassVar[str] = "imagefolder"
    summary: ClassVar[str] = "any pictures with a folder for each class, as torchvision's ImageFolder reads them"
    datasets: ClassVar[Mapping[str, Preset]] = {
        "cifar10": Preset("cifar10", "cifar10"),
        "tinyimagenet": Preset("tinyimagenet", "imagenet"),
        "imagenet-1k": Preset("imagenet-1k", "imagenet"),
        "imagenette": Preset("imagenette", "imagenet"),
        "imagewoof": Preset("imagewoof", "imagenet"),
    }

    def detect(self, path: Path) -> str | None:
        """Return why this looks like class folders of pictures, or None where another converter knows them better."""
        for root in _find_roots(path):
            names = [entry.name for entry in islice(scan(root), LOOKED_AT) if is_folder(entry)]
            if not all(_RUNS_OWN.fullmatch(name) or _STEPS.fullmatch(name) for name in names):
                return f"{'more than ' if len(names) == LOOKED_AT else ''}{len(names)} folders of pictures"
        return None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        roots = _find_roots(path)
        if not roots:
            raise UsageError(f"{path}: found no folders of pictures; expected one folder a class.")
        names = sorted(entry.name for entry in scan(roots[0]) if is_folder(entry) and not entry.name.startswith("."))
        asks = [Ask("--normalization", WHY, "imagenet")]
        if _text_order_misleads(names):
            asks.insert(0, Ask("--classes", _why_numbers(names), "@names.txt"))
        several = (f"There are {len(roots)} roots; name one of them: {paths(roots)}.",) if len(roots) > 1 else ()
        return Description(f"{len(names)} folders of pictures", roots, tuple(asks), several)

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a folder; see `ladd_data.Converter.read`."""
        return self.read_with(path, answers, open_pictures)

    def read_with(
        self, path: Path, answers: Answers, open_files: OpenPictures, listed: Root | None = None
    ) -> Distilled:
        """Read a folder whose pictures another function opens, such as one for pictures of several sizes.

        Args:
            path: of the folder.
            answers: see `read`.
            open_files: opens the pictures.
            listed: the pictures of each class, where they do not lie in folders.
        """
        refuse_answers(answers, self.name, "mosaic_factor")
        root = listed or _list(_choose_root(path))
        if steps := [name for name in root.files if _STEPS.fullmatch(name)]:
            raise UsageError(
                f"{root.folder}: {steps[0]} holds pictures of a step on LPLD's way, not of a class: ladd convert sre2l."
            )
        if answers.normalization is None:
            known = ", ".join(self.datasets)
            raise UsageError(f"{root.folder}: {WHY}. Give --normalization imagenet, or --dataset ({known}).")
        labels, classes, how, notes = _label(root, answers.classes, some_classes=bool(answers.some_classes))
        files = [file for folder in labels for file in root.files[folder]]
        pictures = open_files(files)
        read: dict[str, JsonValue] = {"root": root.folder.absolute().name, "class_folders": how}
        if answers.classes is None:
            read["classes"] = list(classes.names)
        counts = [len(root.files[folder]) for folder in labels]
        if min(counts) != max(counts):
            read["images_per_class"] = [min(counts), max(counts)]
        return Distilled(
            method="imagefolder",
            repository=None,
            images=pictures,
            labels=np.repeat(np.fromiter(labels.values(), np.int64), counts),
            classes=classes,
            normalization=answers.normalization,
            whitening="none",
            files=(root.folder,),
            read=read,
            asserted=answers.said(),
            mosaic_factor=answers.mosaic_factor or 1,
            notes=(*notes, *_left_out(root), *pictures.notes),
        )


def _find_roots(path: Path) -> tuple[Path, ...]:
    """Return the folders at or below `path` that have two or more class folders; `path` also where it has one."""
    roots: list[Path] = []
    waiting, names, seen = deque([(path, 0)]), 0, set[str]()
    single = None
    while waiting and names < MOST_NAMES:
        folder, depth = waiting.popleft()
        real = os.path.realpath(folder)
        if real in seen:  # by way of a link
            continue
        seen.add(real)
        inside = sorted(folder / entry.name for entry in islice(scan(folder), MOST_NAMES) if _may_be_class(entry))
        holding = list(islice((sub for sub in inside if _holds_pictures(sub) or _holds_pictures(sub / "images")), 2))
        names += 1 + len(inside)
        if len(holding) > 1:
            roots.append(folder)
            continue
        if holding and folder == path:
            single = path
        if depth < DEEPEST:
            waiting.extend((sub, depth + 1) for sub in inside)
    return tuple(roots) or ((single,) if single else ())


def _choose_root(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"{path}: no such folder.")
    roots = _find_roots(path)
    if not roots:
        raise UsageError(f"{path}: found no folders of pictures; expected one folder a class.")
    if len(roots) > 1:
        raise UsageError(f"{path}: found {len(roots)} folders of class folders; name one of them: {paths(roots)}.")
    return roots[0]


def _may_be_class(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith((".", "__MACOSX")) and is_folder(entry)


def _holds_pictures(folder: Path) -> bool:
    """Whether the first names of a folder are pictures, and nothing of a program's is among them."""
    suffixes = {_suffix(entry.name) for entry in islice(scan(folder), LOOKED_AT)}
    return bool(suffixes & SUFFIXES) and not suffixes & PROGRAMS_OWN


def _suffix(name: str) -> str:
    """Return a name's suffix in lower case; a tenth of the time that a Path takes."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def _list(folder: Path) -> Root:
    """List all class folders, in torchvision's order; hidden files and folders count as not there."""
    root = Root(folder)
    for entry in sorted(scan(folder), key=lambda entry: entry.name):
        if not _may_be_class(entry):
            root.loose += _suffix(entry.name) in SUFFIXES and not entry.name.startswith(".")
            continue
        files: list[str] = []
        for place, _, names in sorted(os.walk(folder / entry.name)):
            for name in sorted(names):
                suffix = _suffix(name)
                if suffix in SUFFIXES and not name.startswith("."):
                    files.append(f"{place}{os.sep}{name}")
                elif not name.startswith("."):
                    root.other[suffix or "no suffix"] += 1
        if files:
            root.files[entry.name] = files
        else:
            root.empty.append(entry.name)
    return root


def _label(
    root: Root, given: Classes | None, *, some_classes: bool = False
) -> tuple[dict[str, int], Classes, str, list[str]]:
    """Return the label of each folder, in listing order; the classes; how they met; and what to know.

    Raises:
        UsageError: numbers in the order of text, which may or may not be meant.
        ConvertError: a folder is of no class given, or a class has no folder.
    """
    folders = list(root.files)
    if given is None:
        return _label_by_themselves(root, folders)
    if met := label_words(folders, given):
        labels, how = met
        missing = [f'"{name}"' for label, name in enumerate(given.names) if label not in set(labels.values())]
        if missing and not some_classes:
            found = f"pictures of {len(folders)} of {len(given.names)} classes, and none of {some(missing)}"
            raise ConvertError(
                f"{root.folder}: found {found}. Give the classes that these pictures are of, or --some-classes."
            )
        return labels, given, how, []
    numbers = _numbers(folders)
    if numbers is None:
        known = {*given.names, *(given.ids or ())}
        strange = [f'"{folder}"' for folder in folders if folder not in known]
        raise ConvertError(
            f"{root.folder}: found folders {some(strange)}, which are none of the classes given ({some(given.names)}). "
            "Give --classes with the folders' names in label order, or leave it out to take them sorted."
        )
    by_number = label_numbers(root.folder, dict(zip(numbers, folders, strict=True)), given, some_classes=some_classes)
    labels = {folder: by_number.labels[number] for number, folder in sorted(zip(numbers, folders, strict=True))}
    return labels, given, by_number.numbers_are, [by_number.note] if by_number.note else []


def _label_by_themselves(root: Root, folders: list[str]) -> tuple[dict[str, int], Classes, str, list[str]]:
    if root.empty:
        raise ConvertError(
            f"{root.folder}: found {some(root.empty)} without a picture; expected some in every class folder. Remove "
            "what is no class, or give --classes without it."
        )
    if _text_order_misleads(folders):
        raise UsageError(f"{root.folder}: {_why_numbers(folders)}. Give --classes, names in the order of the numbers.")
    wnids = all(_WNID.fullmatch(folder) for folder in folders)
    classes = Classes(names=tuple(folders), ids=tuple(folders) if wnids else None)
    if wnids:
        of_imagenet = classes.model_copy(update={"source": "imagenet-1k"})
        try:
            imagenet_indices(of_imagenet)
        except KeyError:  # WordNet has more than those thousand
            pass
        else:
            classes = of_imagenet
    return {folder: label for label, folder in enumerate(folders)}, classes, "names, sorted", []


def _numbers(folders: list[str]) -> list[int] | None:
    """Return the numbers that the folders are named by, after one and the same word; None for other names."""
    found = [_NUMBER.fullmatch(folder) for folder in folders]
    whole = [match for match in found if match is not None]
    if len(whole) < len(found) or len({match["prefix"] for match in whole}) != 1:
        return None
    numbers = [int(match["number"]) for match in whole]
    return numbers if len(set(numbers)) == len(numbers) else None


def _text_order_misleads(folders: list[str]) -> bool:
    numbers = _numbers(folders)
    return numbers is not None and numbers != sorted(numbers)


def _why_numbers(folders: list[str]) -> str:
    return (
        f"folders are named by numbers that sort as text into {some(folders)}: torchvision labels them so, others by "
        "the numbers"
    )


def _left_out(root: Root) -> list[str]:
    said = []
    if root.other:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(root.other.items()))
        said.append(f"Left out: files in class folders that are no pictures ({kinds}).")
    if root.loose:
        said.append(f"Left out: {root.loose} pictures that lie in no class folder.")
    if root.empty:
        said.append(f"Left out: {some(root.empty)}, without a picture.")
    return said
