"""TESLA (justincui03/tesla, read at commit 488842ee): MTT in constant memory, up to all of ImageNet-1k.

What its distill.py leaves in ./logged_files/<dataset>/<run>/ (run "offline" without wandb): MTT's files.

    images_<it>.pt      float32 [classes * ipc, 3, height, width], class by class; ImageNet is 1000 classes at 64x64
    labels_<it>.pt      int64 [classes * ipc]; with --teacher_label float32 [classes * ipc, classes], the softmax of an
                        expert's output; iteration 0 of such a run still has the int64 class numbers
    images_zca_<it>.pt  runs with --zca: the pictures with the whitening undone, whatever the name suggests

The hard class of a soft label is nowhere: images are class by class. The learned learning rate is not saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ladd_converters.mtt import DATASETS as MTT_DATASETS
from ladd_converters.pairs import refuse_answers
from ladd_converters.run_tensors import (
    Facts,
    are_probabilities,
    as_class_numbers,
    as_soft_labels,
    classes_by_place,
)
from ladd_converters.torch_files import read_tensor
from ladd_converters.trajectory_files import MOST_NAMES, Run, choose_pair, find_runs, peek_labels
from ladd_converters.trajectory_runs import NO_LR, Labels, Method, describe_runs, read_run
from ladd_data import RECIPES, Answers, Classes, Description, Distilled, Preset, SoftValues, UsageError

REPOSITORY = "https://github.com/justincui03/tesla"
EXAMPLE = "a run folder of TESLA (logged_files/<dataset>/<run>)"
DATASETS: Mapping[str, Preset] = {
    **{name: MTT_DATASETS[name] for name in ("cifar10", "cifar100", "tinyimagenet")},
    "imagenet-1k": Preset("imagenet-1k", "imagenet"),
}
METHOD = Method("TESLA", REPOSITORY, DATASETS, RECIPES["mtt"].model_copy(update={"source": "TESLA"}))
NAN = "The run diverged: convert an earlier iteration (--iteration)."


class TeslaConverter:
    """Reads one run of TESLA, with class numbers or with its teacher's probabilities."""

    name: ClassVar[str] = "tesla"
    summary: ClassVar[str] = "TESLA: MTT's files; with --teacher_label the labels are probabilities"
    datasets: ClassVar[Mapping[str, Preset]] = DATASETS

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of TESLA with teacher labels, or None; others cannot be told from MTT's."""
        return "MTT's files, but labels_<it>.pt holds a row of probabilities for each image" if _soft(path) else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        reason = self.detect(path)
        runs = _soft(path) or _runs(path, MOST_NAMES)
        if not runs:
            raise UsageError(f"{path}: found no images_*.pt; expected {EXAMPLE}.")
        return describe_runs(path, runs, self.datasets, reason or "the files of MTT, which are TESLA's, too", (NO_LR,))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, ("experiment", "split"))
        named = choose_pair(path, answers, _runs(path), EXAMPLE)
        return read_run(METHOD, named, answers, _read_labels, {})


def _runs(path: Path, most_names: int | None = None) -> list[Run]:
    return [run for run in find_runs(path, most_names) if not run.ema]


def _soft(path: Path) -> list[Run]:
    runs = [run for run in find_runs(path, MOST_NAMES) if run.program == "mtt"]
    return [run for run in runs if peek_labels(run) == "probs"]


def _read_labels(file: Path, answers: Answers, classes: Classes, read: Facts) -> Labels:
    tensor = read_tensor(file)
    if tensor.dim() != 2 or tensor.shape[1] == 1:
        if answers.label_space not in (None, "classes"):
            raise UsageError(f"--label-space {answers.label_space}: {file} holds class numbers.")
        numbers = as_class_numbers(file, tensor, read, instead="Or probabilities, float32 [n, classes].")
        if answers.label_space is None:
            read["label_space"] = "classes"
        return Labels(numbers)
    values = as_soft_labels(file, tensor, classes, read, nan=NAN)
    space = answers.label_space
    if space is None:
        if not are_probabilities(values):
            raise UsageError(
                f"{file}: its rows do not sum to 1, so these are not TESLA's probabilities. DATM's are logits (ladd "
                "convert datm); if this is TESLA's after all, say what they are: --label-space logits or targets."
            )
        read["label_space"] = space = "probs"
    if space == "classes":
        raise UsageError(f"--label-space classes: {file} holds a row of {values.shape[1]} numbers for each image.")
    hard, note = classes_by_place(file, values, program="TESLA")
    by_place = "TESLA saves no hard classes beside its teacher's; they are by place, class by class."
    return Labels(hard, SoftValues(values, space), (by_place, *([note] if note else [])))
