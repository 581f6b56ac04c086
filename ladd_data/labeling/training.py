"""Train a labeler from scratch on real images (LADD, Sec. 3.2 and 4.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ladd_data.errors import LabelError
from ladd_data.labeling.labeler import LabelerDescription, TrainingRecord, save_labeler
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest import Affine, Classes, Network, Normalization
from ladd_data.models import build_network
from ladd_data.models.arithmetic import count_flops, full_float32, library_versions
from ladd_data.models.evaluation import accuracy
from ladd_data.pixels import natural_affine
from ladd_data.sources import ImageSet
from ladd_data.views.device import apply_affine

HELD_OUT = 10
"""Where no test set is given, every tenth picture is held out for the accuracy that is recorded."""


@dataclass(frozen=True, slots=True)
class LabelerPlan:
    """Everything that decides a labeler."""

    network: Network
    classes: Classes
    normalization: Normalization
    training: TrainingRecord


def train_labeler(
    plan: LabelerPlan,
    images: ImageSet,
    held_out: ImageSet | None,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    checkpoints: Path | None = None,
    on_epoch: Callable[[int, float, float], None] = lambda epoch, loss, accuracy: None,
) -> LabelerDescription:
    """Train a labeler and save it.

    Args:
        plan: network, classes, normalisation and training settings.
        images: real training pictures, labels in the plan's class order.
        held_out: pictures for the recorded accuracy; None takes every tenth of `images` out for it.
        out: the .safetensors file to write.
        device: where to train.
        checkpoints: a folder that gets `epoch-NNN.safetensors` after each epoch.
        on_epoch: told (epoch from 1, mean loss, held-out accuracy).

    Raises:
        LabelError: the loss is not finite.
    """
    if held_out is None:
        images, held_out = split_held_out(images)
    settings = plan.training
    torch.manual_seed(settings.seed)
    network = build_network(plan.network).to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    pixels, labels = torch.from_numpy(images.images).to(device), torch.from_numpy(images.labels).to(device)
    affine = natural_affine(plan.normalization)
    flops = 3 * count_flops(plan.network) * len(labels)  # a backward pass counts as two forward passes
    history: list[float] = []
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
    for epoch in range(settings.epochs):
        with full_float32():
            order = torch.from_numpy(epoch_order(len(labels), settings.seed, epoch)).to(device)
            batches = ((pixels[index], labels[index]) for index in torch.split(order, settings.batch_size))
            loss = _one_epoch(network, optimizer, affine, batches)
            history.append(accuracy(network, held_out.images, held_out.labels, affine, device))
        if not math.isfinite(loss):
            raise LabelError(f"epoch {epoch + 1}: the loss is {loss}. Train again, with a smaller --lr.")
        if checkpoints is not None:
            path = checkpoints / f"epoch-{epoch + 1:03d}.safetensors"
            save_labeler(path, network, _describe(plan, history, flops))
        on_epoch(epoch + 1, loss, history[-1])
    description = _describe(plan, history, flops)
    save_labeler(out, network, description)
    return description


def split_held_out(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return (every picture but each tenth, each tenth)."""
    held = np.arange(len(images.labels)) % HELD_OUT == HELD_OUT - 1
    return (
        replace(images, images=images.images[~held], labels=images.labels[~held]),
        replace(images, images=images.images[held], labels=images.labels[held]),
    )


def _one_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    affine: Affine,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> float:
    """Train on every batch once and return the mean loss."""
    network.train()
    total, count = 0.0, 0
    for pixels, labels in batches:
        loss = functional.cross_entropy(network(apply_affine(affine, pixels)), labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        total, count = total + float(loss.detach()) * len(labels), count + len(labels)
    return total / count


def _describe(plan: LabelerPlan, history: list[float], flops_per_epoch: int) -> LabelerDescription:
    return LabelerDescription(
        network=plan.network,
        classes=plan.classes,
        normalization=plan.normalization,
        training=plan.training,
        epochs_done=len(history),
        accuracy=history[-1] if history else None,
        history=tuple(history),
        training_flops=flops_per_epoch * len(history),
        libraries=library_versions(),
    )
