"""GLaD: Generative Latent Distillation (GeorgeCazenavette/glad, read at commit fe628635): its MTT, DC and DM programs.

What its image_logging leaves in ./logged_files/<dataset>/<run>/, where <dataset> is CIFAR10 or imagenet-<subset>:

    images_<it>.pt  labels_<it>.pt      the iteration in five digits: 00000, 00100, ...
    images_best.pt  labels_best.pt

images: float32 [classes * ipc, 3, height, width], class by class, rendered by the generator, or optimised themselves
with --space p; latents are never saved. labels: int64. On ImageNet a rendered picture is normalised by mean
.4377 .4438 .4728 and std .229 .224 .225, while real and test images are normalised by .485 .456 .406 and that std: the
first shows what the generator drew, the second what the network sees. <save_path>/.../res_*.pt are DC's dictionaries.
Subsets number their classes by a hand-written list (utils.py, `Config.dict`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ladd_converters.pairs import refuse_answers
from ladd_converters.trajectory_files import MOST_NAMES, Run, choose_pair, find_runs
from ladd_converters.trajectory_runs import Method, describe_runs, hard_labels, read_run
from ladd_data import RECIPES, Answers, Description, Distilled, Preset, UsageError

REPOSITORY = "https://github.com/GeorgeCazenavette/glad"
EXAMPLE = "a run folder of GLaD (logged_files/<dataset>/<run>)"
_MTTS = {
    "imagenette": "imagenette",
    "imagewoof": "imagewoof",
    "fruits": "imagefruit",
    "yellow": "imageyellow",
    "cats": "imagemeow",
    "birds": "imagesquawk",
}
_OWN = ("geo", "food", "mammals", "marine", "a", "b", "c", "d", "e")
_LISTS = {**_MTTS, **{name: f"glad-{name}" for name in _OWN}}
DATASETS: Mapping[str, Preset] = {
    "cifar10": Preset("cifar10", "cifar10"),
    **{f"imagenet-{subset}": Preset(classes, "imagenet") for subset, classes in _LISTS.items()},
    **{subset: Preset(classes, "imagenet") for subset, classes in _LISTS.items()},
}
"""Subsets by GLaD's own names; both as its --dataset and its folders have them, and without "imagenet-"."""
PRESETS = (
    "cifar10; or, for ImageNet, imagenet (what real and test images are normalised by: right for training) or "
    "glad-render (what the generator's pictures are normalised by: right for looking at)"
)
METHOD = Method("GLaD", REPOSITORY, DATASETS, RECIPES["glad"], presets=PRESETS, whitens=False)
_RENDER_MEAN, _TRAIN_MEAN = 0.4377, 0.485
TRAINED = (
    "Read by the mean that real and test images have. GLaD's generator draws with another (glad-render): as pictures "
    "these are off by 12, 3 and -17 of 255 in red, green and blue, unless the run is one of --space p."
)
RENDERED = (
    "Read by the mean that GLaD's generator draws with; GLaD trains and tests real images by mean .485 .456 .406, so "
    "normalise other images by that one beside the tensors of this set."
)


class GladConverter:
    """Reads one logged run of GLaD."""

    name: ClassVar[str] = "glad"
    summary: ClassVar[str] = "GLaD: images_<00000>.pt + labels_<00000>.pt of a run's logged_files"
    datasets: ClassVar[Mapping[str, Preset]] = DATASETS

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of GLaD, or None; best files alone are told by imagenet-<subset> only."""
        runs = _runs(path)
        if not runs:
            return None
        if runs[0].program == "glad":
            return "iterations in five digits, as in images_00100.pt"
        return "images_best.pt in a folder named imagenet-<subset>"

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        reason = self.detect(path)
        if reason is None:
            raise UsageError(f"{path}: found no images_<5 digits>.pt; expected {EXAMPLE}.")
        means = "On ImageNet two means are in use: --dataset takes the one of training; --normalization glad-render, "
        return describe_runs(
            path, _runs(path), self.datasets, reason, (means + "with --classes, that of the pictures.",)
        )

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, ("experiment", "split", "whitening"))
        runs = [run for run in find_runs(path) if not run.ema]
        result = path if path.name.startswith("res_") else next(path.glob("res_*.pt"), None)
        if not runs and result is not None and answers.images is None:
            raise UsageError(f"{result}: is a dictionary as DC's program writes it: ladd convert dc {result}.")
        named = choose_pair(path, answers, runs, EXAMPLE)
        distilled = read_run(METHOD, named, answers, hard_labels("GLaD writes no soft labels."), {})
        mean = distilled.normalization.mean[0] if distilled.normalization else None
        notes = [note for known, note in ((_RENDER_MEAN, RENDERED), (_TRAIN_MEAN, TRAINED)) if mean == known]
        return replace(distilled, notes=(*distilled.notes, *notes))


def _runs(path: Path) -> list[Run]:
    found = [run for run in find_runs(path, MOST_NAMES) if run.program in ("glad", "mtt")]
    return [run for run in found if run.program == "glad" or _in_subset_folder(run.folder)]


def _in_subset_folder(folder: Path) -> bool:
    return any(part.startswith("imagenet-") and part in DATASETS for part in folder.absolute().parts)
