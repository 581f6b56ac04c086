"""Runs of MTT's family, written by hand as their programs write them, and what tests ask of every converter."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from ladd_data import Answers, Classes, Converter, LaddError, Normalization
from ladd_data.convert import prepare
from ladd_data.converter import fill_in
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter as check

UPSTREAM = Path(__file__).parents[2] / "shared" / "upstream"
genuine = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"no genuine runs: {UPSTREAM} is absent")

ABC = Classes(names=("a", "b", "c"))
HALF: Normalization = NORMALIZATIONS["half"]
HAND = Answers(normalization=HALF, classes=ABC)
CIFAR = Answers(dataset="cifar10")
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
SOFT = torch.softmax(torch.nn.functional.one_hot(LABELS, 3) * 3.0, dim=1)
LOGITS = torch.tensor([[3.0, -1, -2], [-1, 2, -1], [0, 4, -4], [-1, 2, -1], [0, -1, 1], [-2, 0, 2]])
KINDS = ["pickle", "pickle-4", "zip-global", "zip-reduce", "legacy-reduce", "beside-tensor"]


class Reduce:
    """A pickle of this runs a shell command when it is opened carelessly."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def save(file: Path, content: object) -> Path:
    """Write a .pt file; bytes go to disk as they are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    return file


def save_run(
    folder: Path, images: object = IMAGES, labels: object = LABELS, it: str = "best", prefix: str = ""
) -> Path:
    """Write one step of a run as MTT does."""
    save(folder / f"{prefix}images_{it}.pt", images)
    save(folder / f"{prefix}labels_{it}.pt", labels)
    return folder


def torch_bytes(content: object, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def evil(kind: str, canary: Path) -> object:
    """Return a file's bytes that create `canary` when they are opened carelessly."""
    bad = Reduce(f"touch '{canary}'")
    return {
        "pickle": pickle.dumps(bad, protocol=2),
        "pickle-4": pickle.dumps(bad, protocol=4),
        "zip-global": torch_bytes(os.system),
        "zip-reduce": torch_bytes(bad),
        "legacy-reduce": torch_bytes(bad, _use_new_zipfile_serialization=False),
        "beside-tensor": torch_bytes([IMAGES, bad]),
    }[kind]


def refusal(converter: Converter, path: Path, answers: Answers) -> LaddError:
    """Return the error with which a run is refused, which is one line."""
    with pytest.raises(LaddError) as error:
        prepare(converter.read(path, fill_in(converter, answers)), "refused")
    assert "\n" not in str(error.value)
    return error.value


def check_converter(converter: Converter, path: Path, answers: Answers, tmp_path: Path) -> Any:
    """Run the shared check with the answers that `--dataset` stands for; returns the manifest."""
    return check(converter, path, fill_in(converter, answers), tmp_path / "checked")
