"""FRePo (yongchaoz/FRePo, read at commit 43e028a5).

What script/distill.py leaves in <train_img>/<dataset>/step<k>K_num<n>/<arch>_w<w>_d<d>_<norm>_ll<bool>/<state>/:

    np/step<it:06d>.npz     arrays "image" and "label"; the last step, or also earlier ones
    png/step<it:06d>.png    sheets of pictures; not read

image: float32 [n, height, width, channels], channels last. MNIST and Fashion-MNIST are normalised by mean and std;
every set in colour is normalised and then ZCA-whitened, with the matrix in zca/<dataset>_normalize_zca.npz outside
the run. label: float32 [n, classes], class by class: centred one-hot regression targets (1 - 1/C, or -1/C, divided
by sqrt(C / 10)), learned with the images where the folder says llTrue; neither probabilities nor logits.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ladd_converters.pairs import (
    LOOKED_AT,
    Facts,
    ask_dataset,
    check_dataset,
    find_files,
    need_classes,
    need_normalization,
    plain_name,
    refuse_answers,
)
from ladd_converters.torch_files import refuse_text
from ladd_data import (
    Answers,
    Ask,
    ConvertError,
    Description,
    Distilled,
    Normalization,
    Preset,
    Recipe,
    SoftValues,
    UsageError,
)

REPOSITORY = "https://github.com/yongchaoz/FRePo"
_STEP = re.compile(r"step(\d+)\.npz")
_LEARNED = re.compile(r"_ll(True|False)$")
_SETS = ("cifar10", "cifar100", "tiny_imagenet", "imagenette", "imagewoof", "caltech_birds2011", "mnist")
_ALL_SETS = (*_SETS, "fashion_mnist", "imagenet_resized")
_NOT_HERE = ("images", "labels", "experiment", "mosaic_factor", "learned_lr")
_UNFOLD = 64 << 20, 32
"""Bytes that any archive may unfold to, and times its size beyond which more is refused."""
_WHITENED = (
    "The pixels are normalised and then whitened; the matrix (zca/<dataset>_normalize_zca.npz) is not in the run: "
    "networks need test images whitened by it."
)
_RECIPE = "The recipe leaves out FRePo's augmentation (flip_color_crop_rotate_translate_cutout, by its own code)."


class FrepoConverter:
    """Reads one step of a run of FRePo."""

    name: ClassVar[str] = "frepo"
    summary: ClassVar[str] = "FRePo: np/step<it>.npz of a run; its labels are regression targets"
    datasets: ClassVar[Mapping[str, Preset]] = {  # the normalisation counts for the sets without colour only
        "cifar10": Preset("cifar10", "none"),
        "cifar100": Preset("cifar100", "none"),
        "fashionmnist": Preset("fashionmnist", "fashionmnist"),
        "imagenette": Preset("imagenette", "none"),
        "mnist": Preset("mnist", "mnist"),
        "tinyimagenet": Preset("tinyimagenet", "none"),
    }

    def detect(self, path: Path) -> str | None:
        """Return why this looks like a run of FRePo, or None."""
        files = find_files(path, _STEP, LOOKED_AT)
        return f"{files[-1].parent.name}/{files[-1].name}, a name that FRePo gives" if files else None

    def describe(self, path: Path) -> Description:
        """Say what would be read and asked; see `ladd_data.Converter.describe`."""
        file = _choose(path, None)
        dataset = _dataset_in(file)
        known = plain_name(dataset) if dataset else "cifar10"
        unlisted = Ask("--classes", f"the order of the classes of {known} is in no file", "@names.txt")
        asks = [ask_dataset(known) if known in self.datasets else unlisted]
        if dataset not in ("mnist", "fashion_mnist"):
            why = "FRePo whitens sets in colour and keeps the matrix elsewhere, so the pixels are no pictures"
            asks.append(Ask("--whitening", why, "whitened"))
        return Description(
            f"{file.parent.name}/{file.name}, a name that FRePo gives", (file,), tuple(asks), (_WHITENED, _RECIPE)
        )

    def read(self, path: Path, answers: Answers) -> Distilled:
        """Read one step; see `ladd_data.Converter.read`."""
        refuse_answers(self.name, answers, _NOT_HERE)
        file = _choose(path, answers.iteration)
        dataset = _dataset_in(file)
        check_dataset(file, dataset, answers)
        if answers.label_space not in (None, "targets"):
            raise UsageError(f"{file}: FRePo's labels are regression targets, not {answers.label_space}.")
        read: Facts = {} if answers.label_space else {"label_space": "targets"}
        if dataset is not None and answers.dataset is None:
            read["dataset"] = dataset
        step = _STEP.fullmatch(file.name)
        if step and answers.iteration is None:
            read["iteration"] = str(int(step[1]))
        learned = next((found[1] for part in file.parts if (found := _LEARNED.search(part))), None)
        if learned:
            read["labels_learned"] = learned == "True"
        images, targets = _read_arrays(file)
        labels = targets.argmax(1).astype(np.int64)
        normalization = _normalization(file, images.shape[1], answers)
        notes = [*([] if normalization else [_WHITENED]), _RECIPE, *_note_order(labels, targets.shape[1], read)]
        return Distilled(
            method="FRePo",
            repository=REPOSITORY,
            images=images,
            labels=labels,
            classes=need_classes(file, answers, plain_name(dataset) if dataset else None),
            normalization=normalization,
            whitening="none" if normalization else "zca",
            files=(file,),
            soft=SoftValues(targets, "targets"),
            read=read,
            asserted=answers.said(),
            recipe=recipe_for(len(images)),
            notes=tuple(notes),
        )


def _choose(path: Path, iteration: str | None) -> Path:
    """Return the file of the step wanted, or of the last.

    Raises:
        UsageError: there is none, or there are several runs.
    """
    if path.is_file():
        step = _STEP.fullmatch(path.name)
        if iteration is not None and step and iteration.lstrip("0") != step[1].lstrip("0"):
            raise UsageError(f"{path}: is of step {int(step[1])}; --iteration {iteration} contradicts it.")
        return path
    files = find_files(path, _STEP)
    if not files:
        found = "no such folder or file" if not path.exists() else "found no step<it>.npz; expected a run of FRePo"
        raise UsageError(f"{path}: {found}.")
    folders = sorted({str(file.parent) for file in files})
    if len(folders) > 1:
        listing = ", ".join(folders[:8]) + (", ..." if len(folders) > 8 else "")
        raise UsageError(f"{path}: found {len(folders)} runs; name one of them: {listing}.")
    steps = {int(_STEP.fullmatch(file.name)[1]): file for file in files}  # type: ignore[index]
    if iteration is None:
        return steps[max(steps)]
    if not iteration.isdecimal() or int(iteration) not in steps:
        raise UsageError(f"{path}: has steps {', '.join(map(str, sorted(steps)))}; --iteration {iteration} is not one.")
    return steps[int(iteration)]


def _dataset_in(file: Path) -> str | None:
    """Return what was distilled, as the folders of the run name it."""
    return next((part for part in reversed(file.parts[:-1]) if part in _ALL_SETS), None)


def _read_arrays(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return images, float32 [n, channels, height, width], and targets, float32 [n, classes].

    Raises:
        ConvertError: not such an archive; nothing but numbers is ever loaded.
    """
    expected = 'expected an .npz with "image" [n, height, width, channels] and "label" [n, classes]'
    try:
        refuse_text(file, "an .npz")
        with zipfile.ZipFile(file) as archive:
            unfolded = sum(entry.file_size for entry in archive.infolist())
        if unfolded > max(_UNFOLD[0], _UNFOLD[1] * file.stat().st_size):
            found = f"{file.stat().st_size} bytes that unfold to {unfolded}"
            raise ConvertError(f"{file}: found {found}; {expected}, which hardly shrink.")
        with np.load(file, allow_pickle=False) as arrays:
            names = sorted(arrays.files)
            image, label = (arrays[key] if key in names else None for key in ("image", "label"))
    except ConvertError:
        raise
    except OSError as error:
        raise ConvertError(f"{file}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # damage can raise nearly anything; arrays of Python objects raise ValueError
        reason = (f"{type(error).__name__}: {error}".splitlines() or ["?"])[0][:120]
        raise ConvertError(f"{file}: found something else, or damage ({reason}); {expected}.") from error
    if image is None or label is None:
        raise ConvertError(f"{file}: found arrays {', '.join(names[:6]) or 'none'}; {expected}.")
    fits = image.ndim == 4 and label.ndim == 2 and label.shape[1] > 1 and {image.dtype.kind, label.dtype.kind} == {"f"}
    if not fits or image.shape[3] not in (1, 3):
        found = f'"image" {image.dtype} {list(image.shape)} and "label" {label.dtype} {list(label.shape)}'
        raise ConvertError(f"{file}: found {found}; {expected}, floats, 1 or 3 channels, which come last.")
    if not np.isfinite(label).all():
        raise ConvertError(f"{file}: found NaN or infinity in the labels; expected finite numbers. The run diverged.")
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2), np.float32), label.astype(np.float32)


