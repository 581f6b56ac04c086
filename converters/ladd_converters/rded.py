"""RDED (LINs-lab/RDED, read at commit 3f6453d8).

What its synthesize/main.py leaves in ./exp/<subset>_<arch>_f<factor>_mipc<mipc>_ipc<ipc>_cr<crops>/syn_data/:

    <class:05d>/class<class:05d>_id<id:05d>.jpg         8-bit JPEG (quality 75), rounded down; id 0 scored best

Each picture is a mosaic of factor x factor patches of real pictures. The number is the index within the subset, in
whatever order the user's training folders had: for ImageNet subsets only the user knows it. ImageNet's mean and std
feed the networks for every set, CIFAR included. Soft labels are made while training and stored nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import JsonValue

from ladd_converters.class_folders import Listing, Naming, choose_run, find_runs, search_notes
from ladd_converters.class_labels import ask_dataset, read_pictures, refuse_answers, require_answers
from ladd_data import RECIPES, Answers, Ask, Description, Distilled, Preset, Recipe, UsageError

REPOSITORY = "https://github.com/LINs-lab/RDED"
NAMING = Naming(
    folder=re.compile(r"(?P<number>[0-9]{5,})"),
    file=re.compile(r"class(?P<class>[0-9]{5,})_id(?P<id>[0-9]{5,})\.(?:jpe?g|png)", re.IGNORECASE),
    shape="syn_data/00000/class00000_id00000.jpg, 00001/..., as RDED writes them",
)
_TAG = re.compile(
    r"(?P<subset>[^_]+)_(?P<arch>.+)_f(?P<factor>[1-9][0-9]?)_mipc[0-9]+_ipc(?P<ipc>[1-9][0-9]*)_cr[0-9]+"
)
WHY_CLASSES = "folders are numbered in the order that your training folders had, which RDED does not write down"
WHY_FACTOR = (
    "each picture is a mosaic of factor x factor patches, and only the folder's name (..._f2_mipc...) tells the "
    "factor: RDED's scripts take 2 on ImageNet and its subsets, 1 on CIFAR and Tiny ImageNet"
)
_BATCHES = {1: 10, 10: 50, 50: 100}


@dataclass(frozen=True, slots=True)
class _Tag:
    """What the name of a run's folder says."""

    subset: str
    arch: str
    factor: int
    ipc: int


