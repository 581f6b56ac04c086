"""DC, DSA and DM (VICO-UoE/DatasetCondensation, read at commit 53f63a67), and GLaD's results of the same kind.

What main.py and main_DM.py leave in their --save_path:

    res_<method>_<dataset>_<model>_<ipc>ipc.pt                      a dictionary, written again after each experiment
    vis_<method>_<dataset>_<model>_<ipc>ipc_exp<e>_iter<it>.png     sheets of pictures, cut to 0..1; not read

"data" in the dictionary is a list with one pair [images, labels] an experiment, "accs_all_exps" the test
accuracies. images: float32 [classes * ipc, channels, height, width], class by class, normalised by the dataset's
mean and std (CIFAR-100 by its own, which MTT's are not), never clamped. labels: int64. GLaD (commit fe628635)
writes the same in <save_path>/mtt|dc|dm/<time>-<run>/ with empty lists of accuracies and names such as imagenet-birds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ladd_converters.dc_results import RESULT, Name, parse_name, read_result
from ladd_converters.glad import DATASETS as _GLADS
from ladd_converters.pairs import (
    LOOKED_AT,
    ask_dataset,
    check_dataset,
    find_files,
    need_classes,
    need_normalization,
    one_of,
    plain_name,
    refuse_answers,
    refuse_soft_answer,
)
from ladd_data import RECIPES, Answers, Description, Distilled, Preset, Recipe, UsageError

REPOSITORY = "https://github.com/VICO-UoE/DatasetCondensation"
GLAD = "https://github.com/GeorgeCazenavette/glad"
_EXPECTED = "res_<method>_<dataset>_<model>_<ipc>ipc.pt, as main.py and main_DM.py write"
_NOT_HERE = ("images", "labels", "iteration", "whitening", "mosaic_factor", "learned_lr")
_GLAD_MEAN = (
    "GLaD draws ImageNet pictures with mean 0.4377,0.4438,0.4728 and std 0.229,0.224,0.225, but tests with ImageNet's "
    "mean: --normalization imagenet keeps what networks are fed, those numbers keep the picture that was drawn."
)


DATASETS: Mapping[str, Preset] = {
    "cifar10": Preset("cifar10", "cifar10"),
    "cifar100": Preset("cifar100", "cifar100-dc"),
    "fashionmnist": Preset("fashionmnist", "fashionmnist"),
    "mnist": Preset("mnist", "mnist"),
    "svhn": Preset("svhn", "svhn"),
    "tinyimagenet": Preset("tinyimagenet", "imagenet"),
}
GLAD_DATASETS = {name: preset for name, preset in _GLADS.items() if name.startswith("imagenet-")}


class DcConverter:
    """Reads one result file of DC, DSA or DM: one of its experiments."""

    name: ClassVar[str] = "dc"
    summary: ClassVar[str] = "DC, DSA, DM: one experiment of a res_<method>_<dataset>_<model>_<ipc>ipc.pt"
    datasets: ClassVar[Mapping[str, Preset]] = {**DATASETS, **GLAD_DATASETS}

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a result of DC, DSA or DM, or None."""
        files = _ours(find_files(path, RESULT, LOOKED_AT))
        return f"{files[0].name}, a name that DC, DSA and DM give" if files else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        file = one_of(path, _ours(find_files(path, RESULT)), _EXPECTED)
        name = parse_name(file)
        notes = ["Where the file holds several experiments, the last is taken; --experiment chooses another."]
        if _is_glad(name):
            notes.append(_GLAD_MEAN)
        asks = (ask_dataset(_known(name)),)
        return Description(f"{file.name}, a name that DC, DSA and DM give", (file,), asks, tuple(notes))

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read one experiment; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, _NOT_HERE)
        file = path if path.is_file() else one_of(path, _ours(find_files(path, RESULT)), _EXPECTED)
        name = parse_name(file)
        if name.method == "DataDAM":
            raise UsageError(f"{file}: is DataDAM's: ladd convert datadam reads it.")
        example = _known(name)
        result = read_result(file, answers)
        check_dataset(file, name.dataset, answers)
        refuse_soft_answer(file, answers)
        recipe = _recipe(name)
        notes = result.note_ipc(name)
        if _is_glad(name):
            notes.append(_GLAD_MEAN)
        if recipe is None:
            notes.append("The file's name names none of DC, DSA and DM, so no deployment recipe is recorded.")
        return Distilled(
            method="GLaD" if _is_glad(name) else name.method or "DC, DSA or DM",
            repository=GLAD if _is_glad(name) else REPOSITORY if recipe or name.method is None else None,
            images=result.images,
            labels=result.labels,
            classes=need_classes(file, answers, example),
            normalization=need_normalization(file, answers, example),
            whitening="none",
            files=(file,),
            read=name.facts | result.read,
            asserted=answers.said(),
            recipe=recipe,
            notes=tuple(notes),
        )


def _known(name: Name) -> str | None:
    """Return the dataset that a file's name says, as --dataset takes it; None where it is not one of ours."""
    names = {plain_name(own): own for own in DcConverter.datasets}
    return names.get(plain_name(name.dataset or ""))


def _ours(files: list[Path]) -> list[Path]:
    return [file for file in files if parse_name(file).method != "DataDAM"]


def _is_glad(name: Name) -> bool:
    """Tell GLaD's results: by its names of ImageNet subsets, or by MTT, which writes no such file itself."""
    return name.method == "MTT" or bool(name.dataset and name.dataset.startswith("imagenet-"))


def _recipe(name: Name) -> Recipe | None:
    """Return how the method's own code trains on the set; DC augments MNIST only."""
    if _is_glad(name):
        return RECIPES["glad"]
    if name.method == "DC" and name.dataset == "MNIST":
        augmented = RECIPES["dsa"].augmentation
        crop = augmented.model_copy(update={"dsa": "crop_scale_rotate"}) if augmented else None
        return RECIPES["dc"].model_copy(update={"epochs": 1000, "augmentation": crop})
    return RECIPES.get({"DC": "dc", "DSA": "dsa", "DM": "dsa"}.get(name.method or "", ""))