def _normalization(file: Path, channels: int, answers: Answers) -> Normalization | None:
    """Return the normalisation of a set without colour; None for a whitened one.

    Raises:
        ConvertError: whitened pixels, and nobody chose them.
        UsageError: the answers contradict what FRePo does.
    """
    if channels == 1:
        if answers.whitening is not None:
            raise UsageError(f"{file}: FRePo whitens no set without colour; leave --whitening out.")
        return need_normalization(file, answers, "mnist")
    if answers.whitening == "dewhitened":
        raise UsageError(
            f"{file}: FRePo saves no pixels with the whitening undone, and the matrix is not in the run. "
            "--whitening whitened takes what the network saw."
        )
    if answers.whitening is None:
        raise ConvertError(
            f"{file}: found a set in colour, which FRePo whitens; it cannot be read as an ordinary set. "
            "--whitening whitened takes what the network saw, which needs test images whitened by the same matrix."
        )
    if answers.normalization is not None:
        raise UsageError("--normalization does not go with --whitening whitened: whitening replaced it.")
    return None


def _note_order(labels: NDArray[np.int64], classes: int, read: Facts) -> list[str]:
    """Record where the hard classes come from, and how far they differ from the order of the images."""
    read["hard_class"] = "the largest target"
    by_position = np.arange(len(labels)) * classes // max(len(labels), 1)
    differ = int((labels != by_position).sum())
    if len(labels) % classes == 0 and not differ:
        return []
    return [f"{differ} of {len(labels)} images have their largest target elsewhere than their place, class by class."]


def recipe_for(images: int) -> Recipe:
    """Return script/eval.py's training: steps by the number of images, warm-up for 500 of them, MSE on the targets."""
    steps_by_images = {10: 1000, 100: 2000, 200: 20000, 400: 5000, 500: 5000, 1000: 10000, 2000: 40000, 5000: 40000}
    steps = steps_by_images.get(images)
    batch = max(1, min(images, 500))
    return Recipe.model_validate(
        {
            "loss": "mse",
            "optimizer": {"name": "adam", "lr": 3e-4, "weight_decay": 3e-4},
            "schedule": {"kind": "warmup-cosine", "warmup": 500 / steps} if steps else None,
            "epochs": max(1, steps * batch // images) if steps else None,
            "batch_size": batch,
            "source": "FRePo",
        }
    )
