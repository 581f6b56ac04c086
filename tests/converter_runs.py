"""What tests of converters share: genuine runs, files written by hand, malicious ones, and the command line."""

from __future__ import annotations

import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ladd_data import Answers, Classes, Converter, LaddError
from ladd_data.cli import main
from ladd_data.convert import prepare
from ladd_data.converter import fill_in
from ladd_data.presets import NORMALIZATIONS

UPSTREAM = Path(__file__).parents[2] / "shared" / "upstream"
genuine = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"no genuine runs: {UPSTREAM} is absent")
ABC = Classes(names=("a", "b", "c"))
HAND = Answers(normalization=NORMALIZATIONS["half"], classes=ABC)
OPTIONS = ("--classes", "a,b,c", "--normalization", "half")
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
PLAIN = (IMAGES + 1) / 2
EVIL_KINDS = ("pickle", "pickle-4", "zip-global", "zip-reduce", "legacy-reduce", "beside-tensor", "in-dict")


class Reduce:
    """Runs a command when it is unpickled by something that trusts it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def torch_bytes(content: object, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def evil_bytes(kind: str, canary: Path) -> bytes:
    """Return a file that would write `canary` if anything in it were run."""
    evil = Reduce(f"touch '{canary}'")
    if kind.startswith("pickle"):
        return pickle.dumps(evil, protocol=4 if kind == "pickle-4" else 2)
    content: object = {
        "zip-global": os.system,
        "zip-reduce": evil,
        "legacy-reduce": evil,
        "beside-tensor": [IMAGES, evil],
        "in-dict": {"data": [[IMAGES, LABELS]], "accs_all_exps": {"ConvNet": [evil]}},
    }[kind]
    return torch_bytes(content, _use_new_zipfile_serialization=kind != "legacy-reduce")


def put(path: Path, content: object, **how: Any) -> Path:
    """Write a .pt file; bytes go to disk as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else torch_bytes(content, **how))
    return path


def read(converter: Converter, path: Path, answers: Answers) -> Any:
    """Read as the command line does: `dataset` filled in."""
    return converter.read(path, fill_in(converter, answers))


def refusal(converter: Converter, path: Path, answers: Answers) -> LaddError:
    """Return the refusal of a run; it must be one line that says where."""
    with pytest.raises(LaddError) as error:
        prepare(read(converter, path, answers), "refused")
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    return error.value


def ladd(monkeypatch: pytest.MonkeyPatch, converter: Converter, *arguments: str | Path) -> int:
    """Run the command line with one converter known, and return the exit code."""
    monkeypatch.setattr("ladd_data.converter.find_converter", lambda name: converter)
    monkeypatch.setattr(sys, "argv", ["ladd", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def check_evil(
    converter: Converter,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...] = OPTIONS,
) -> None:
    """Check that a run with a file of `evil_bytes(kind, tmp_path / "canary")` is refused and nothing of it runs."""
    code = ladd(monkeypatch, converter, "convert", converter.name, path, "-o", tmp_path / "out", *options)

    message = capsys.readouterr().err
    assert code == 1 and "Nothing in it was run" in message and "Traceback" not in message
    assert "system" in message or "protocol 4" in message
    assert not (tmp_path / "canary").exists() and not (tmp_path / "out").exists()
