"""The projector as a network: a known architecture with plain weights, adapters beside its layers, a linear head."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from ladd_data.errors import LabelError, UsageError
from ladd_data.manifest import Affine, Network
from ladd_data.manifest_projector import Head, Projector
from ladd_data.models.arithmetic import full_float32
from ladd_data.models.elsewhere import build_from_timm
from ladd_data.projector.adapters import adapt, adapter_tensors, copy_tensors
from ladd_data.views.device import apply_affine

EXTRA = 'timm is not installed: run "pip install ladd-data[projector]".'
VIEWS_AT_ONCE = 256
"""Views of one forward pass; it bounds memory, and is part of what makes labels equal bit by bit."""


class ProjectorNetwork(nn.Module):
    """Views in, logits out."""

    def __init__(self, spec: Projector, backbone: nn.Module, base: Tensor | None, classes: int) -> None:
        """Put adapters and head upon a backbone whose weights are loaded; `base`: the head's W, or None for zeros."""
        super().__init__()
        self.spec, self.backbone = spec, backbone.eval()
        self.layers = adapt(backbone, spec.adapters)
        self.head = _Head(spec.head, spec.backbone.features, classes, base)

    def forward(self, pixels: Tensor, affine: Affine | None = None) -> Tensor:
        """Return logits, float32 [batch, classes].

        Args:
            pixels: [batch, channels, height, width], 0..255 scale; one channel is taken three times.
            affine: pixel to backbone input; None for that of the dataset's stored pixels.
        """
        result: Tensor = self.head(self.features(pixels, affine))
        return result

    def features(self, pixels: Tensor, affine: Affine | None = None) -> Tensor:
        """Return what the backbone makes of views, float32 [batch, features]."""
        return features_of(self.backbone, pixels, affine or self.spec.input, self.spec.backbone.size)

    def label(self, pixels: Tensor) -> Tensor:
        """Return the logits of views, float32 [batch, views, classes], of [batch, views, channels, height, width]."""
        flat = pixels.flatten(0, 1)  # [batch * views, channels, height, width]
        with torch.no_grad(), full_float32(), torch.autocast(pixels.device.type, enabled=False):
            parts = [self(part) for part in torch.split(flat, VIEWS_AT_ONCE)]
        return torch.cat(parts).reshape(*pixels.shape[:2], -1)

    def train(self, mode: bool = True) -> ProjectorNetwork:
        """Change nothing: batch statistics stay those of the backbone, and nothing is dropped."""
        return self

    def stored_tensors(self) -> dict[str, Tensor]:
        """Return what is learned, by its names in the file; of the network itself, not copies."""
        return adapter_tensors(self.backbone, self.layers) | self.head.stored_tensors()

    def dump(self) -> bytes:
        """Return the bytes of projector.safetensors, and round the network to what they say."""
        dtype = {"float32": torch.float32, "float16": torch.float16}[self.spec.dtype]
        own = self.stored_tensors()
        tensors = {name: value.detach().to("cpu", dtype, copy=True).contiguous() for name, value in own.items()}
        copy_tensors(tensors, own)
        return save(tensors)


class _Head(nn.Module):
    base: Tensor

    def __init__(self, spec: Head, features: int, classes: int, base: Tensor | None) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("base", torch.zeros(classes, features) if base is None else base.to(torch.float32))
        self.first, self.second = nn.Linear(features, spec.rank, bias=False), nn.Linear(spec.rank, classes)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, features: Tensor) -> Tensor:
        if self.spec.unit_features:
            features = functional.normalize(features, dim=-1)
        logits: Tensor = functional.linear(features, self.base) + self.second(self.first(features))
        return logits / self.spec.temperature

    def stored_tensors(self) -> dict[str, Tensor]:
        weights = {"lora_A.weight": self.first.weight, "lora_B.weight": self.second.weight, "bias": self.second.bias}
        return {f"head.{name}": value for name, value in weights.items()}


def features_of(backbone: nn.Module, pixels: Tensor, affine: Affine, size: int) -> Tensor:
    """Return what a backbone of `size` px makes of views, 0..255 scale; one channel is taken three times."""
    inputs = apply_affine(affine, pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels)
    if inputs.shape[-2:] != (size, size):
        inputs = functional.interpolate(inputs, (size, size), mode="bilinear", align_corners=False)
    features: Tensor = backbone(inputs)
    return features


