"""The datasets of benchmarks/study.py: real digits at 16 px, three distillers, labelers, and labels in every coding.

Everything is made once, below one folder, and found again by its name. All of it follows from fixed seeds and is
computed by one thread, so that a second folder gets the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from ladd_examples.distribution_matching import distill

from ladd_data.convert import convert, prepare
from ladd_data.converter import Distilled
from ladd_data.dataset import load
from ladd_data.encodings.profiles import coding_of_encoding
from ladd_data.evaluation.arms import draw_per_class
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.labeling.labeler import TrainingRecord, load_labeler
from ladd_data.labeling.training.train import Keep, LabelerPlan, train_labeler
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest import Coding, Full, Grid
from ladd_data.models import describe_network
from ladd_data.pixels import apply_affine, natural_affine
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS
from ladd_data.reencode import reencode_dataset
from ladd_data.sources import ImageSet, load_images
from ladd_data.types import F32, I64
from ladd_data.views.geometry import grid

SIZE, CLASSES, WIDTH = 16, 10, 16
"""Pixels a side (the digits have 8), classes, and channels of a ConvNetD3's blocks, of students and labelers."""

LABELER_EPOCHS = (1, 2, 5, 10, 20, 50)
EPOCH = 10
"""The labeler's epoch that labels where nothing else is said: LADD's."""

FLOAT32 = Coding(encoding="dense", space="log_probs", dtype="float32", logz=True)
NORMALIZATION, NAMES = NORMALIZATIONS["half"], CLASS_LISTS["digits"]


@dataclass(frozen=True, slots=True, order=True)
class Labelling:
    """How a set's labels are made: views ("full", or N and R as in "5 5/8"), the labeler's epoch, and the coding."""

    views: str = "5 5/8"
    epoch: int = EPOCH
    coding: str = "float32"

    @property
    def name(self) -> str:
        """As part of a folder's name."""
        return f"{self.views.replace(' ', '-').replace('/', '_')}-e{self.epoch}-{self.coding}"

    @property
    def spec(self) -> Grid | Full:
        """The views."""
        if self.views == "full":
            return Full()
        number, ratio = self.views.split()
        return grid(int(number), ratio)


class Sets:
    """All datasets and labelers, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        """Keep everything below a folder."""
        self.folder = folder

    @cached_property
    def train(self) -> ImageSet:
        """1,400 real digits."""
        return load_images("digits:train", SIZE, 3)

    @cached_property
    def test(self) -> ImageSet:
        """The other 397."""
        return load_images("digits:test", SIZE, 3)

    def plain(self, distiller: str, ipc: int) -> Path:
        """Return a distilled set without dense labels."""
        folder = self.folder / f"{distiller}-{ipc}"
        if not folder.is_dir():
            images, labels = DISTILLERS[distiller](self.train, ipc)
            distilled = Distilled(
                method=distiller,
                repository=None,
                images=images,
                labels=labels,
                classes=NAMES,
                normalization=NORMALIZATION,
                whitening="none",
                files=(),
            )
            convert(prepare(distilled, f"{distiller}-{ipc}"), folder)
        return folder

    def labelled(self, distiller: str, ipc: int, how: Labelling) -> Path:
        """Return a distilled set with dense labels; those of other codings are made of the float32 ones."""
        folder = self.folder / f"{distiller}-{ipc}-{how.name}"
        if folder.is_dir():
            return folder
        if how.coding != "float32":
            parent = self.labelled(distiller, ipc, Labelling(how.views, how.epoch))
            encoding, _, top = how.coding.partition("-")
            coding = coding_of_encoding(encoding, CLASSES, k=int(top) if top else None, logz=encoding != "topk")
            reencode_dataset(load(parent), coding, folder)
            return folder
        labeler = load_labeler(self.labeler(how.epoch))
        plan = LabelPlan(labeler, how.spec, FLOAT32, torch.device("cpu"))
        label_dataset(load(self.plain(distiller, ipc)), plan, folder)
        return folder

    def labeler(self, epoch: int) -> Path:
        """Return the labeler after an epoch of one run of training."""
        last = self.folder / "labeler.safetensors"
        if not last.is_file():
            training = TrainingRecord(
                source="digits:train", epochs=LABELER_EPOCHS[-1], lr=0.01, momentum=0.9, batch_size=64
            )
            network = describe_network("convnet-d3", classes=CLASSES, channels=3, size=SIZE, width=WIDTH)
            plan = LabelerPlan(network, NAMES, NORMALIZATION, training)
            keep = Keep(last.with_suffix(".epochs"), frozenset(LABELER_EPOCHS), resume=True)
            train_labeler(plan, self.train, self.test, last, keep=keep)
        return last.with_suffix(".epochs") / f"epoch-{epoch:03d}.safetensors"


def draw_random(train: ImageSet, ipc: int) -> tuple[F32, I64]:
    """Return real digits, drawn class by class."""
    labels = class_labels(ipc)
    rows = draw_per_class(train.labels, labels, 0, train.name)
    return apply_affine(natural_affine(NORMALIZATION), train.images[rows]), labels


def find_means(train: ImageSet, ipc: int) -> tuple[F32, I64]:
    """Return the centres that k-means finds in each class, pixel by pixel; for one image a class, the class's mean."""
    pixels = apply_affine(natural_affine(NORMALIZATION), train.images)
    centres = [lloyd(pixels[train.labels == label], ipc) for label in range(CLASSES)]
    return np.concatenate(centres).astype(np.float32), class_labels(ipc)


def match_distribution(train: ImageSet, ipc: int) -> tuple[F32, I64]:
    """Return what distribution matching makes, by the program in examples/."""
    torch.manual_seed(0)
    order = epoch_order(len(train.labels), 0, 0)
    pixels = apply_affine(natural_affine(NORMALIZATION), train.images[order])
    real, labels = torch.from_numpy(pixels), torch.from_numpy(train.labels[order])
    return distill(real, labels, ipc, iterations=100, lr=1.0).numpy(), class_labels(ipc)


def class_labels(ipc: int) -> I64:
    """Return the labels of a set that is sorted by class."""
    return np.repeat(np.arange(CLASSES), ipc)


def lloyd(pixels: F32, count: int, rounds: int = 20) -> F32:
    """Return `count` centres of pictures [n, ...]: Lloyd's k-means, from pictures drawn by `epoch_order`."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    centres = flat[epoch_order(len(flat), 0, 0)[:count]]
    for _ in range(rounds):
        squares = (centres**2).sum(1)
        nearest = (squares - 2 * flat @ centres.T).argmin(1)
        filled = [
            flat[nearest == place].mean(0) if (nearest == place).any() else centres[place] for place in range(count)
        ]
        centres = np.stack(filled)
    return centres.reshape(count, *pixels.shape[1:]).astype(np.float32)


DISTILLERS: dict[str, Callable[[ImageSet, int], tuple[F32, I64]]] = {
    "random": draw_random,
    "k-means": find_means,
    "dm": match_distribution,
}
"""Three ways to a small set of digits."""


def use_one_thread() -> None:
    """Let torch and numpy compute with one thread, so that sums have one order on every machine."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