class RdedConverter:
    """Reads the syn_data of one run of RDED."""

    name: ClassVar[str] = "rded"
    summary: ClassVar[str] = "RDED: the 00000/class00000_id00000.jpg of a run's syn_data"
    datasets: ClassVar[Mapping[str, Preset]] = {
        "cifar10": Preset("cifar10", "imagenet"),
        "cifar100": Preset("cifar100", "imagenet"),
        "tinyimagenet": Preset("tinyimagenet", "imagenet"),
        "imagenet-1k": Preset("imagenet-1k", "imagenet"),
        "imagenet-nette": Preset("imagenette", "imagenet"),
    }
    """RDED's names of those sets whose order is one: sorted, as any listing gives it."""

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of RDED, or None."""
        found = find_runs(path, NAMING).runs
        return "folders 00000 of class00000_id00000.jpg" if found else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        found, reason = find_runs(path, NAMING), self.detect(path)
        if reason is None:
            raise UsageError(f"{path}: found no class folders; expected {NAMING.shape}.")
        tag = _read_tag(found.runs[0])
        if tag is None or tag.subset in self.datasets:
            example = tag.subset if tag else "cifar10"
            asks = [ask_dataset(found.runs[0], self.datasets, WHY_CLASSES, example=example)]
            asks = [replace(asks[0], example=example)] if tag else asks
        else:
            feeds = "pictures do not say what networks are fed; RDED feeds all sets by ImageNet's mean and std"
            asks = [Ask("--classes", WHY_CLASSES, "@names.txt"), Ask("--normalization", feeds, "imagenet")]
        if tag is None:
            asks.append(Ask("--mosaic-factor", WHY_FACTOR, "2"))
        return Description(reason, found.runs, tuple(asks), search_notes(found))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(answers, self.name, "mosaic_factor")
        run, found = choose_run(path, NAMING)
        tag = _read_tag(run)
        _check_subset(run, tag, answers)
        factor = _choose_factor(run, tag, answers)
        classes = require_answers(
            run,
            answers,
            self.datasets,
            classes=f"{WHY_CLASSES}.",
            normalization="RDED feeds every set by imagenet.",
        )
        listing, distilled = read_pictures(run, NAMING, answers, classes, "RDED")
        facts: dict[str, JsonValue] = {}
        if tag is not None:
            facts = {"run": _tag_name(run), "subset": tag.subset, "architecture": tag.arch, "ipc": tag.ipc}
            facts |= {} if answers.mosaic_factor else {"mosaic_factor": factor}
        return replace(
            distilled,
            method="RDED",
            repository=REPOSITORY,
            mosaic_factor=factor,
            read={**distilled.read, **facts},
            recipe=_recipe(tag, listing, factor, len(classes.names)),
            notes=(*distilled.notes, *_short_notes(listing, tag), *search_notes(found)),
        )


def _tag_name(run: Path) -> str | None:
    """Return the name of the nearest folder that is named as RDED names a run: syn_data's, or the folder's own."""
    parts = run.absolute().parts
    return next((part for part in reversed(parts[-3:]) if _TAG.fullmatch(part)), None)


def _read_tag(run: Path) -> _Tag | None:
    match = _TAG.fullmatch(_tag_name(run) or "")
    return _Tag(match["subset"], match["arch"], int(match["factor"]), int(match["ipc"])) if match else None


def _check_subset(run: Path, tag: _Tag | None, answers: Answers) -> None:
    if tag is not None and answers.dataset is not None and tag.subset != answers.dataset:
        raise UsageError(
            f"--dataset {answers.dataset}: {_tag_name(run)} is a run on {tag.subset}. Give that, or --classes and "
            "--normalization."
        )


def _choose_factor(run: Path, tag: _Tag | None, answers: Answers) -> int:
    if tag is None:
        if answers.mosaic_factor is None:
            raise UsageError(f"{run}: {WHY_FACTOR}. Give --mosaic-factor.")
        return answers.mosaic_factor
    if answers.mosaic_factor not in (None, tag.factor):
        raise UsageError(
            f"--mosaic-factor {answers.mosaic_factor}: {_tag_name(run)} says factor {tag.factor}. Leave the option out."
        )
    return tag.factor


def _short_notes(listing: Listing, tag: _Tag | None) -> tuple[str, ...]:
    fewest, most = listing.images_per_class()
    if tag is None or fewest == most == tag.ipc:
        return ()
    found = str(most) if fewest == most else f"{fewest} to {most}"
    return (f"The run's name says {tag.ipc} pictures a class; there are {found}.",)


def _recipe(tag: _Tag | None, listing: Listing, factor: int, classes: int) -> Recipe:
    """Return RDED's recipe as its argument.py sets it for this set; no batch size where that has none."""
    ipc = tag.ipc if tag else listing.images_per_class()[1]
    subset = tag.subset if tag else None
    batch, lr = _BATCHES.get(ipc), 1e-3
    if batch is not None:
        batch = 100 if subset == "tinyimagenet" else batch * (2 if classes in (100, 1000) else 1)
    if tag is not None and (subset, tag.arch) == ("cifar100", "conv3"):
        batch, lr = 25, 2e-3
    base = RECIPES["rded"].model_dump()
    return Recipe.model_validate(
        {
            **base,
            "batch_size": min(batch, ipc * classes) if batch else None,
            "optimizer": {**base["optimizer"], "lr": lr},
            "augmentation": {**base["augmentation"], "crop_scale": (1 / factor, 1.0), "patch_shuffle": factor},
        }
    )
