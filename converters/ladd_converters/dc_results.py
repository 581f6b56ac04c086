"""The dictionary that DC's programs, and those built on them, leave: experiments and accuracies in one res_*.pt.

    {"data": [[images, labels], ...], "accs_all_exps": {model: [accuracy, ...]}}

Its accuracies are NumPy numbers. DC, DSA and DM add one pair an experiment, DataDAM one an evaluation, forks
one a snapshot: the file does not say which. Pairs are alternatives and are never put together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from ladd_converters.pairs import Facts, to_classes, to_images
from ladd_converters.torch_files import dense, read_torch, say_content
from ladd_data import Answers, ConvertError, UsageError

RESULT = re.compile(
    r"res_(?P<method>[A-Za-z0-9-]+)_(?P<dataset>[A-Za-z0-9-]+)_(?P<model>\w+?)_(?P<ipc>\d+)ipc(?P<tail>_?)\.pt"
)
"""res_<method>_<dataset>_<model>_<ipc>ipc.pt; DataDAM's names have one more underscore at the end."""


@dataclass(frozen=True, slots=True)
class Name:
    """What a result's file name says; None where it is not such a name."""

    method: str | None = None
    dataset: str | None = None
    model: str | None = None
    ipc: int | None = None

    @property
    def facts(self) -> Facts:
        """The parts, as `Distilled.read` keeps them."""
        parts: Facts = {
            "method_in_name": self.method,
            "dataset_in_name": self.dataset,
            "model_in_name": self.model,
            "ipc_in_name": self.ipc,
        }
        return {key: value for key, value in parts.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Result:
    """One pair of a result file.

    images: float32 [n, channels, height, width]. labels: int64 [n].
    read: which pair it is, and the accuracies beside it.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    read: Facts

    def note_ipc(self, name: Name) -> list[str]:
        """Return a note where the file does not hold as many images a class as its name says."""
        found = np.bincount(self.labels[self.labels >= 0]) if self.labels.size else np.zeros(1, np.int64)
        if name.ipc is None or set(found.tolist()) == {name.ipc}:
            return []
        held = f"{found.min()}" if found.min() == found.max() else f"{found.min()} to {found.max()}"
        return [f"The file's name says {name.ipc} images a class; it holds {held}."]


def parse_name(path: Path) -> Name:
    """Return what a result's file name says."""
    match = RESULT.fullmatch(path.name)
    return Name(match["method"], match["dataset"], match["model"], int(match["ipc"])) if match else Name()


def read_result(path: Path, answers: Answers) -> Result:
    """Read one pair of a result file: `answers.experiment`, or the last.

    Raises:
        UsageError: there is no such file or experiment.
        ConvertError: the file is something else, or the pair is not of images and class numbers.
    """
    content = read_torch(path)
    pairs = content.get("data") if isinstance(content, Mapping) else None
    expected = 'a dictionary with "data", a list of [images, labels]'
    if not isinstance(content, Mapping) or not isinstance(pairs, list | tuple) or "label" in content:
        raise ConvertError(f"{path}: found {say_content(content)}; expected {expected}.")
    if len(pairs) == 2 and all(isinstance(item, Tensor) for item in pairs):
        pairs = [pairs]  # DataDAM's syn_data_*.pt
    number = _choose(path, len(pairs), answers)
    pair = pairs[number]
    where = f'entry {number} of "data" is'
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(item, Tensor) for item in pair):
        raise ConvertError(f"{path}: found that {where} {say_content(pair)}; expected [images, labels].")
    read: Facts = {"experiments": len(pairs)}
    if answers.experiment is None:
        read["experiment"] = number
    images = to_images(path, dense(path, pair[0]), read)
    labels = to_classes(path, dense(path, pair[1]), read)
    read |= _accuracies(content.get("accs_all_exps"), number, len(pairs))
    return Result(images, labels, read)


def _choose(path: Path, count: int, answers: Answers) -> int:
    if not count:
        raise ConvertError(f'{path}: found no experiment in "data"; the run was stopped before its first result.')
    number = count - 1 if answers.experiment is None else answers.experiment
    if not 0 <= number < count:
        raise UsageError(f"{path}: holds {count} experiment(s), 0 .. {count - 1}; --experiment {number} is not one.")
    return number


def _accuracies(content: object, number: int, experiments: int) -> Facts:
    """Return the mean accuracy by model: of this experiment where each has as many, or of all of them."""
    if not isinstance(content, Mapping):
        return {}
    own: dict[str, JsonValue] = {}
    all_: dict[str, JsonValue] = {}
    for model, values in list(content.items())[:100]:
        numbers = [float(value) for value in values if isinstance(value, int | float)] if _is_list(values) else []
        if not numbers or not all(map(math.isfinite, numbers)):
            continue
        each, rest = divmod(len(numbers), experiments)
        if each and not rest:
            part = numbers[number * each : (number + 1) * each]
            own[str(model)] = round(sum(part) / each, 6)
        else:
            all_[str(model)] = round(sum(numbers) / len(numbers), 6)
    facts: Facts = {"accuracy": own, "accuracy_of_all_experiments": all_}
    return {key: value for key, value in facts.items() if value}


def _is_list(values: object) -> bool:
    return isinstance(values, list | tuple)
