"""MTT: Matching Training Trajectories (GeorgeCazenavette/mtt-distillation, read at commit 50dccea4), and AST.

What its distill.py leaves in ./logged_files/<dataset>/<run>/:

    images_<it>.pt  labels_<it>.pt      every evaluation; bare tensors, class by class
    images_best.pt  labels_best.pt      copied when the accuracy improves
    images_zca_<it>.pt                  runs with --zca and IPC < 50 only

images: float32 [classes * ipc, 3, height, width], never clamped, in the network's input space: normalised
by the dataset's mean and std, or ZCA-whitened. The names mislead: in a ZCA run `images_<it>` are the
whitened ones and `images_zca_<it>` the same pictures with the whitening undone, on the raw 0..1 scale.
labels: int64 [classes * ipc]. Nothing says which normalisation, which classes in which order, or the
learned learning rate. ImageNet subsets number their classes by a hand-written list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ladd_converters.pairs import refuse_answers
from ladd_converters.trajectory_files import MOST_NAMES, Run, choose_pair, find_runs, peek_labels
from ladd_converters.trajectory_runs import NO_LR, Method, describe_runs, hard_labels, read_run
from ladd_data import RECIPES, Answers, Description, Distilled, Preset, UsageError

REPOSITORY = "https://github.com/GeorgeCazenavette/mtt-distillation"
EXAMPLE = "a run folder of MTT (logged_files/<dataset>/<run>)"
SOFT = "Soft labels are not MTT's: TESLA writes probabilities and DATM logits under these names."
DATASETS: Mapping[str, Preset] = {
    "cifar10": Preset("cifar10", "cifar10"),
    "cifar100": Preset("cifar100", "cifar10"),  # MTT normalises CIFAR-100 by CIFAR-10's numbers (utils.py:122)
    "tinyimagenet": Preset("tinyimagenet", "imagenet"),
    **{
        name: Preset(name, "imagenet")
        for name in ("imagenette", "imagewoof", "imagemeow", "imagesquawk", "imagefruit", "imageyellow")
    },
}
METHOD = Method("MTT", REPOSITORY, DATASETS, RECIPES["mtt"])


class MttConverter:
    """Reads one run of MTT, or any pair of files it wrote."""

    name: ClassVar[str] = "mtt"
    summary: ClassVar[str] = "MTT, AST: images_<it>.pt + labels_<it>.pt of a run folder, or any named pair"
    datasets: ClassVar[Mapping[str, Preset]] = DATASETS

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of MTT, or None."""
        runs = _runs(path)
        if not runs:
            return None
        name = runs[0].pair((*runs[0].iterations, "best")[0]).images.name
        numbers = " of class numbers" if peek_labels(runs[0]) else ""
        return f"{name} beside {name.replace('images', 'labels')}{numbers}, no lr_<it>.pt"

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        reason = self.detect(path)
        if reason is None:
            raise UsageError(f"{path}: found no images_*.pt with class numbers; expected {EXAMPLE}.")
        same = (
            "TESLA with hard labels, FTD without its ema_logged_files, and GLaD's best files look and read the same; "
            "name the method (ladd convert tesla, ftd, glad) to have it recorded."
        )
        return describe_runs(path, _runs(path), self.datasets, reason, (same, NO_LR))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, ("experiment", "split"))
        named = choose_pair(path, answers, [run for run in find_runs(path) if not run.ema], EXAMPLE)
        return read_run(METHOD, named, answers, hard_labels(SOFT), {})


def _runs(path: Path) -> list[Run]:
    """Return the runs at `path` whose names are MTT's and whose labels are not soft."""
    found = [run for run in find_runs(path, MOST_NAMES) if run.program == "mtt"]
    return [run for run in found if peek_labels(run) in (None, "classes")]
