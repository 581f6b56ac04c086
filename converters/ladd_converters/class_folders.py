"""Picture folders of distillation programs, a numbered folder a class: found, and listed in order.

Only names are looked at (os.scandir, never a pattern on a user's path: run names hold brackets). Numbers are
read as numbers, so that class 1000 comes after class 999 whatever the padding.
"""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ladd_data import ConvertError, UsageError

MOST_NAMES = 100_000
"""How many names a search for runs takes in: every run of a project, the beginning of a folder of millions."""
DEEPEST = 8
LISTED = 6
LABEL_FOLDER = "epoch_0"
"""Of FKD's batch files: <fkd-path>/epoch_<e>/batch_<b>.tar."""


@dataclass(frozen=True, slots=True)
class Naming:
    """How a program names its folders and files.

    folder: of a class; group "number". file: of a picture; groups "class" and "id".
    between, between_folder: pictures of steps on the way, which are no part of the set.
    shape: all that in words, for messages.
    """

    folder: re.Pattern[str]
    file: re.Pattern[str]
    shape: str
    between: re.Pattern[str] | None = None
    between_folder: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came upon: folders of class folders, and folders of FKD's batch files."""

    runs: tuple[Path, ...]
    labels: tuple[Path, ...]


@dataclass(slots=True)
class Listing:
    """The pictures of a run in order: by folder number, then by id.

    numbers: of the class folder, for each file. folders: name of each class folder, by number.
    between, other: names that were left out: steps on the way, and what no picture of the program is called.
    """

    run: Path
    files: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    folders: dict[int, str] = field(default_factory=dict)
    between: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def notes(self, program: str) -> list[str]:
        """Return what was left out, and whether the classes have as many pictures each; a sentence each."""
        said = []
        if self.between:
            said.append(f"Left out: {some(self.between)}: steps on the way, which are no part of the set.")
        if self.other:
            said.append(f"Left out: {some(self.other)}, not named as a picture of {program}.")
        fewest, most = self.images_per_class()
        if fewest != most:
            short = [self.folders[number] for number, count in Counter(self.numbers).items() if count < most]
            said.append(
                f"Classes have {fewest} to {most} pictures ({some(short)} fewer): a run that was broken off looks so."
            )
        return said

    def images_per_class(self) -> tuple[int, int]:
        """Return the fewest and the most pictures of a class folder."""
        counts = Counter(self.numbers).values()
        return min(counts), max(counts)


def find_runs(path: Path, naming: Naming) -> Found:
    """Return the runs at or below `path`, sorted, and the label folders at, below or beside them.

    Folders behind `MOST_NAMES` names or `DEEPEST` levels are not looked at. Never raises.
    """
    runs: list[Path] = []
    labels: list[Path] = []
    waiting, names, seen = deque([(path, 0)]), 0, set[str]()
    while waiting and names < MOST_NAMES:
        folder, depth = waiting.popleft()
        real = os.path.realpath(folder)
        if real in seen:  # by way of a link
            continue
        seen.add(real)
        inside = []
        for entry in scan(folder):
            names += 1
            if names >= MOST_NAMES:
                break
            if not entry.name.startswith(".") and is_folder(entry):
                inside.append(folder / entry.name)
        inside.sort()
        if any(sub.name == LABEL_FOLDER for sub in inside):
            labels.append(folder)
        elif any(naming.folder.fullmatch(sub.name) and _holds_picture(sub, naming) for sub in inside):
            runs.append(folder)
        elif depth < DEEPEST:
            waiting.extend((sub, depth + 1) for sub in inside)
    if runs == [path]:
        beside = (path.absolute().parent / entry.name for entry in scan(path.absolute().parent))
        labels += [sub for sub in beside if (sub / LABEL_FOLDER).is_dir()]
    return Found(tuple(runs), tuple(sorted(labels)))


