"""Runs of MTT made by hand, and what is asked of its converter, for its tests."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ladd_converters.mtt import MttConverter

from ladd_data import Answers, Classes, LaddError
from ladd_data.cli import main
from ladd_data.convert import prepare
from ladd_data.presets import CLASS_LISTS, NORMALIZATIONS

UPSTREAM = Path(__file__).parents[2] / "shared" / "upstream"
genuine = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"no genuine runs: {UPSTREAM} is absent")
MTT, BENCH = UPSTREAM / "mtt", UPSTREAM / "mtt/thirdparty-dcbench"
NAN_RUN = MTT / "cpu-nan-ipc1/logged_files/CIFAR10/cpu-nan-ipc1"
CIFAR = Answers(normalization=NORMALIZATIONS["cifar10"], classes=CLASS_LISTS["cifar10"])
ABC = Classes(names=("a", "b", "c"))
HAND = Answers(normalization=NORMALIZATIONS["half"], classes=ABC)
OPTIONS = ("--classes", "a,b,c", "--normalization", "half")
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
SYSTEM = f"{os.system.__module__}.system"


def cifar(whitening: Any) -> Answers:
    return Answers(classes=CLASS_LISTS["cifar10"], whitening=whitening)


def save_run(folder: Path, images: object = IMAGES, labels: object = LABELS, it: str = "best") -> Path:
    """Write a run as MTT does; bytes go to disk as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((f"images_{it}.pt", images), (f"labels_{it}.pt", labels)):
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            torch.save(content, folder / name)
    return folder


def save_zca_run(folder: Path) -> Path:
    """Write a run with --zca whose best iteration is 3; iteration 20 is another one, and sorts before it."""
    for it, shift in (("20", 0.5), ("3", 1.0), ("best", 1.0)):
        save_run(folder, IMAGES * shift, it=it)
    for it, shift in (("20", 0.125), ("3", 0.25)):
        torch.save(IMAGES * shift, folder / f"images_zca_{it}.pt")
    return folder


def torch_bytes(content: object, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def refusal(path: Path, answers: Answers) -> LaddError:
    with pytest.raises(LaddError) as error:
        prepare(MttConverter().read(path, answers), "refused")
    return error.value


def ladd(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["ladd", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
