"""What the converters of MTT's family share in `describe`, and the words they share in `read`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ladd_converters.run_tensors import I64, Facts, as_class_numbers, read_lr
from ladd_converters.torch_files import read_tensor
from ladd_converters.trajectory_files import LISTED, Pair, Run, choose_run
from ladd_converters.whitening import ASK as ASK_WHITENING
from ladd_converters.whitening import read_pixels, whitening_notes
from ladd_data import Answers, Ask, Classes, Description, Distilled, Preset, Recipe, SoftValues, UsageError

PRESETS = (
    "cifar10 for this family's CIFAR-10 and CIFAR-100, imagenet for Tiny ImageNet, ImageNet and its subsets, or "
    "mean/std as 0.5,0.5,0.5/0.5,0.5,0.5. If the run used --zca, say --whitening instead"
)
NO_LR = "The learned learning rate is in no file (it went to wandb only); say it with --learned-lr if you know it."
_ALIASES = {"tiny": "tinyimagenet", "imagenet": "imagenet-1k"}


def describe_runs(
    path: Path, runs: Sequence[Run], datasets: Mapping[str, Preset], reason: str, notes: Sequence[str] = ()
) -> Description:
    """Say what would be read of the runs at `path`, and what would be asked.

    Args:
        path: as it was given.
        runs: those of the method, at least one, or UsageError is raised.
        datasets: the converter's.
        reason: why these are the method's.
        notes: what should be known.

    Raises:
        UsageError: there are no runs.
    """
    here = [run for run in runs if run.folder == path]
    several = len(runs) > 1 and not here and not path.is_file()
    run = runs[0] if several else here[0] if here else choose_run(path, runs, "a run folder")
    asks: list[Ask] = []
    iterations = [it for it in run.iterations if run.pair(it).labels.is_file()]
    pair = run.pair(iterations[0] if iterations else "best")
    if several:
        listing = ", ".join(str(run.folder) for run in runs[:LISTED])
        why = f"there are {len(runs)} runs here ({listing}): name one of them in place of {path}, or its two files"
        asks += [Ask("--images", why, str(pair.images)), Ask("--labels", "goes with --images", str(pair.labels))]
    elif path.is_file():
        pair = next((pair for it in iterations if (pair := run.pair(it)).images == path), pair)
    elif iterations and iterations[0] != "best":
        found = ", ".join(iterations[:LISTED])
        asks.append(Ask("--iteration", f"there is no images_best.pt (found: {found})", iterations[-1]))
    if run.zca_files:
        asks.append(ASK_WHITENING)
    asks.append(ask_dataset(run.folder, datasets))
    lr = run.folder / f"lr_{pair.iteration}.pt"
    files = (pair.images, pair.labels, *([lr] if lr.name in run.names else []))
    return Description(reason, files, tuple(asks), tuple(notes))


def ask_dataset(folder: Path, datasets: Mapping[str, Preset]) -> Ask:
    """Return the question for classes and normalisation, with the folder's own name as the example."""
    example = dataset_of(folder.absolute(), datasets) or "cifar10"
    why = (
        "the files do not say which classes in which order, nor by which mean and std the pixels were normalised "
        "(--classes and --normalization say it one by one)"
    )
    return Ask("--dataset", why, example)


def dataset_of(folder: Path, datasets: Mapping[str, Preset]) -> str | None:
    """Return the dataset that a run's folders name, such as logged_files/CIFAR10; None where they name none known."""
    parts = [_ALIASES.get(part.lower(), part.lower()) for part in reversed(folder.parts)]
    return next((part for part in parts if part in datasets), None)


def check_dataset(file: Path, answers: Answers, datasets: Mapping[str, Preset]) -> None:
    """Refuse a dataset other than the one that logged_files/<dataset>/ names.

    Raises:
        UsageError: the two differ.
    """
    parts = file.absolute().parts
    logged = [at for at, part in enumerate(parts) if part in ("logged_files", "ema_logged_files")]
    if answers.dataset is None or not logged:
        return
    named = dataset_of(Path(*parts[logged[-1] + 1 : logged[-1] + 2]), datasets)
    if named is not None and datasets[named] != datasets.get(answers.dataset):
        raise UsageError(
            f"--dataset {answers.dataset}: the run lies in {parts[logged[-1]]}/{parts[logged[-1] + 1]}, so it is of "
            f"{named}. If that folder's name is wrong, give --classes and --normalization in place of --dataset."
        )


