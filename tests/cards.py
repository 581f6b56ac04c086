"""Running the code of cards in a process that has `datasets` and no code of ours, for tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladd_data.types import F32, U8

ABSENT = ("ladd_data", "webdataset")
_RUNNER = """
import json, sys
for name in {absent!r}:
    sys.modules[name] = None
import numpy as np
blocks, target = json.load(open(sys.argv[1])), sys.argv[2]
for number, code in enumerate(blocks):
    found = {{}}
    print(code, file=sys.stderr)
    exec(compile(code, "card", "exec"), found)
    kept = {{name: np.asarray(found[name]) for name in ("image", "label", "probs", "soft", "present") if name in found}}
    kept["name"] = np.asarray(found["train"].features[{labels!r}[number]].names[found["label"]])
    if "crops" in found:
        kept["crops"] = np.stack([np.asarray(crop) for crop in found["crops"]])
    np.savez(f"{{target}}/{{number}}.npz", **kept)
assert not {{"torch", "torchvision"}} & set(sys.modules)
"""


@dataclass(frozen=True)
class Seen:
    """What a block of plain code left behind; arrays by the names that it gave them."""

    values: Mapping[str, np.ndarray]

    @property
    def probs(self) -> F32:
        return np.asarray(self.values["probs"])

    @property
    def image(self) -> U8:
        """The picture as uint8 [channels, height, width]."""
        rows = self.values["image"]
        return np.asarray(rows[None] if rows.ndim == 2 else rows.transpose(2, 0, 1))


def code_of(card: str) -> list[str]:
    """Return the Python blocks of a card."""
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def run_blocks(blocks: list[str], home: Path, variables: Mapping[str, str] | None = None) -> list[Seen]:
    """Run blocks of plain code, each by itself, in one process without our package, and return what they leave."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "blocks.json").write_text(json.dumps(blocks))
    labels = ["cls" if 'record["cls"]' in block else "label" for block in blocks]
    line = [sys.executable, "-c", _RUNNER.format(absent=ABSENT, labels=labels), str(home / "blocks.json"), str(home)]
    settings = {"HF_DATASETS_CACHE": str(home / "cache"), "HF_HUB_OFFLINE": "1", "USE_TORCH": "0", **(variables or {})}
    result = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, **settings})
    assert result.returncode == 0, result.stderr
    return [Seen(dict(np.load(home / f"{number}.npz"))) for number in range(len(blocks))]
