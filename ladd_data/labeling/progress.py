"""What an interrupted training run goes on from: one file beside the labeler, verified before it is trusted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ladd_data.errors import LabelError, UsageError
from ladd_data.files import write_atomically
from ladd_data.labeling.labeler import digest_weights
from ladd_data.manifest import Digest, NonNegative, Share

HEADER_KEY = "ladd_training_state"

Settings = dict[str, JsonValue]
"""Everything that decides the weights, by the name a person would know it by."""


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: Settings
    history: Annotated[tuple[Share, ...], Field(min_length=1)]
    seconds: NonNegative
    digest: Digest


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A run between two epochs.

    tensors: weights and optimiser state by name, on the CPU; history: held-out accuracy after each epoch done;
    seconds: wall time so far.
    """

    settings: Settings
    history: tuple[float, ...]
    seconds: float
    tensors: dict[str, Tensor]


def state_path(labeler: Path) -> Path:
    """Return the file that keeps the state of the run that will write `labeler`."""
    return labeler.with_name(f"{labeler.name}.state")


def write_state(path: Path, state: TrainingState) -> None:
    """Write a state atomically."""
    digest = _digest(state.settings, state.history, state.seconds, state.tensors)
    header = _Header(settings=state.settings, history=state.history, seconds=state.seconds, digest=digest)
    write_atomically(path, save(state.tensors, metadata={HEADER_KEY: header.model_dump_json()}))


def parse_state(path: Path, data: bytes, settings: Settings) -> TrainingState:
    """Turn a state file's bytes into the state of a run with these settings.

    Raises:
        LabelError: the file is damaged.
        UsageError: it is of a run with other settings; says which.
    """
    advice = "Start anew with --overwrite in place of --resume."
    try:
        length = int.from_bytes(data[:8], "little")
        header = _Header.model_validate_json(json.loads(data[8 : 8 + length])["__metadata__"][HEADER_KEY])
        tensors = load(data)
    except (SafetensorError, ValidationError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise LabelError(f"{path}: not a readable state of a training run ({reason}). {advice}") from error
    if header.digest != _digest(header.settings, header.history, header.seconds, tensors):
        raise LabelError(f"{path}: its digest is not that of its content: the file is damaged. {advice}")
    names = sorted(header.settings.keys() | settings.keys())
    changed = [name for name in names if header.settings.get(name) != settings.get(name)]
    if changed:
        pairs = [f"{name} was {_say(header.settings.get(name))}, is {_say(settings.get(name))}" for name in changed]
        raise UsageError(f"{path}: is of a run with other settings: {'; '.join(pairs)}. Set them back, or: {advice}")
    return TrainingState(header.settings, header.history, header.seconds, tensors)


def _digest(settings: Settings, history: tuple[float, ...], seconds: float, tensors: dict[str, Tensor]) -> str:
    body = json.dumps([settings, history, seconds, digest_weights(tensors)], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()


def _say(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
