"""Low-rank layers beside the layers of a network that stays as it is: LoRA, for convolutions and linear layers.

Names and shapes in the file are those of peft (`base_model.model.LAYER.lora_A.weight`), so that peft reads it. peft
itself is not used: it needs transformers and accelerate, for the sixty lines here.

Source: Hu et al., LoRA (2106.09685), Sec. 4.1; peft 0.21, tuners/lora/layer.py, for convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ladd_data.manifest_projector import Adapters
from ladd_data.shards.projectors import ADAPTER


class Adapted(nn.Module):
    """A layer and a low-rank one beside it: base(x) + B(A(x)) * alpha / rank; B begins at 0."""

    lora_A: nn.Module
    lora_B: nn.Module

    def __init__(self, base: nn.Conv2d | nn.Linear, wanted: Adapters) -> None:
        """Wrap a layer, whose own weights no longer change."""
        super().__init__()
        self.base, self.scale = base, wanted.alpha / wanted.rank
        first: nn.Conv2d | nn.Linear
        second: nn.Conv2d | nn.Linear
        if isinstance(base, nn.Conv2d):
            form = (base.kernel_size, base.stride, base.padding, base.dilation)
            first = nn.Conv2d(base.in_channels, wanted.rank, *form, bias=False)  # type: ignore[arg-type]
            second = nn.Conv2d(wanted.rank, base.out_channels, 1, bias=False)
        else:
            first = nn.Linear(base.in_features, wanted.rank, bias=False)
            second = nn.Linear(wanted.rank, base.out_features, bias=False)
        nn.init.kaiming_uniform_(first.weight, a=math.sqrt(5))
        nn.init.zeros_(second.weight)
        self.lora_A, self.lora_B = first, second

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what both layers give."""
        result: Tensor = self.base(inputs) + self.lora_B(self.lora_A(inputs)) * self.scale
        return result


def adapt(network: nn.Module, wanted: Adapters) -> list[str]:
    """Freeze a network, put adapters beside its layers, and return the names of these layers, in order.

    Layers are its `nn.Conv2d` of one group and its `nn.Linear`, of just these types.
    """
    network.requires_grad_(False)
    layers = {name: layer for name, layer in network.named_modules() if _can_be_adapted(layer)}
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, Adapted(layer, wanted))
    return list(layers)


def adapter_tensors(network: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    """Return the adapters' weights by their names in the file; of the network itself, not copies."""
    tensors: dict[str, Tensor] = {}
    for name in layers:
        adapted = network.get_submodule(name)
        tensors[f"{ADAPTER}{name}.lora_A.weight"] = adapted.get_parameter("lora_A.weight")
        tensors[f"{ADAPTER}{name}.lora_B.weight"] = adapted.get_parameter("lora_B.weight")
    return tensors


def copy_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Write values into a network's tensors; both have the same names and shapes."""
    with torch.no_grad():
        for name, values in target.items():
            values.copy_(source[name])


def _can_be_adapted(layer: nn.Module) -> bool:
    if type(layer) is nn.Conv2d:
        return layer.groups == 1 and layer.padding_mode == "zeros"
    return type(layer) is nn.Linear
