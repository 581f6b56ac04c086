"""A student: a network in training, with its augmentation and its arithmetic."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ladd_data.deploy.augmentation.augment import Augmenter
from ladd_data.deploy.augmentation.draws import Draws
from ladd_data.deploy.losses import Mixed
from ladd_data.deploy.options import Options


class AugmentedStudent:
    """What a loss calls: augments the pictures of a pass, then runs the network on them.

    Draws depend on (seed, step, pass) alone, the passes of a step being numbered as they come.
    """

    def __init__(
        self, network: nn.Module, augmenter: Augmenter | None, options: Options, seed: int, device: torch.device
    ) -> None:
        """Wrap a network that is on the device."""
        self.network, self.augmenter, self.options = network, augmenter, options
        self.seed, self.device = seed, device
        self.step, self.passes = 0, 0
        self._run = cast(Any, torch.compile(network, dynamic=False)) if options.compiled else network

    def begin(self, step: int) -> None:
        """Begin a step, from 0."""
        self.step, self.passes = step, 0

    def __call__(self, pictures: Tensor, /) -> Tensor | Mixed:
        """Return logits [n, classes] of model input, float32 [n, channels, height, width]."""
        mixing = None
        if self.augmenter is not None:
            draws = Draws(self.seed, self.step, self.passes, len(pictures), self.device)
            pictures, mixing = self.augmenter(pictures, draws)
        self.passes += 1
        if self.options.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            logits = self._run(pictures)
        return logits if mixing is None else Mixed(logits, mixing.partner, mixing.share)
