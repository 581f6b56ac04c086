"""DataDAM (DataDistillation/DataDAM, read at commit 0f6ea09e).

What main_DataDAM.py leaves in its --save_path:

    res_DataDAM_<dataset>_<model>_<ipc>ipc_.pt     DC's dictionary (see dc_results.py); note the last underscore
    syn_data_<dataset>_ipc_<ipc>.pt                what its test script reads: "data" is one pair

"data" grows by one pair at every evaluation, across experiments, so the last pair is the latest and not the best,
and no pair says its experiment or iteration. "accs_all_exps" lacks the last experiment. images: float32, class by
class, normalised by DC's mean and std or, with --zca, whitened; the file does not say which, and holds no inverse.
The repository also ships initial sets, pictures of the training set: <dataset>_IPC<n>_images.pt (requires_grad)
and _labels.pt (class numbers as float32).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ladd_converters.dc import DATASETS
from ladd_converters.dc_results import Name, Result, parse_name, read_result
from ladd_converters.pairs import (
    LOOKED_AT,
    Facts,
    ask_dataset,
    check_dataset,
    find_files,
    need_classes,
    need_normalization,
    one_of,
    plain_name,
    refuse_answers,
    refuse_soft_answer,
    to_classes,
    to_images,
)
from ladd_converters.torch_files import read_tensor
from ladd_data import RECIPES, Answers, Description, Distilled, Preset, Recipe, UsageError

REPOSITORY = "https://github.com/DataDistillation/DataDAM"
_RESULT = re.compile(r"res_DataDAM_.*\.pt|syn_data_(?P<dataset>\w+)_ipc_(?P<ipc>\d+)\.pt")
_INITIAL = re.compile(r"(?P<dataset>[A-Za-z0-9]+)_IPC(?P<ipc>\d+)_images\.pt")
_INITIAL_FOLDER = "Initial_Synthetic_Dataset"
_EXPECTED = "res_DataDAM_<dataset>_<model>_<ipc>ipc_.pt, nor syn_data_<dataset>_ipc_<ipc>.pt"
_NOT_HERE = ("iteration", "mosaic_factor", "learned_lr")
_LATEST = (
    "DataDAM adds a pair at every evaluation, across experiments: the last is the latest, which need not be the best."
)
_ZCA = "The file does not say whether the run used --zca; if it did, give --whitening whitened."
_WHITENED = (
    "The pixels are whitened and the matrix is not saved: networks need test images whitened by the same matrix. "
    "DataDAM whitens its initial pictures twice, so they are no pictures even after one inversion."
)


class DataDamConverter:
    """Reads one entry of a result file of DataDAM, or one of the initial sets of its repository."""

    name: ClassVar[str] = "datadam"
    summary: ClassVar[str] = "DataDAM: one entry of a res_DataDAM_<dataset>_<model>_<ipc>ipc_.pt"
    datasets: ClassVar[Mapping[str, Preset]] = DATASETS

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a result of DataDAM, or None."""
        files = find_files(path, _RESULT, LOOKED_AT)
        return f"{files[0].name}, a name that DataDAM gives" if files else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        images = one_of(path, _find(path), _EXPECTED)
        initial = _INITIAL.fullmatch(images.name)
        files = (images, _labels_beside(images)) if initial else (images,)
        name = _name_of(images)
        asks = (ask_dataset(plain_name(name.dataset) if name.dataset else None),)
        return Description(
            f"{images.name}, a name that DataDAM gives", files, asks, (_ZCA,) if initial else (_LATEST, _ZCA)
        )

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read one entry; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, _NOT_HERE)
        images, labels = _choose(path, answers)
        name = _name_of(images)
        known = name.dataset and plain_name(name.dataset)
        example = known if known in self.datasets else None
        result = read_result(images, answers) if labels is None else _read_initial(images, labels, answers)
        check_dataset(images, name.dataset, answers)
        refuse_soft_answer(images, answers)
        _check_whitening(images, answers, example)
        notes = [*result.note_ipc(name), *([_WHITENED] if answers.whitening else [])]
        if labels is None:
            notes.append(_LATEST)
        else:
            notes.append("This is an initial set: pictures of the training set that DataDAM starts from.")
        return Distilled(
            method="DataDAM",
            repository=REPOSITORY,
            images=result.images,
            labels=result.labels,
            classes=need_classes(images, answers, example),
            normalization=None if answers.whitening else need_normalization(images, answers, example),
            whitening="zca" if answers.whitening else "none",
            files=(images,) if labels is None else (images, labels),
            read=name.facts | result.read,
            asserted=answers.said(),
            recipe=_recipe(),
            notes=tuple(notes),
        )


def _find(path: Path) -> list[Path]:
    """Return the results, or else the initial sets in the repository's folder; others use names like theirs."""
    initial = [file for file in find_files(path, _INITIAL) if file.parent.name == _INITIAL_FOLDER]
    return find_files(path, _RESULT) or initial


def _choose(path: Path, answers: Answers) -> tuple[Path, Path | None]:
    """Return the file to read and, for an initial set, the file of its labels."""
    if answers.images is not None or answers.labels is not None:
        if answers.images is None or answers.labels is None:
            raise UsageError("--images and --labels go together: name both files of the pair.")
        return answers.images, answers.labels
    file = path if path.is_file() else one_of(path, _find(path), _EXPECTED)
    return file, _labels_beside(file) if _INITIAL.fullmatch(file.name) else None


def _labels_beside(images: Path) -> Path:
    return images.with_name(images.name.replace("_images.pt", "_labels.pt"))


def _name_of(file: Path) -> Name:
    match = _INITIAL.fullmatch(file.name) or _RESULT.fullmatch(file.name)
    if match and match["dataset"]:
        return Name("DataDAM", match["dataset"], None, int(match["ipc"]))
    return parse_name(file)


def _read_initial(images: Path, labels: Path, answers: Answers) -> Result:
    if answers.experiment is not None:
        raise UsageError(f"{images}: holds one set; --experiment is for result files.")
    read: Facts = {"initial_set": True}
    pixels = to_images(images, read_tensor(images), read)
    return Result(pixels, to_classes(labels, read_tensor(labels), read), read)


def _check_whitening(file: Path, answers: Answers, example: str | None) -> None:
    """Refuse a set whose normalisation nobody stated, and statements that contradict.

    Raises:
        UsageError: neither, or both, of --whitening and --normalization were given, or an inverse is wanted.
    """
    if answers.whitening == "dewhitened":
        raise UsageError(
            f"{file}: DataDAM saves no pixels with the whitening undone, nor the matrix to undo it. "
            "--whitening whitened takes what the network saw."
        )
    if answers.whitening and answers.normalization:
        raise UsageError("--normalization does not go with --whitening whitened: whitening replaced it.")
    if not answers.whitening and not answers.normalization:
        raise UsageError(
            f"{file}: does not say whether its pixels are normalised or, with --zca, whitened. For normalised ones "
            f"give --dataset {example or 'cifar10'} (or --normalization); for whitened ones --whitening whitened."
        )


def _recipe() -> Recipe:
    """Return DC's evaluation with DSA for 1800 epochs in batches of 64, the defaults of both its programs."""
    return RECIPES["dsa"].model_copy(update={"epochs": 1800, "batch_size": 64, "source": "DataDAM"})
