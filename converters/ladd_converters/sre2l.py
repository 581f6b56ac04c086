"""SRe2L and those that write as it does: CDA, SCDD, DELT and LPLD.

Read at these commits: SRe2L, CDA and SCDD VILA-Lab/SRe2L 8d00cba3, DELT VILA-Lab/DELT f2f81cad, LPLD
he-y/soft-label-pruning-for-dataset-distillation 63eee186.

What their recover programs leave in <syn-data-path>/<exp-name>/:

    new<class:03d>/class<class:03d>_id<id:03d>.jpg      the set; on ImageNet-21k new<class:05d>/class<class:05d>_...
    new<class:03d>_it<it:03d>/                          LPLD, if asked: pictures of steps on the way

8-bit JPEG (quality 75) of clamped pixels, rounded down. The number is the index in ImageNet-1k (sorted WordNet
ids), in CIFAR, or in Tiny ImageNet. One id is made for all classes before the next, so that a run which was broken
off has fewer pictures of some. Networks are fed by CIFAR-10's mean and std on both CIFARs, else by ImageNet's.
Soft labels lie elsewhere, in FKD's batch files (<fkd-path>/epoch_<e>/batch_<b>.tar).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ladd_converters.class_folders import Naming, choose_run, find_runs, first_names, search_notes
from ladd_converters.class_labels import ask_dataset, read_pictures, refuse_answers, require_answers
from ladd_data import RECIPES, Answers, Description, Distilled, Preset, Recipe, UsageError

LPLD = "https://github.com/he-y/soft-label-pruning-for-dataset-distillation"
SMALL = 32
"""Side of CIFAR's pictures, for which these programs store no labels."""
_STEPS = re.compile(r"new[0-9]{3,}_it[0-9]+")
NAMING = Naming(
    folder=re.compile(r"new(?P<number>[0-9]{3,})"),
    file=re.compile(r"class(?P<class>[0-9]{3,})_id(?P<id>[0-9]{2,})\.(?:jpe?g|png)", re.IGNORECASE),
    shape="new000/class000_id000.jpg, new001/..., as SRe2L writes them",
    between=re.compile(r"class[0-9]+_id[0-9]+_iter[0-9]+\.(?:jpe?g|png)|loss.+_id[0-9]+\.(?:jpe?g|png)", re.IGNORECASE),
    between_folder=_STEPS,
)
WHY = (
    "folders are numbered by a class list that they do not name, and pictures do not say by which mean and std the "
    "networks were fed"
)
_ONLINE = Recipe.model_validate(
    {
        **RECIPES["sre2l"].model_dump(),
        "temperature": 30.0,
        "epochs": 400,
        "batch_size": 128,
        "augmentation": {"mixup": 0.8, "crop_padding": 4, "flip": True},
        "source": "SRe2L, CIFAR-100",
    }
)


class Sre2lConverter:
    """Reads one recovered set of SRe2L, CDA, SCDD, DELT or LPLD."""

    name: ClassVar[str] = "sre2l"
    summary: ClassVar[str] = "SRe2L, CDA, SCDD, DELT, LPLD: the new000/class000_id000.jpg of a recover run"
    datasets: ClassVar[Mapping[str, Preset]] = {
        "cifar10": Preset("cifar10", "cifar10"),
        "cifar100": Preset("cifar100", "cifar10"),
        "tinyimagenet": Preset("tinyimagenet", "imagenet"),
        "imagenet-1k": Preset("imagenet-1k", "imagenet"),
        "imagenette": Preset("imagenette", "imagenet"),
    }

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a recovered set, or None."""
        runs = find_runs(path, NAMING).runs
        names = first_names(runs[0], NAMING) if runs else []
        jpeg = any(NAMING.file.fullmatch(name) and not name.lower().endswith(".png") for name in names)
        return "folders new000 of class000_id000.jpg (the names of SRe2L and those after it)" if jpeg else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        found, reason = find_runs(path, NAMING), self.detect(path)
        if reason is None:
            raise UsageError(f"{path}: found no class folders; expected {NAMING.shape}.")
        ask = ask_dataset(found.runs[0], self.datasets, WHY, example="imagenet-1k")
        alike = "G-VBSM on ImageNet and EDC use these names, too: if this is theirs, ladd convert gvbsm."
        return Description(reason, found.runs, (ask,), (*search_notes(found), alike))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(answers, self.name)
        run, found = choose_run(path, NAMING)
        classes = require_answers(
            run,
            answers,
            self.datasets,
            classes="its folders hold class numbers only.",
            normalization="These methods feed by cifar10 on CIFAR-10 and CIFAR-100, else by imagenet.",
        )
        listing, distilled = read_pictures(run, NAMING, answers, classes, "SRe2L's family")
        steps = any(_STEPS.fullmatch(name) for name in listing.between)
        return replace(
            distilled,
            method="LPLD" if steps else "SRe2L, CDA, SCDD, DELT or LPLD",  # their files are alike
            repository=LPLD if steps else None,
            recipe=_ONLINE if distilled.images.shape[3] == SMALL else RECIPES["sre2l"],
            notes=(*distilled.notes, *search_notes(found)),
        )
