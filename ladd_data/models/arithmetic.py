"""The arithmetic networks run in: float32 without TF32, and how many operations they take."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ladd_data.manifest import Network
from ladd_data.models import build_network


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


def count_flops(spec: Network) -> int:
    """Return the operations of one forward pass over one image; a multiply and an add count as two."""
    with torch.device("meta"):
        network: nn.Module = build_network(spec)
        image = torch.empty(1, spec.channels, spec.size, spec.size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops())
