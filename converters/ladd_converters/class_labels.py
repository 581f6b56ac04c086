"""From class folders to a labelled set: folder numbers become labels, and what must be asked is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from ladd_converters.class_folders import Listing, Naming, list_pictures, scan, some
from ladd_data import (
    Answers,
    Ask,
    Classes,
    ConvertError,
    Distilled,
    Preset,
    UsageError,
    imagenet_indices,
    open_pictures,
)

_NETTE = {0, 217, 482, 491, 497, 566, 569, 571, 574, 701}
"""ImageNet-1k indices of Imagenette's classes."""


@dataclass(frozen=True, slots=True)
class Labelling:
    """The label of each folder number, and what was settled on the way: a fact for `read`, a sentence for `notes`."""

    labels: Mapping[int, int]
    numbers_are: str
    note: str | None = None


def label_numbers(
    run: Path, folders: Mapping[int, str], classes: Classes, what: str = "class folders", *, some_classes: bool = False
) -> Labelling:
    """Turn folder numbers into labels: ImageNet-1k indices of the classes, or their places in the list.

    Args:
        run: for messages.
        folders: names by number.
        classes: those given.
        what: has the numbers, for messages.
        some_classes: classes may have no folder.

    Raises:
        ConvertError: a class has no folder, or a folder no class; names them.
        UsageError: folders of some classes only are numbered so that both readings fit.
    """
    places, found = {place: place for place in range(len(classes.names))}, folders.keys()
    indices = imagenet_indices(classes)
    of_imagenet = {index: label for label, index in enumerate(indices)} if indices is not None else {}
    if of_imagenet and found == of_imagenet.keys() and of_imagenet != places:
        return Labelling(of_imagenet, "imagenet-1k indices")
    if some_classes and found < (places.keys() | of_imagenet.keys()):
        return _label_some(run, found, of_imagenet, places)
    if found == places.keys():
        by_hand = indices is not None and list(indices) != sorted(indices)
        note = "The classes given are not in the order of their WordNet ids: number 0 was taken as the list's first."
        return Labelling(places, "places in the class list", note if by_hand else None)
    if len(found) == len(places) and not of_imagenet:
        note = (
            f"Folders are numbered {some([str(number) for number in sorted(found)])}, not 0 to {len(places) - 1}: the "
            f"{len(places)} classes given were taken in ascending order of these numbers."
        )
        return Labelling({number: label for label, number in enumerate(sorted(found))}, "in ascending order", note)
    raise ConvertError(f"{run}: {_say_mismatch(folders, classes, of_imagenet or places, places, what)}")


def _label_some(run: Path, found: Set[int], of_imagenet: Mapping[int, int], places: Mapping[int, int]) -> Labelling:
    """Turn the folder numbers of some of the classes into labels."""
    ways = {"imagenet-1k indices": of_imagenet, "places in the class list": places}
    fitting = {how: labels for how, labels in ways.items() if found <= labels.keys()}
    meant = {how: {number: labels[number] for number in found} for how, labels in fitting.items()}
    if not meant:
        numbers = some([str(number) for number in sorted(found)])
        raise ConvertError(f"{run}: found folders {numbers}; expected ImageNet-1k indices of the classes, or places.")
    how, labels = next(reversed(meant.items()))
    if any(other != labels for other in meant.values()):
        raise UsageError(
            f"{run}: folder numbers could be ImageNet-1k indices or places in the class list, which differ. Give "
            "--classes with the names of exactly these folders, in their order."
        )
    return Labelling(labels, how)


def label_words(words: Sequence[str], classes: Classes) -> tuple[dict[str, int], str] | None:
    """Return the label of each of several names by `classes`, and "by name" or "by id"; None where one is neither."""
    for how, known in (("by name", classes.names), ("by id", classes.ids or ())):
        place = {word: label for label, word in enumerate(known)}
        if all(word in place for word in words):
            return {word: place[word] for word in words}, how
    return None


