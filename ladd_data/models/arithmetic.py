"""The arithmetic networks run in: float32 without TF32, and how many operations they take."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from ladd_data.manifest import Network
from ladd_data.models import sketch_network


@contextmanager
def full_float32() -> Iterator[None]:
    """Run the block in true float32: no TF32 in matrix products or convolutions, no autotuned choice."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before


def library_versions() -> dict[str, str]:
    """Return the releases that decide the numbers: Python, torch, and ours."""
    names = ("torch", "ladd-data")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def device_name(device: torch.device | str) -> str:
    """Return what a device is, as `cpu` or `cuda (NVIDIA H200)`."""
    device = torch.device(device)
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def count_flops(spec: Network, *, allow_code: bool = False) -> int:
    """Return the operations of one forward pass over one image; a multiply and an add count as two."""
    network, image = _network_and_image(spec, allow_code)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops())


def count_training_flops(spec: Network, *, allow_code: bool = False) -> int:
    """Return the operations of one forward and one backward pass over one image, without the optimiser's step.

    Less than three forward passes: nobody needs the gradient of the first layer's input.
    """
    network, image = _network_and_image(spec, allow_code)
    # torch 2.15 counts the backward pass of a grouped convolution as if it had one group
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _conv_backward_flops})
    with counter, torch.enable_grad():
        logits = network(image)
        torch.autograd.backward(functional.cross_entropy(logits, logits.new_zeros(1, dtype=torch.int64)))
    return int(counter.get_total_flops())


def _conv_backward_flops(
    grad: list[int],
    images: list[int],
    weight: list[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    wanted: list[bool],
    out_shape: object,
) -> int:
    """Return the forward pass's operations once for the gradient of the input and once for that of the weights."""
    return int(conv_flop_count(images, weight, grad, transposed=transposed)) * sum(wanted[:2])


def _network_and_image(spec: Network, allow_code: bool) -> tuple[nn.Module, torch.Tensor]:
    network = sketch_network(spec, allow_code=allow_code)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    return network, torch.zeros(1, spec.channels, spec.size, spec.size, device=device)