def require_classes(file: Path, answers: Answers, datasets: Mapping[str, Preset]) -> Classes:
    """Return the classes that were answered.

    Raises:
        UsageError: none were.
    """
    if answers.classes is None:
        raise UsageError(
            f"{file}: holds class numbers only. Give --dataset ({', '.join(list(datasets)[:4])}, ...), or the names in "
            "label order: --classes cifar10, --classes imagenette, --classes a,b,c or --classes @FILE."
        )
    return answers.classes


@dataclass(frozen=True, slots=True)
class Labels:
    """What a labels file gives: class numbers, the method's own soft labels if it has any, and what to know of them."""

    hard: I64
    soft: SoftValues | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """What the manifest says of a method, and what its messages offer."""

    name: str
    repository: str
    datasets: Mapping[str, Preset]
    recipe: Recipe
    presets: str = PRESETS
    whitens: bool = True
    usually_whitened: str | None = None
    """Where the method's own settings whiten; a sentence for the notes."""


LabelReader = Callable[[Path, Answers, Classes, Facts], Labels]


def read_run(method: Method, named: Pair, answers: Answers, read_labels: LabelReader, facts: Facts) -> Distilled:
    """Read a pair of files as a distilled set.

    Args:
        method: whose files they are.
        named: the files chosen.
        answers: what was said.
        read_labels: reads the labels file.
        facts: what is already known from the files.

    Raises:
        UsageError, ConvertError: see `read_pixels` and the reader of labels.
    """
    check_dataset(named.images, answers, method.datasets)
    classes = require_classes(named.labels, answers, method.datasets)
    pixels = read_pixels(named, answers, method.presets)
    read: Facts = {**pixels.read, **facts}
    labels = read_labels(named.labels, answers, classes, read)
    lr_file = named.labels.with_name(named.labels.name.replace("labels_", "lr_", 1))
    learned_lr = read_lr(lr_file, answers, read) if lr_file != named.labels else answers.learned_lr
    notes: list[str] = []
    if method.whitens:
        steps = any(file.name != "images_best.pt" for file in named.images.parent.glob("images_*.pt"))
        ipc = len(pixels.images) // len(classes.names)
        notes = whitening_notes(answers, pixels.zca_files, ipc, steps, method.usually_whitened)
    soft = labels.soft is not None
    return Distilled(
        method=method.name,
        repository=method.repository,
        images=pixels.images,
        labels=labels.hard,
        classes=classes,
        normalization=pixels.normalization,
        whitening=pixels.whitening,
        files=(pixels.pair.images, named.labels, *([lr_file] if "learned_lr" in read else [])),
        soft=labels.soft,
        read=read,
        asserted=answers.said(),
        mosaic_factor=answers.mosaic_factor or 1,
        learned_lr=learned_lr,
        recipe=method.recipe.model_copy(update={"loss": "soft-ce"}) if soft else method.recipe,
        notes=(*notes, *labels.notes, *([NO_LR] if learned_lr is None and _learns_lr(method.recipe) else [])),
    )


def _learns_lr(recipe: Recipe) -> bool:
    return recipe.optimizer is not None and recipe.optimizer.lr is None


def hard_labels(instead: str) -> LabelReader:
    """Return a reader of class numbers; `instead` says what a file of another shape may be."""

    def read_labels(file: Path, answers: Answers, classes: Classes, read: Facts) -> Labels:
        if answers.label_space not in (None, "classes"):
            raise UsageError(f"--label-space {answers.label_space}: these labels are class numbers. {instead}")
        return Labels(as_class_numbers(file, read_tensor(file), read, instead=instead))

    return read_labels