def _say_mismatch(
    folders: Mapping[int, str], classes: Classes, of_imagenet: Mapping[int, int], places: Mapping[int, int], what: str
) -> str:
    """Say which classes have no folder, or which folders no class, by the reading of numbers that fits better."""
    wanted = of_imagenet if not folders.keys() <= places.keys() and folders.keys() & of_imagenet.keys() else places
    extra = [folders[number] for number in sorted(folders.keys() - wanted.keys())]
    if extra:
        return (
            f"found {len(folders)} {what}; {len(classes.names)} classes were given, and {some(extra)} "
            "is none of theirs. Give the classes this run was made for."
        )
    missing = [f'"{classes.names[wanted[number]]}" ({number})' for number in sorted(wanted.keys() - folders.keys())]
    return (
        f"found pictures of {len(folders)} of {len(classes.names)} classes, and none of {some(missing)}. Finish a run "
        "that was broken off; for a run of fewer classes, give --classes with their names in the order of the folders' "
        "numbers, or --some-classes to keep them all."
    )


def read_pictures(
    run: Path, naming: Naming, answers: Answers, classes: Classes, program: str
) -> tuple[Listing, Distilled]:
    """Return the pictures of a run as a distilled set, for its converter to complete.

    Raises:
        ConvertError: the folders do not fit the classes, or a picture cannot be used.
    """
    listing = list_pictures(run, naming)
    labelling = label_numbers(run, listing.folders, classes, some_classes=bool(answers.some_classes))
    pictures = open_pictures(listing.files)
    read: dict[str, JsonValue] = {"run": run.absolute().name, "class_folders": labelling.numbers_are}
    fewest, most = listing.images_per_class()
    if fewest != most:
        read["images_per_class"] = [fewest, most]
    notes = [*([labelling.note] if labelling.note else []), *listing.notes(program), *pictures.notes]
    label_of = np.zeros(max(labelling.labels) + 1, np.int64)
    label_of[list(labelling.labels)] = list(labelling.labels.values())
    return listing, Distilled(
        method=program,
        repository=None,
        images=pictures,
        labels=label_of[np.asarray(listing.numbers, np.int64)],
        classes=classes,
        normalization=answers.normalization,
        whitening="none",
        files=(run,),
        read=read,
        asserted=answers.said(),
        notes=tuple(notes),
    )


def require_answers(
    place: Path, answers: Answers, datasets: Mapping[str, Preset], *, classes: str, normalization: str
) -> Classes:
    """Return the classes that were answered, after a look that the normalisation was, too.

    Args:
        place: the run, for messages.
        answers: what was said.
        datasets: the converter's.
        classes: why the files do not tell the classes; ends in a full stop.
        normalization: what the method's networks are fed; ends in a full stop.

    Raises:
        UsageError: either is missing.
    """
    known = ", ".join(datasets)
    if answers.classes is None:
        raise UsageError(
            f"{place}: {classes} Give --dataset ({known}), or the names in label order: --classes imagenette, "
            "--classes a,b,c or --classes @FILE."
        )
    if answers.normalization is None:
        raise UsageError(
            f"{place}: pictures do not say by which mean and std networks are fed with them. {normalization} Give "
            f"--normalization, or --dataset ({known}) for both classes and normalisation."
        )
    return answers.classes


def dataset_by_folders(run: Path, naming: Naming) -> str:
    """Return an example for --dataset that fits the class folders: by their numbers, or by how many they are."""
    found = {int(name["number"]) for entry in scan(run) if (name := naming.folder.fullmatch(entry.name))}
    if found == _NETTE:
        return "imagenette"
    return {10: "cifar10", 100: "cifar100", 200: "tinyimagenet"}.get(len(found), "imagenet-1k")


def ask_dataset(run: Path, datasets: Mapping[str, Preset], why: str, *, example: str) -> Ask:
    """Return the question for classes and normalisation, with a name in the path as the example where there is one."""
    words = re.split(r"[\W_]+", str(run.absolute()).lower().replace("imagenet-1k", "imagenet1k"))
    spelled = {name.replace("-", ""): name for name in datasets}
    spelled |= {"tiny": "tinyimagenet", "in1k": "imagenet-1k", "nette": "imagenette"}
    named = next((spelled[word] for word in reversed(words) if spelled.get(word) in datasets), example)
    return Ask("--dataset", f"{why} (--classes and --normalization say it one by one)", named)


def refuse_answers(answers: Answers, method: str, *taken: str) -> None:
    """Refuse answers to questions that these files do not raise; `taken` are the fields of `Answers` that they do.

    Raises:
        UsageError: another was given.
    """
    for name in answers.said():
        if name not in (*taken, "dataset", "classes", "normalization", "some_classes"):
            option = name.replace("_", "-")
            raise UsageError(f"--{option} does not go with {method}: its files leave no such choice.")
