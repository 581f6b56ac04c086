"""A labeler on disk: one safetensors file with the weights and, in its header, the description.

Plain tensors and JSON: opening one runs no code of its author's. The header key is `ladd_labeler`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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
from ladd_data.manifest import Classes, Digest, Network, NonNegative, Normalization, Share
from ladd_data.models import build_network, is_code, sketch_network

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
    training_images: Annotated[int, Field(ge=1)] | None = None
    training_digest: Digest | None = Field(default=None, description="Over the decoded training pictures and labels.")
    epochs_done: Annotated[int, Field(ge=0)]
    accuracy: Share | None = Field(default=None, description="On held-out real images, at this epoch.")
    history: tuple[Share, ...] = Field(default=(), description="Held-out accuracy after each epoch.")
    training_flops: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Forward and backward passes so far; a multiply and an add count as two."
    )
    training_seconds: NonNegative | None = Field(default=None, description="Wall time so far, evaluation included.")
    training_device: str | None = Field(default=None, description="As cpu or cuda (NVIDIA H200).")
    ranks: Annotated[int, Field(ge=1)] = Field(default=1, description="Processes that shared each batch.")
    libraries: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedLabeler:
    """A labeler ready to use: the network in eval mode, its description, and the digest of its weights."""

    network: nn.Module
    description: LabelerDescription
    digest: str


def save_labeler(path: Path, network: nn.Module, description: LabelerDescription) -> str:
    """Write a labeler atomically and return the digest of its weights."""
    weights = copy_to_cpu(network.state_dict())
    write_atomically(path, save(weights, metadata={HEADER_KEY: description.model_dump_json()}))
    return digest_weights(weights)


def load_labeler(path: Path, device: torch.device | str = "cpu", *, network: str | None = None) -> LoadedLabeler:
    """Open a labeler.

    Args:
        path: the .safetensors file.
        device: where the network shall be.
        network: the network's name, said again. Needed where it is a `module:factory`: the file alone does not
            make that module be imported.

    Raises:
        UsageError: there is no such file, or it needs code that `network` does not name.
        LabelError: not a labeler, damaged, of another shape than it says, or with weights that are not finite.
    """
    description, weights = _read(path)
    name = description.network.name
    if network is not None and network != name:
        raise UsageError(f'{path}: its network is {name}, not "{network}".')
    if is_code(name) and network is None:
        raise UsageError(
            f"{path}: its network is {name}, code outside this package, which a file does not make run. "
            f'If you trust that code, name it yourself: "--arch {name}", or load_labeler(..., network="{name}").'
        )
    try:
        sketch = sketch_network(description.network, allow_code=True)
        _refuse_other_shapes(sketch.state_dict(), weights)  # before memory is taken for what the description claims
        module = build_network(description.network, allow_code=True)
        module.load_state_dict(weights)
    except UsageError as error:
        raise LabelError(f"{path}: {error}") from error
    except (RuntimeError, ValueError) as error:
        raise LabelError(f"{path}: the weights do not fit {name}: {error}") from error
    for tensor, value in weights.items():
        if not torch.isfinite(value).all():
            raise LabelError(f"{path}: weights {tensor} hold NaN or infinity. Train again, with a smaller --lr.")
    return LoadedLabeler(module.to(device).eval(), description, digest_weights(weights))


def copy_to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in main memory, none of which shares memory with another: what safetensors can write."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def digest_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and little-endian values, in name order."""
    state = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        head = json.dumps([name, str(value.dtype).removeprefix("torch."), list(value.shape)])
        state.update(head.encode() + b"\n")
        state.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def _read(path: Path) -> tuple[LabelerDescription, dict[str, Tensor]]:
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
        return LabelerDescription.model_validate_json(header), weights
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise LabelError(f"{path}: found a description that does not fit: {where}: {first['msg']}.") from error


def _refuse_other_shapes(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name in sorted(wanted.keys() | found.keys()):
        needs, has = ("absent" if name not in side else str(list(side[name].shape)) for side in (wanted, found))
        if needs != has:
            raise ValueError(f"{name} is {has}, expected {needs}")
