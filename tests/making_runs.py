"""Runs of MTT's family, written by hand as their programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from converter_runs import ABC, HAND, IMAGES, LABELS, UPSTREAM, genuine, refusal
from converter_runs import EVIL_KINDS as KINDS
from converter_runs import evil_bytes as evil
from converter_runs import put as save

from ladd_data import Answers, Converter, Normalization
from ladd_data.converter import fill_in
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter as check

__all__ = ["ABC", "HAND", "IMAGES", "KINDS", "LABELS", "UPSTREAM", "evil", "genuine", "refusal", "save"]

HALF: Normalization = NORMALIZATIONS["half"]
CIFAR = Answers(dataset="cifar10")
SOFT = torch.softmax(torch.nn.functional.one_hot(LABELS, 3) * 3.0, dim=1)
LOGITS = torch.tensor([[3.0, -1, -2], [-1, 2, -1], [0, 4, -4], [-1, 2, -1], [0, -1, 1], [-2, 0, 2]])


def save_run(
    folder: Path, images: object = IMAGES, labels: object = LABELS, it: str = "best", prefix: str = ""
) -> Path:
    """Write one step of a run as MTT does."""
    save(folder / f"{prefix}images_{it}.pt", images)
    save(folder / f"{prefix}labels_{it}.pt", labels)
    return folder


def check_converter(converter: Converter, path: Path, answers: Answers, tmp_path: Path) -> Any:
    """Run the shared check with the answers that `--dataset` stands for; returns the manifest."""
    return check(converter, path, fill_in(converter, answers), tmp_path / "checked")
