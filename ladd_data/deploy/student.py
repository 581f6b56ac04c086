"""A student: a network in training, with its augmentation and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from ladd_data.deploy.augmentation.augment import Augmenter
from ladd_data.deploy.augmentation.draws import Draws
from ladd_data.deploy.losses import Mixed
from ladd_data.deploy.options import Options
from ladd_data.errors import UsageError
from ladd_data.team import Team

Forward = Callable[[Tensor], Tensor]


class AugmentedStudent:
    """What a loss calls: augments the pictures of a pass, then runs the network on them.

    Draws depend on (seed, step, number of the picture among those that the step has of its image) alone: on neither
    how many share a pass, nor the process that runs it.
    """

    def __init__(
        self,
        forward: Forward,
        augmenter: Augmenter | None,
        options: Options,
        seed: int,
        device: torch.device,
        team: Team = Team(),  # noqa: B008 (frozen)
    ) -> None:
        """Take a network that is on the device, or what `compile_network` made of it."""
        self.augmenter, self.options, self.team = augmenter, options, team
        self.seed, self.device = seed, device
        self._forward = forward
        self.begin(0)

    def begin(self, step: int) -> None:
        """Begin a step, from 0."""
        self._step, self._first, self._each, self._next = step, 0, 1, 0
        self._loads = [0] * self.team.count

    def takes(self, pictures: int) -> bool:
        """Tell whether this process runs the pass that comes, of so many pictures of each image.

        The loss asks it of each pass, in order, on every process of the team; the least loaded one takes it.
        """
        self._first, self._each = self._next, pictures
        self._next += pictures
        rank = self._loads.index(min(self._loads))
        self._loads[rank] += pictures
        return rank == self.team.rank

    def __call__(self, pictures: Tensor, /) -> Tensor | Mixed:
        """Return logits [n, classes] of model input, float32 [n, channels, height, width]."""
        mixing = None
        if self.augmenter is not None:
            draws = Draws(self.seed, self._step, self._first, len(pictures), self.device, self._each)
            pictures, mixing = self.augmenter(pictures, draws)
        if self.options.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        if self.options.cuda_graphs:
            cast(Any, torch.compiler).cudagraph_mark_step_begin()  # the pass before is done, its backward, too
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            logits = self._forward(pictures)
        return logits if mixing is None else Mixed(logits, mixing.partner, mixing.share)


@contextmanager
def compiling(options: Options) -> Iterator[None]:
    """Run steps, some of which compile; say in one line why they cannot.

    Raises:
        UsageError: torch cannot compile the network here.
    """
    if not options.compiled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--compile: torch cannot compile this network here ({reason}). torch.compile needs a C++ compiler on a "
            "CPU, and Triton on a GPU; or leave --compile out."
        ) from error


def compile_network(network: nn.Module, options: Options) -> Forward:
    """Return what runs a network: itself, or its compiled form, which is compiled when it is first called."""
    if not options.compiled:
        return network
    mode = "reduce-overhead" if options.cuda_graphs else None
    return cast(Forward, cast(Any, torch.compile)(network, dynamic=False, mode=mode))
