"""DATM: Difficulty-Aligned Trajectory Matching (NUS-HPC-AI-Lab/DATM, read at commit 97ae5109).

What DATM.py and DATM_tesla.py leave in ./logged_files/<dataset>/<ipc>/<model>/<run>/Normal/:

    images_<it>.pt      float32 [classes * ipc, 3, height, width], class by class, whitened or normalised as in MTT
    labels_<it>.pt      float32 [classes * ipc, classes]: learned LOGITS; softmax is put on them when they are used
    lr_<it>.pt          float32 []: the learned learning rate
    ..._best.pt         the three again, copied when the accuracy improves
    images_zca_<it>.pt  runs with zca: True and IPC < 50: the pictures with the whitening undone

All shipped CIFAR configurations whiten. A row of labels starts as the mean over the experts that classify its image
correctly, and is NaN where none does. The hard class is in no file: it is by place, and a learned label need not be
largest there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ladd_converters.mtt import DATASETS as MTT_DATASETS
from ladd_converters.pairs import refuse_answers
from ladd_converters.run_tensors import Facts, are_probabilities, as_soft_labels, classes_by_place
from ladd_converters.torch_files import read_tensor, say_tensor
from ladd_converters.trajectory_files import MOST_NAMES, Run, choose_pair, find_runs, peek_labels
from ladd_converters.trajectory_runs import Labels, Method, describe_runs, read_run
from ladd_data import RECIPES, Answers, Classes, ConvertError, Description, Distilled, Preset, SoftValues, UsageError

REPOSITORY = "https://github.com/NUS-HPC-AI-Lab/DATM"
EXAMPLE = "a run folder of DATM (logged_files/<dataset>/<ipc>/<model>/<run>/Normal)"
DATASETS: Mapping[str, Preset] = {name: MTT_DATASETS[name] for name in ("cifar10", "cifar100", "tinyimagenet")}
USUAL = "All of DATM's shipped CIFAR settings whiten: if this run's did, convert it again with --whitening whitened."
METHOD = Method("DATM", REPOSITORY, DATASETS, RECIPES["datm"], usually_whitened=USUAL)
NAN = (
    "DATM starts a label as the mean over the experts that classify its image correctly, which is NaN where none does; "
    "otherwise the run diverged: convert an earlier iteration (--iteration)."
)
BY_PLACE = "DATM saves no hard classes; they are by place, class by class."


class DatmConverter:
    """Reads one run of DATM: images, learned logits and the learned learning rate."""

    name: ClassVar[str] = "datm"
    summary: ClassVar[str] = "DATM: images_<it>.pt, labels_<it>.pt (logits), lr_<it>.pt of a run's Normal folder"
    datasets: ClassVar[Mapping[str, Preset]] = DATASETS

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of DATM, or None."""
        runs = _runs(path, MOST_NAMES)
        if not runs:
            return None
        if any(run.program == "datm" for run in runs):
            return "lr_<it>.pt beside images_<it>.pt and labels_<it>.pt"
        return "labels_<it>.pt holds a row of logits for each image (no lr_<it>.pt)"

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        reason = self.detect(path)
        if reason is None:
            raise UsageError(f"{path}: found no images_*.pt with lr_*.pt or logits; expected {EXAMPLE}.")
        runs = _runs(path, MOST_NAMES)
        notes = [BY_PLACE]
        if not any(run.zca_files for run in runs):
            notes.append(f"There is no images_zca_*.pt. {USUAL}")
        return describe_runs(path, runs, self.datasets, reason, notes)

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read a run; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, ("experiment", "split"))
        runs = [run for run in find_runs(path) if not run.ema]
        named = choose_pair(path, answers, [run for run in runs if run.program == "datm"] or runs, EXAMPLE)
        return read_run(METHOD, named, answers, _read_labels, {})


def _runs(path: Path, most_names: int | None) -> list[Run]:
    runs = find_runs(path, most_names)
    return [run for run in runs if run.program == "datm" or (run.program == "mtt" and peek_labels(run) == "logits")]


def _read_labels(file: Path, answers: Answers, classes: Classes, read: Facts) -> Labels:
    tensor = read_tensor(file)
    if tensor.dim() == 1:
        raise ConvertError(
            f"{file}: found labels {say_tensor(tensor)}; DATM's are logits, float32 [n, classes]. Try: convert mtt."
        )
    values = as_soft_labels(file, tensor, classes, read, nan=NAN)
    space = answers.label_space or "logits"
    if space == "classes":
        raise UsageError(f"--label-space classes: {file} holds a row of {values.shape[1]} numbers for each image.")
    if answers.label_space is None and are_probabilities(values):
        raise UsageError(
            f"{file}: its rows sum to 1, so these look like probabilities, and DATM's labels are logits. Say which: "
            "--label-space logits or probs. TESLA's are probabilities (ladd convert tesla)."
        )
    if answers.label_space is None:
        read["label_space"] = space
    hard, note = classes_by_place(file, values, program="DATM")
    return Labels(hard, SoftValues(values, space), (BY_PLACE, *([note] if note else [])))