def choose_run(path: Path, naming: Naming) -> tuple[Path, Found]:
    """Return the one run at or below `path`, and all that was found.

    Raises:
        UsageError: there is none, or several.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such folder.")
    found = find_runs(path, naming)
    if not found.runs:
        raise UsageError(f"{path}: found no class folders; expected {naming.shape}.")
    if len(found.runs) > 1:
        raise UsageError(f"{path}: found {len(found.runs)} runs; name one of them: {paths(found.runs)}.")
    return found.runs[0], found


def search_notes(found: Found) -> tuple[str, ...]:
    """Return what to know of what a search found, a sentence each."""
    said = []
    if len(found.runs) > 1:
        said.append(f"There are {len(found.runs)} runs; name one of them: {paths(found.runs)}.")
    if found.labels:
        said.append(
            f"There are soft labels in batch files ({', '.join(folder.name for folder in found.labels[:LISTED])}): "
            "ladd convert fkd reads them together with the pictures."
        )
    return tuple(said)


def list_pictures(run: Path, naming: Naming) -> Listing:
    """List the pictures of a run.

    Raises:
        ConvertError: a picture lies in another class's folder, or two have one number.
    """
    listing = Listing(run)
    for entry in sorted(scan(run), key=lambda entry: entry.name):
        name = naming.folder.fullmatch(entry.name)
        if name is not None and is_folder(entry):
            number = int(name["number"])
            if number in listing.folders:
                raise ConvertError(
                    f"{run}: found {listing.folders[number]} and {entry.name}, two folders of class {number}; "
                    "expected one. Two runs were written into one folder: take them apart."
                )
            listing.folders[number] = entry.name
        elif naming.between_folder is not None and naming.between_folder.fullmatch(entry.name):
            listing.between.append(entry.name)
        elif not entry.name.startswith("."):
            listing.other.append(entry.name)
    for number in sorted(listing.folders):
        _list_class(listing, number, naming)
    listing.folders = {number: listing.folders[number] for number in sorted(set(listing.numbers))}
    listing.between.sort()
    listing.other.sort()
    if not listing.files:
        raise ConvertError(f"{run}: found no picture in its class folders; expected {naming.shape}.")
    return listing


def _list_class(listing: Listing, number: int, naming: Naming) -> None:
    folder = listing.run / listing.folders[number]
    ids: dict[int, str] = {}
    for entry in scan(folder):
        name = naming.file.fullmatch(entry.name)
        if name is None:
            if naming.between is not None and naming.between.fullmatch(entry.name):
                listing.between.append(entry.name)
            elif not entry.name.startswith("."):
                listing.other.append(f"{folder.name}/{entry.name}")
            continue
        if int(name["class"]) != number:
            raise ConvertError(
                f"{folder / entry.name}: found a picture of class {int(name['class'])} in the folder of class "
                f"{number}; expected one class a folder. Files were moved or renamed: put it back."
            )
        other = ids.setdefault(int(name["id"]), entry.name)
        if other != entry.name:
            raise ConvertError(
                f"{folder}: found {min(other, entry.name)} and {max(other, entry.name)}, two pictures of one number; "
                "expected one. Two runs were written into one folder: take them apart."
            )
    listing.files += [f"{folder}{os.sep}{ids[id]}" for id in sorted(ids)]
    listing.numbers += [number] * len(ids)


def first_names(run: Path, naming: Naming) -> list[str]:
    """Return the names in the first class folder that holds a picture."""
    for entry in sorted(scan(run), key=lambda entry: entry.name):
        if naming.folder.fullmatch(entry.name):
            names = [file.name for file in scan(run / entry.name)]
            if any(naming.file.fullmatch(name) for name in names):
                return names
    return []


def _holds_picture(folder: Path, naming: Naming) -> bool:
    return any(naming.file.fullmatch(entry.name) for entry in scan(folder))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; False where that cannot be told."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield a folder's entries; none of one that cannot be opened."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def paths(several: Sequence[Path]) -> str:
    """Return the first paths, and how many more there are."""
    return some([str(path) for path in several])


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
