"""Picture folders written by hand, as distillation programs write theirs."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladd_data import Answers, Classes, Converter, Distilled, LaddError, Pictures
from ladd_data.convert import convert, prepare
from ladd_data.converter import fill_in
from ladd_data.presets import NORMALIZATIONS

UPSTREAM = Path(__file__).parents[2] / "shared" / "upstream"
genuine = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"no genuine runs: {UPSTREAM} is absent")
ABC = Classes(names=("a", "b", "c"))
HAND = Answers(classes=ABC, normalization=NORMALIZATIONS["half"])
TEN = Classes(names=tuple("abcdefghij"))
SRE2L = "new{c:03d}/class{c:03d}_id{i:03d}.jpg"


def picture_bytes(
    seed: int = 0, size: tuple[int, int] = (16, 16), mode: str = "RGB", kind: str = "JPEG", **how: Any
) -> bytes:
    """Return a picture file of noise; `how` goes to Pillow's save."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **how)
    return out.getvalue()


def write_picture(path: Path, seed: int = 0, **how: Any) -> Path:
    """Write a picture, PNG or JPEG by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(seed, kind="PNG" if path.suffix.lower() == ".png" else "JPEG", **how))
    return path


def write_run(folder: Path, names: str = SRE2L, classes: Iterable[int] = range(3), ipc: int = 2, **how: Any) -> Path:
    """Write a picture for each class number c and id i, as `names` says."""
    for number, (c, i) in enumerate((c, i) for c in classes for i in range(ipc)):
        write_picture(folder / names.format(c=c, i=i), number, **how)
    return folder


def files_of(distilled: Distilled) -> list[Path]:
    """Return the picture file of each record, in order."""
    assert isinstance(distilled.images, Pictures)
    return [Path(distilled.images.file(number)) for number in range(len(distilled.labels))]


def refusal(converter: Converter, path: Path, answers: Answers, tmp_path: Path) -> str:
    """Return why a run is refused; it is one line, and nothing was written."""
    target = tmp_path / "refused"
    with pytest.raises(LaddError) as error:
        convert(prepare(converter.read(path, fill_in(converter, answers)), "refused"), target)
    assert "\n" not in str(error.value)
    assert not target.exists()
    return str(error.value)
