"""G-VBSM (shaoshitong/G_VBSM_Dataset_Condensation, read at commit 1ed80b0e) and EDC (shaoshitong/EDC, 80116a79).

What their recover programs leave in <syn-data-path>/<exp-name>/:

    new<class:03d>/class<class:03d>_id<id:03d>.png      CIFAR and Tiny ImageNet; EDC's CIFAR-10 branch .jpg
    new<class:03d>/class<class:03d>_id<id:03d>.jpg      ImageNet: the names of SRe2L, too
    in the same folders, EDC: ..._iter<it:04d>.jpg, loss<value>_id<id:03d>.jpg: pictures of steps on the way

8-bit, rounded down; the number is the index in ImageNet-1k, CIFAR or Tiny ImageNet. Networks are fed by
.5071 .4867 .4408 / .2675 .2565 .2761 on both CIFARs, else by ImageNet's mean and std. Soft labels lie elsewhere, in
FKD's batch files of 7 fields, on EDC's ImageNet 8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ladd_converters.class_folders import Naming, choose_run, find_runs, first_names, search_notes
from ladd_converters.class_labels import ask_dataset, read_pictures, refuse_answers, require_answers
from ladd_data import RECIPES, Answers, Description, Distilled, Preset, Recipe, UsageError

GVBSM, EDC = "https://github.com/shaoshitong/G_VBSM_Dataset_Condensation", "https://github.com/shaoshitong/EDC"
_STEPS = re.compile(r"class[0-9]+_id[0-9]+_iter[0-9]+\.(?:jpe?g|png)|loss.+_id[0-9]+\.(?:jpe?g|png)", re.IGNORECASE)
_OWN_WORD = re.compile(r"(?<![a-z])(?:g[-_]?vbsm|edc)(?![a-z])", re.IGNORECASE)
NAMING = Naming(
    folder=re.compile(r"new(?P<number>[0-9]{3,})"),
    file=re.compile(r"class(?P<class>[0-9]{3,})_id(?P<id>[0-9]{2,})\.(?:png|jpe?g)", re.IGNORECASE),
    shape="new000/class000_id000.png (or .jpg), new001/..., as G-VBSM and EDC write them",
    between=_STEPS,
)
WHY = (
    "folders are numbered by a class list that they do not name, and pictures do not say by which mean and std the "
    "networks were fed"
)
_SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
_RECIPES: dict[tuple[int, int], dict[str, Any]] = {
    (32, 10): {"hard_weight": 0.15, "batch_size": 100, "epochs": 1000},
    (32, 100): {"hard_weight": 0.15, "batch_size": 64, "epochs": 1000, "optimizer": _SGD},
    (64, 200): {"hard_weight": 0.1, "batch_size": 100, "epochs": 100, "optimizer": _SGD},
}
"""What differs from ImageNet's, by side and number of classes."""


class GvbsmConverter:
    """Reads one recovered set of G-VBSM or EDC."""

    name: ClassVar[str] = "gvbsm"
    summary: ClassVar[str] = "G-VBSM, EDC: the new000/class000_id000.png (or .jpg) of a recover run"
    datasets: ClassVar[Mapping[str, Preset]] = {
        "cifar10": Preset("cifar10", "cifar100-gvbsm"),
        "cifar100": Preset("cifar100", "cifar100-gvbsm"),
        "tinyimagenet": Preset("tinyimagenet", "imagenet"),
        "imagenet-1k": Preset("imagenet-1k", "imagenet"),
        "imagenette": Preset("imagenette", "imagenet"),
    }

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a recovered set, or None."""
        runs = find_runs(path, NAMING).runs
        return _recognise(runs[0]) if runs else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        found = find_runs(path, NAMING)
        if not found.runs:
            raise UsageError(f"{path}: found no class folders; expected {NAMING.shape}.")
        ask = ask_dataset(found.runs[0], self.datasets, WHY, example="imagenet-1k")
        reason = _recognise(found.runs[0]) or "folders new000 of class000_id000.jpg, as SRe2L's family has, too"
        return Description(reason, found.runs, (ask,), search_notes(found))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(answers, self.name)
        run, found = choose_run(path, NAMING)
        classes = require_answers(
            run,
            answers,
            self.datasets,
            classes="its folders hold class numbers only.",
            normalization="These methods feed by cifar100-gvbsm on CIFAR-10 and CIFAR-100, else by imagenet.",
        )
        listing, distilled = read_pictures(run, NAMING, answers, classes, "G-VBSM and EDC")
        jpeg_cifar = distilled.images.shape[3] == 32 and not listing.files[0].lower().endswith(".png")
        edc = jpeg_cifar or bool(listing.between)
        method = "EDC" if edc else "G-VBSM or EDC"  # elsewhere their files are alike
        return replace(
            distilled,
            method=method,
            repository=EDC if edc else None,
            recipe=_recipe(distilled.images.shape[3], len(classes.names), edc),
            notes=(*distilled.notes, *search_notes(found)),
        )


def _recipe(side: int, classes: int, edc: bool) -> Recipe:
    changed = {**RECIPES["gvbsm"].model_dump(), **_RECIPES.get((side, classes), {})}
    return Recipe.model_validate({**changed, **({"hard_weight": 0.025, "source": "EDC"} if edc else {})})


def _recognise(run: Path) -> str | None:
    """Return what tells a run from one of SRe2L's family, which has the same names; None where nothing does."""
    names = first_names(run, NAMING)
    if any(NAMING.file.fullmatch(name) and name.lower().endswith(".png") for name in names):
        return "folders new000 of class000_id000.png (SRe2L's family writes JPEG)"
    if any(_STEPS.fullmatch(name) for name in names):
        return "pictures of steps on the way beside class000_id000.jpg, as EDC saves them"
    word = _OWN_WORD.search(str(run.absolute()))
    return f'folders new000 of class000_id000.jpg, below a folder named "{word[0]}"' if word else None
