"""The processes of one training run: one alone, or those that torchrun started, which share each batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among its fellows: its number, how many there are, and its device."""

    number: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.number == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch, every `count`-th entry; it may be empty."""
        return batch[self.number :: self.count]

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network to train: itself, or one whose gradients are averaged over all processes."""
        if self.count == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)

    def add(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, on the CPU."""
        if self.count > 1:
            value = value.to(self.device)
            distributed.all_reduce(value)
        return value.cpu()

    def from_first(self, value: bytes | float | None) -> bytes | float | None:
        """Return what the first process has."""
        box = [value]
        if self.count > 1:
            distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


@contextmanager
def join_ranks(device: torch.device | str) -> Iterator[Ranks]:
    """Join the processes that torchrun started: gloo on CPUs, nccl on GPUs, one GPU each; alone without torchrun."""
    device = torch.device(device)
    if not under_torchrun():
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    ours = not distributed.is_initialized()
    if ours:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        if ours:
            distributed.destroy_process_group()


def under_torchrun() -> bool:
    """Tell whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def speaks() -> bool:
    """Tell whether this process is the one that prints: the first of torchrun's, or the only one."""
    return not under_torchrun() or os.environ.get("RANK") == "0"
