"""How many views go through a labeler together: a pure function of the network, never of the machine's load.

A network's last bits may depend on the shape of the batch. So the shape follows from the network, the
views and the kind of device; where that does not fit into memory it is halved until it does, and the
number is written into the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ladd_data.errors import LabelError, UsageError
from ladd_data.manifest import Network

ACTIVATION_BYTES = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}
"""Largest layer output of one forward pass; on a CPU each thread runs passes of its own, and caches decide."""

MAX_VIEWS_PER_BATCH = 256
FREE_SHARE = 0.8
"""Share of a device's free memory that labeling may take where no limit is given."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one view costs in one forward pass: bytes, as float32, of the largest layer output and of the weights."""

    activation: int
    weights: int


def measure_footprint(network: nn.Module, spec: Network) -> Footprint:
    """Run one view through a labeler, look at every layer's output, and check what comes out.

    Args:
        network: any module from float32 [n, channels, size, size] to logits [n, classes], in eval mode.
        spec: its description.

    Raises:
        LabelError: what comes out is not [n, classes].
    """
    sizes: list[int] = []

    def note(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * 4)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    weight = next(network.parameters(), None)
    device, dtype = (weight.device, weight.dtype) if weight is not None else (torch.device("cpu"), torch.float32)
    try:
        with torch.inference_mode():
            view = torch.zeros(1, spec.channels, spec.size, spec.size, device=device, dtype=dtype)
            output = network(view)
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Tensor) or output.shape != (1, spec.classes):
        found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise LabelError(f"{spec.name}: gives {found} for one image; expected logits [1, {spec.classes}].")
    weights = sum(value.numel() * 4 for value in network.state_dict().values())
    return Footprint(max(sizes), weights)


def views_per_batch(footprint: Footprint, device: str) -> int:
    """Return how many views one forward pass takes at most on this kind of device ("cpu", "cuda")."""
    budget = ACTIVATION_BYTES.get(device, ACTIVATION_BYTES["cuda"])
    return max(1, min(MAX_VIEWS_PER_BATCH, budget // footprint.activation))


def fit_to_images(limit: int, views: int) -> int:
    """Return the size of a forward pass, at most `limit`: whole images where one fits, else an even part of one.

    So passes begin and end with images, and few of them need padding.
    """
    if limit >= views:
        return limit // views * views
    least = -(-views // limit)
    parts = min(range(least, 2 * least + 1), key=lambda count: (-(-views // count) * count, count))
    return -(-views // parts)


def fit_to_memory(limit: int, footprints: Sequence[Footprint], view_bytes: int, threads: int, memory: int) -> int:
    """Return `limit`, halved until the labelers' passes fit into `memory` bytes.

    Raises:
        UsageError: not even one view fits.
    """
    weights = sum(footprint.weights for footprint in footprints)
    one_view = 3 * max(footprint.activation for footprint in footprints) + 8 * view_bytes
    while limit > 1 and weights + threads * limit * one_view > memory:
        limit //= 2
    if weights + threads * limit * one_view > memory:
        need = (weights + threads * one_view) / 2**20
        found = f"one view at a time takes {need:.0f} MiB, {memory / 2**20:.0f} MiB may be used"
        raise UsageError(f"{found}: give more --memory.")
    return limit


def free_memory(device: torch.device) -> int:
    """Return the bytes that labeling may take on a device where nobody says how many."""
    if device.type == "cuda":
        return int(FREE_SHARE * torch.cuda.mem_get_info(device)[0])
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(FREE_SHARE * int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        return 4 * 2**30  # not Linux: what any machine has
