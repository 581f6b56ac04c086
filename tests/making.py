"""Small things made by hand, for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ladd_data.converter import Distilled
from ladd_data.dataset import load
from ladd_data.encodings.profiles import Budget, coding_of_profile
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.labeling.labeler import LabelerDescription, load_labeler, save_labeler
from ladd_data.manifest import Classes, Network, Normalization
from ladd_data.models import build_network
from ladd_data.pictures import open_pictures
from ladd_data.views.geometry import grid

CLASSES = Classes(names=("ant", "bee", "cat"))
NORMALIZATION = Normalization(mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
SIZE = 32


def make_distilled(count: int = 6, size: int = SIZE, seed: int = 0, spread: float = 2.0) -> Distilled:
    """Return random "distilled" images, class numbers 0, 1, 2, 0, 1, 2, ..."""
    generator = np.random.default_rng(seed)
    images = generator.normal(0, spread, (count, 3, size, size)).astype(np.float32)
    labels = np.arange(count, dtype=np.int64) % 3
    return Distilled(
        method="test",
        repository="https://example.org",
        images=images,
        labels=labels,
        classes=CLASSES,
        normalization=NORMALIZATION,
        whitening="none",
        files=(),
    )


def make_jpegs(folder: Path, count: int = 6, size: int = SIZE, mode: str = "RGB", **options: Any) -> list[Path]:
    """Write JPEG files of smooth noise, 0.jpg, 1.jpg, ..."""
    generator = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rough = Image.fromarray(generator.integers(0, 256, (size // 4, size // 4, 3), np.uint8))
        picture = rough.resize((size, size), Image.Resampling.BICUBIC).convert(mode)
        picture.save(folder / f"{number}.jpg", **options)
    return [folder / f"{number}.jpg" for number in range(count)]


def make_pictures(folder: Path, **options: Any) -> Distilled:
    """Return a distilled set of JPEG files, written into `folder`."""
    files = make_jpegs(folder, **options)
    return replace(make_distilled(len(files)), images=open_pictures(files), files=(folder,))


def make_labeler(path: Path, classes: Classes = CLASSES, size: int = SIZE, seed: int = 0) -> Path:
    """Write a small, randomly initialised labeler whose outputs are far from uniform."""
    torch.manual_seed(seed)
    network = Network(name="convnet-d3", width=8, classes=len(classes.names), channels=3, size=size)
    module = build_network(network)
    with torch.no_grad():
        module.classifier.weight.mul_(10)  # type: ignore[union-attr, operator]
    description = LabelerDescription(
        network=network, classes=classes, normalization=NORMALIZATION, epochs_done=1, accuracy=0.5
    )
    save_labeler(path, module, description)
    return path


def label(source: Path, labeler: Path, target: Path, profile: str = "default", n: int = 5, ratio: str = "5/8") -> Path:
    """Label a dataset on the CPU."""
    device = torch.device("cpu")
    dataset = load(source)
    coding = coding_of_profile(profile, Budget(len(dataset.classes), n * n, 3000))
    plan = LabelPlan(load_labeler(labeler), grid(n, ratio), coding, device, profile)
    label_dataset(dataset, plan, target)
    return target
