"""A labeler on disk: one safetensors file with the weights and, in its header, the description.

Plain tensors and JSON: opening one runs no code of its author's. The header key is `ladd_labeler`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ladd_data.errors import LabelError, UsageError
from ladd_data.files import write_atomically
from ladd_data.manifest import Classes, Network, Normalization, Share
from ladd_data.models import build_network

HEADER_KEY = "ladd_labeler"


class TrainingRecord(BaseModel):
    """How a labeler was trained. Defaults are the paper's: SGD 0.01, batch 256, 10 epochs (LADD, Sec. 4.1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    epochs: Annotated[int, Field(ge=1)] = 10
    lr: Annotated[float, Field(gt=0)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Annotated[int, Field(ge=1)] = 256
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class LabelerDescription(BaseModel):
    """What a labeler says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = "1.0"
    network: Network
    classes: Classes
    normalization: Normalization
    training: TrainingRecord | None = None
    epochs_done: Annotated[int, Field(ge=0)]
    accuracy: Share | None = Field(default=None, description="On held-out real images, at this epoch.")
    history: tuple[Share, ...] = Field(default=(), description="Held-out accuracy after each epoch.")
    training_flops: Annotated[int, Field(ge=0)] | None = None
    libraries: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedLabeler:
    """A labeler ready to use: the network in eval mode, its description, and the digest of its weights."""

    network: nn.Module
    description: LabelerDescription
    digest: str


def save_labeler(path: Path, network: nn.Module, description: LabelerDescription) -> str:
    """Write a labeler atomically and return the digest of its weights."""
    weights = {name: value.detach().to("cpu").contiguous() for name, value in network.state_dict().items()}
    write_atomically(path, save(weights, metadata={HEADER_KEY: description.model_dump_json()}))
    return digest_weights(weights)


def load_labeler(path: Path, device: torch.device | str = "cpu") -> LoadedLabeler:
    """Open a labeler.

    Raises:
        UsageError: there is no such file.
        LabelError: not a labeler, damaged, of another shape than it says, or with weights that are not finite.
    """
    if not path.is_file():
        raise UsageError(f'{path}: no such file. "ladd train-labeler" makes one.')
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER_KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError) as error:
        raise LabelError(f"{path}: not a readable safetensors file ({error}). Train or download it again.") from error
    if header is None:
        raise LabelError(f'{path}: weights without a description (header key "{HEADER_KEY}"); not a ladd labeler.')
    try:
        description = LabelerDescription.model_validate_json(header)
        network = build_network(description.network)
        network.load_state_dict(weights)
    except ValidationError as error:
        raise LabelError(f"{path}: found a description that does not fit: {error.errors()[0]['msg']}.") from error
    except RuntimeError as error:
        raise LabelError(f"{path}: the weights do not fit {description.network.name}: {error}") from error
    bad = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise LabelError(f"{path}: weights {bad[0]} hold NaN or infinity. Train again, with a smaller --lr.")
    return LoadedLabeler(network.to(device).eval(), description, digest_weights(weights))


def digest_weights(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and little-endian values, in name order."""
    state = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].cpu().contiguous()
        head = json.dumps([name, str(value.dtype).removeprefix("torch."), list(value.shape)])
        state.update(head.encode() + b"\n" + value.numpy().tobytes())
    return state.hexdigest()
