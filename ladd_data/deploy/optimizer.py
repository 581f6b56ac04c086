"""Optimisers as recipes name them, and the average of weights that is tested."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ladd_data.errors import UsageError
from ladd_data.recipe import Optimizer, Recipe


def make_optimizer(network: nn.Module, wanted: Optimizer) -> torch.optim.Optimizer:
    """Return the optimiser of a network's parameters.

    SGD: torch's, with momentum. Adam: weight decay is added to the gradient. AdamW: weights shrink by lr * decay.
    Without `decay_vectors`, parameters of one dimension (biases, norms) are not decayed (SRe2L and RDED,
    `get_parameters`).

    Raises:
        UsageError: the learning rate is still to be filled in.
    """
    if wanted.lr is None:
        raise UsageError("the recipe has no learning rate. Set one: --lr 0.01.")
    groups = [{"params": list(network.parameters()), "weight_decay": wanted.weight_decay}]
    if not wanted.decay_vectors:
        vectors = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
        groups[0]["params"] = [parameter for parameter in network.parameters() if parameter.dim() > 1]
        groups.append({"params": vectors, "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    if wanted.name == "sgd":
        return torch.optim.SGD(groups, lr=wanted.lr, momentum=wanted.momentum)
    kind = torch.optim.Adam if wanted.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=wanted.lr)


class Average:
    """An exponential moving average of a network's parameters.

    average <- d * average + (1 - d) * parameters, where d is the decay, or min(decay, 1 - 1/k) at the k-th update
    with warm-up, so that the first updates are a plain mean (GLaD). Without warm-up it begins at the parameters as
    they are before training (EDC). Buffers, such as batch statistics, are not averaged: they are the network's.
    """

    def __init__(self, network: nn.Module, decay: float, *, warmup: bool = False) -> None:
        """Begin at the parameters as they are."""
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self._network = list(network.parameters())
        self._average = [parameter.detach().clone() for parameter in self._network]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the parameters as they are now."""
        self.updates += 1
        decay = min(self.decay, 1 - 1 / self.updates) if self.warmup else self.decay
        torch._foreach_lerp_(self._average, self._parameters(), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the network's parameters: once before a test, once after it."""
        for average, parameter in zip(self._average, self._network, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)

    def _parameters(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self._network]


def make_average(network: nn.Module, recipe: Recipe) -> Average | None:
    """Return the average that a recipe wants; None where the last weights are tested."""
    if recipe.ema is None or recipe.ema == 0:
        return None
    return Average(network, recipe.ema, warmup=recipe.ema_warmup)
