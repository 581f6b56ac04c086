"""A small projector for tests: timm's least network of the family of CLIP's RN50, with weights from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from making import CLASSES, SIZE
from safetensors.torch import save_file

import ladd_data as ladd
from ladd_data.manifest_projector import Adapters, ProjectorTraining
from ladd_data.projector.network import build_backbone
from ladd_data.projector.plan import BackboneChoice, HeadChoice, ProjectorPlan
from ladd_data.projector.training import TrainedProjector, train_projector
from ladd_data.sources import ImageSet

BACKBONE = "timm:test_byobnet"
"""As timm:resnet50_clip a ByobNet: 0.2 M parameters, 256 features."""
TRAINING = ProjectorTraining(source="noise", epochs=2, batch_size=16, lr=1e-3)


def make_backbone(path: Path, seed: int = 0) -> Path:
    """Write the weights of a randomly initialised backbone."""
    torch.manual_seed(seed)
    save_file(build_backbone(BACKBONE, 0, SIZE).state_dict(), path)
    return path


def make_images(count: int = 60) -> ImageSet:
    """Return pictures of noise about a colour of their class."""
    generator = np.random.default_rng(1)
    labels = np.arange(count, dtype=np.int64) % 3
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])[labels]
    noise = generator.normal(0, 30, (count, 3, SIZE, SIZE))
    return ImageSet("noise", (colours[..., None, None] + noise).clip(0, 255).astype(np.uint8), labels, CLASSES.names)


def make_plan(backbone: Path, **changes: Any) -> ProjectorPlan:
    """Return what decides a small projector."""
    choice = BackboneChoice(BACKBONE, backbone, size=SIZE, keep=bool(changes.pop("keep", False)))
    fields: dict[str, Any] = {"head": HeadChoice(), "adapters": Adapters(rank=4, alpha=4), "training": TRAINING}
    return ProjectorPlan(choice, **fields | changes)


def make_projector(
    folder: Path, backbone: Path, labeler: Path, name: str = "hello", **changes: Any
) -> TrainedProjector:
    """Train a small projector into a dataset."""
    plan = make_plan(backbone, **{key: changes.pop(key) for key in list(changes) if key in _OF_PLAN})
    teachers = [ladd.load_labeler(labeler)]
    return train_projector(ladd.load(folder), name, plan, teachers, make_images(), **changes)


_OF_PLAN = ("keep", "head", "adapters", "training", "views", "dtype")