def build_backbone(name: str, outputs: int, size: int) -> nn.Module:
    """Return a backbone of timm's, freshly initialised; nothing is downloaded and no file is read.

    Raises:
        UsageError: timm is not installed, or has no such network.
    """
    try:
        importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(f"{name}: {EXTRA}") from error
    spec = Network.model_construct(name=name, width=None, classes=outputs, channels=3, size=size, options={})
    return build_from_timm(spec).eval()


def load_backbone(network: nn.Module, path: Path) -> None:
    """Load a backbone's public weights, a safetensors file; those of a last layer that it does not have are left.

    Raises:
        LabelError: it is no safetensors file, or the weights are of another network, or not finite.
    """
    weights = read_tensors(path)
    wanted = network.state_dict()
    spare = tuple(f"{name}." for name in _classifier_of(network))
    unknown = [name for name in weights if name not in wanted and not name.startswith(spare or ("\0",))]
    missing = [name for name in wanted if name not in weights and not name.endswith("num_batches_tracked")]
    if unknown or missing:
        found = f"has {unknown[0]}, which it does not" if unknown else f"lacks {missing[0]}"
        raise LabelError(f"{path}: weights of another network than the backbone: it {found}.")
    for name, values in weights.items():
        if name in wanted and values.shape != wanted[name].shape:
            found, expected = list(values.shape), list(wanted[name].shape)
            raise LabelError(f"{path}: {name} is {found}; expected {expected}, as the backbone's.")
    _refuse_infinite(weights, path)
    network.load_state_dict({name: values for name, values in weights.items() if name in wanted}, strict=False)


def load_head(path: Path, classes: int, features: int) -> Tensor:
    """Return the head's W, float32 [classes, features]: the one tensor of a safetensors file.

    Raises:
        LabelError: there is another number of tensors, or it has another shape.
    """
    tensors = read_tensors(path)
    if len(tensors) != 1:
        raise LabelError(f"{path}: {len(tensors)} tensors; expected one, [classes, features].")
    [values] = tensors.values()
    if values.shape != (classes, features) or not values.is_floating_point():
        found = f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
        raise LabelError(f"{path}: {found}; expected floats [{classes}, {features}]: classes, backbone's features.")
    _refuse_infinite(tensors, path)
    return values.to(torch.float32)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, in main memory.

    Raises:
        LabelError: it is none; no other kind of file is opened, as it could run code.
        UsageError: there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise LabelError(
            f"{path}: not a readable safetensors file ({said}). Others, pickles too, are not opened."
        ) from error


def load_weights(network: ProjectorNetwork, path: Path) -> None:
    """Load what a projector has learned.

    Raises:
        LabelError: the file is not of this network.
    """
    found, own = read_tensors(path), network.stored_tensors()
    for name in sorted(found.keys() | own.keys()):
        has, needs = (_shape_of(side.get(name)) for side in (found, own))
        if has != needs:
            raise LabelError(f"{path}: {name}: found {has}; expected {needs}, of {network.spec.backbone.name}.")
    _refuse_infinite(found, path)
    copy_tensors(found, own)


def sketch_backbone(name: str, outputs: int, size: int) -> tuple[int, int]:
    """Return (features, parameters) of a backbone, by a forward pass without numbers.

    Raises:
        UsageError: it is not known, or cannot take such images.
    """
    try:
        with torch.device("meta"):
            network = build_backbone(name, outputs, size)
    except NotImplementedError:
        network = build_backbone(name, outputs, size).to("meta")
    try:
        with torch.no_grad():
            features = network(torch.zeros(1, 3, size, size, device="meta"))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{name}: cannot take 3x{size}x{size} images ({said}). Choose another --size.") from error
    if not isinstance(features, Tensor) or features.dim() != 2:
        raise UsageError(f"{name}: gives no features [batch, features]. Choose another backbone.")
    return features.shape[1], sum(values.numel() for values in network.parameters())


def published(name: str) -> dict[str, Any]:
    """Return what timm says of a network's published weights: mean, std, input_size, num_classes, hf_hub_id.

    Raises:
        UsageError: timm is not installed, or has no such network.
    """
    with torch.device("meta"):
        network = build_backbone(name, 0, 224)
    return cast(dict[str, Any], network.pretrained_cfg)


def _classifier_of(network: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's last layer, as timm says them."""
    stated = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return (stated,) if isinstance(stated, str) else tuple(stated)


def _shape_of(values: Tensor | None) -> str:
    return "absent" if values is None else str(list(values.shape))


def _refuse_infinite(weights: Mapping[str, Tensor], path: Path) -> None:
    for name, values in weights.items():
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise LabelError(f"{path}: {name} holds NaN or infinity. Download it again.")
