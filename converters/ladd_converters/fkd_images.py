"""FKD's own label files, one a picture: a teacher's answers to random crops, as SRe2L's batch files have them later.

    <save_path>/.../train/<class>/<picture, cut at its first dot>.tar      a torch file: a list of three NumPy arrays

    0 coords   float32 or float16 [crops, 4]: top / H, left / W, height / H, width / W of the crop in the picture
    1 flips    bool [crops]
    2 labels   what is kept of the probabilities (softmax), in coords' type:
               [crops, 2, k]  class numbers over their probabilities (marginal_smoothing_k5, _k10, marginal_renorm_k5)
               [crops, 2]     class number and probability (smoothing)
               [crops]        class numbers, int64, or float16 (hard)

Crops were resized by Pillow, bicubic, to the side that the teacher was fed, which no file says. What is left of the
probability goes evenly to the other classes (upstream's Recover_soft_label; marginal_renorm gives them none, and its
files are the same). With --use_fp16 class numbers are float16, too: exact up to 2048.
Source: szq0214/FKD afd5294b, FKD_SLG/generate_soft_label.py and utils_FKD.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ladd_converters.class_folders import is_folder, scan, some
from ladd_converters.fkd_batches import rounding_of, whole_boxes
from ladd_converters.kept_classes import coding_of, keep_first, keep_like, make_whole
from ladd_converters.padded_pictures import sizes_of
from ladd_converters.temporary import room
from ladd_converters.torch_files import read_torch, say_content
from ladd_data import (
    Answers,
    Boxes,
    ConvertError,
    Pictures,
    Recipe,
    UsageError,
    ViewLabels,
)

DEEPEST = 4
"""Levels below what was named, where class folders of label files are looked for."""
FIRST_OTHER_ORDER = 13
"""Of Pillow's versions, the first that resizes tall crops in another order."""
RECIPE = Recipe.model_validate(
    {
        "loss": "soft-ce",
        "target": "views",
        "view_reduction": "mean",
        "views_per_step": 4,
        "optimizer": {"name": "sgd", "lr": 0.4, "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"kind": "cosine"},
        "epochs": 300,
        "batch_size": 1024,
        "augmentation": {"replay": True},
        "source": "FKD",
    }
)
"""Source: FKD train_FKD.py: 0.1 * batch / 256, four crops of a picture in a step, cross-entropy at T = 1."""


def find_images_of_labels(path: Path) -> Path | None:
    """Return the folder of class folders of FKD's own label files at or below `path`; None where there is none."""
    waiting = [(path, 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        inside = sorted(folder / entry.name for entry in scan(folder) if is_folder(entry))
        if any(_holds_labels(sub) for sub in inside):
            return folder
        if depth < DEEPEST:
            waiting += [(sub, depth + 1) for sub in inside]
    return None


def _holds_labels(folder: Path) -> bool:
    names = [entry.name for entry in scan(folder) if entry.name.endswith(".tar")]
    return bool(names) and not folder.name.startswith("epoch_") and not all(name.startswith("batch_") for name in names)


class ImageLabelReader:
    """Reads the label files of pictures, in record order.

    facts, notes: what was found and should be known, complete when `read` has returned.
    """

    def __init__(self, root: Path, answers: Answers) -> None:
        """Take the folder of class folders of label files."""
        self._root, self._answers = root, answers
        self.facts: dict[str, JsonValue] = {}
        self.notes: list[str] = []

    def read(self, pictures: Pictures, classes: int) -> ViewLabels:
        """Read a file a picture.

        Raises:
            ConvertError: labels and pictures do not belong together, or a file is damaged.
            UsageError: an answer is missing.
        """
        files = self._files(pictures)
        size = self._answers.view_size
        if size is None:
            raise UsageError(
                f"{self._root}: no file says what size crops were resized to (--input_size; upstream's own is 224). "
                "Give --view-size 224, or what the teacher was fed."
            )
        first = _read_file(files[0])
        count, views = len(files), len(first[0])
        boxes, flips = np.zeros((count, views, 4), np.uint16), np.zeros((count, views), np.bool_)
        values = room((count, views, classes), np.dtype(np.float32))
        sizes = sizes_of(pictures, count, *pictures.shape[2:])
        for record, file in enumerate(files):
            coords, flip, labels = _read_file(file)
            if labels.shape != first[2].shape or labels.dtype != first[2].dtype:
                found = f"labels {labels.dtype} {list(labels.shape)}, and {first[2].dtype} {list(first[2].shape)} in"
                raise ConvertError(f"{file}: found {found} {files[0].name}; expected one run's files.")
            height, width = sizes[record].tolist()
            boxes[record] = whole_boxes(file, coords, rounding_of(coords), (height, width))
            flips[record], values[record] = flip, _probabilities(file, labels, classes)
        kept, hard, stored = _count_kept(first[2]), first[2].ndim == 1, str(first[2].dtype)
        self.facts |= {"fkd_run": self._run_name(), "fkd_crops": views, "fkd_kept_classes": kept, "fkd_stored": stored}
        self._say(kept, classes, hard=hard)
        return ViewLabels(
            name="fkd",
            views=Boxes(count=views, flip=True, size=size, resample=self._resample(boxes, size)),
            columns={"view_box": boxes, "view_flip": flips},
            values=values,
            space="probs",
            temperature=self._answers.temperature or 1.0,
            recipe=RECIPE,
            coding=coding_of(kept, classes, exact=stored == "float32"),
            as_stored=keep_first if hard else partial(keep_like, kept=kept),
        )

    def _run_name(self) -> str:
        names = [part.name for part in (self._root, *self._root.absolute().parents) if part.name not in ("", "train")]
        return next((name for name in names if name.startswith("FKD")), names[0] if names else "")

    def _files(self, pictures: Pictures) -> list[Path]:
        """Return each picture's label file.

        Raises:
            ConvertError: one is missing, is of no picture, or would be of two.
        """
        owners: dict[Path, str] = {}
        for number in range(pictures.shape[0]):
            file = pictures.file(number)
            picture = Path(file)
            label = self._root / picture.parent.name / (picture.name.split(".")[0] + ".tar")
            if label in owners:
                raise ConvertError(
                    f"{file}: has the label file of {owners[label]}: names are cut at their first dot, so upstream "
                    "wrote one file for both, of the picture that came first. Leave these pictures out."
                )
            owners[label] = file
        there = {self._root / sub.name / entry.name for sub in _folders(self._root) for entry in scan(sub)}
        labels = {path for path in there if path.suffix == ".tar"}
        lacking = [owners[label] for label in owners if label not in labels]
        if lacking:
            raise ConvertError(
                f"{self._root}: found no label file of {len(lacking)} of {len(owners)} pictures ({some(lacking)}); "
                "expected one each, <class>/<name>.tar. Files were renamed, or the run was broken off: finish it, or "
                "leave these out."
            )
        strange = sorted(str(path.relative_to(self._root)) for path in labels - owners.keys())
        if strange:
            raise ConvertError(
                f"{self._root}: found {len(strange)} label files of no picture ({some(strange)}); expected only "
                "those of the pictures given. Pictures were renamed or are missing."
            )
        return list(owners)

    def _resample(self, boxes: NDArray[np.uint16], size: int) -> Literal["pillow-bicubic", "pillow13-bicubic"]:
        """Return how crops were resized; asked where Pillow's version matters."""
        high, wide = boxes[..., 2].astype(np.int64) - size, boxes[..., 3].astype(np.int64) - size
        tall = int(((high > 0) & (high > 2 * wide)).sum())
        version = self._answers.pillow
        if version is None and tall:
            raise UsageError(
                f"{self._root}: {tall} of {high.size} crops are so tall that Pillow 13 resizes them in another order "
                "than those before it, which gives other pixels, and no file says which it was. Give --pillow 12 (for "
                "any before 13, as of the published labels) or --pillow 13."
            )
        return "pillow13-bicubic" if version is not None and version >= FIRST_OTHER_ORDER else "pillow-bicubic"

    def _say(self, kept: int, classes: int, *, hard: bool) -> None:
        if self._answers.temperature is None:
            self.notes.append("The teacher's softmax was taken at T = 1, upstream's default; no file says so.")
        if hard:
            self.notes.append("Labels are hard: the teacher's likeliest class of each crop.")
        elif kept < classes:
            many = (
                "likeliest class and its probability"
                if kept == 1
                else f"{kept} likeliest classes and their probabilities"
            )
            self.notes.append(
                f"Labels keep the {many}; what is left is spread evenly over the others, as upstream's loader does "
                "(for marginal_renorm, whose files are the same, it gives them nothing)."
            )


def _folders(root: Path) -> Sequence[Path]:
    return [root / entry.name for entry in scan(root) if is_folder(entry)]


def _count_kept(labels: NDArray[Any]) -> int:
    return labels.shape[2] if labels.ndim == 3 else 1


def _read_file(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
    """Return the coords, flips and labels of one picture, checked against each other.

    Raises:
        ConvertError: it is something else, or is damaged.
    """
    content = read_torch(path, arrays=True)
    if not isinstance(content, list) or len(content) != 3 or not all(isinstance(item, np.ndarray) for item in content):
        raise ConvertError(f"{path}: found {say_content(content)}; expected a list of three arrays, as FKD writes.")
    coords, flips, labels = content
    count = len(coords) if coords.ndim == 2 else 0
    kinds = {(count,): "hard", (count, 2): "smoothing"}
    fits = labels.shape in kinds or (labels.ndim == 3 and labels.shape[:2] == (count, 2) and labels.shape[2] > 0)
    if not count or coords.shape != (count, 4) or flips.shape != (count,) or not fits or coords.dtype.kind != "f":
        found = ", ".join(f"{item.dtype} {list(item.shape)}" for item in content)
        raise ConvertError(f"{path}: found arrays {found}; expected [crops, 4], [crops] and one label a crop.")
    return coords, flips.astype(np.bool_), labels


def _probabilities(path: Path, labels: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Return labels as probabilities of all classes, float32 [crops, classes]."""
    if labels.ndim == 3:
        return make_whole(path, labels[:, 0], labels[:, 1], classes)
    if labels.ndim == 2:
        return make_whole(path, labels[:, :1], labels[:, 1:], classes)
    return make_whole(path, labels[:, None], np.ones((len(labels), 1)), classes)
