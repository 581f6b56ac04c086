"""Train a labeler from scratch on real images (LADD, Sec. 3.2 and 4.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ladd_data.errors import LabelError, UsageError
from ladd_data.labeling.labeler import LabelerDescription, TrainingRecord, copy_to_cpu, save_labeler
from ladd_data.labeling.progress import Settings, TrainingState, parse_state, state_path, write_state
from ladd_data.labeling.ranks import Ranks, join_ranks
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest import Classes, Network, Normalization
from ladd_data.models import build_network
from ladd_data.models.arithmetic import count_training_flops, device_name, full_float32, library_versions
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


@dataclass(frozen=True, slots=True)
class Keep:
    """What a run leaves on disk beside the labeler.

    checkpoints: a folder that gets `epoch-NNN.safetensors`; None keeps none.
    epochs: after which epochs, from 1; None is every one.
    resume: go on from the state that an interrupted run left beside the labeler, if there is one.
    """

    checkpoints: Path | None = None
    epochs: Collection[int] | None = None
    resume: bool = False

    def path(self, epoch: int) -> Path | None:
        """Return where the labeler of an epoch goes; None where it is not kept."""
        if self.checkpoints is None or (self.epochs is not None and epoch not in self.epochs):
            return None
        return self.checkpoints / f"epoch-{epoch:03d}.safetensors"


def train_labeler(
    plan: LabelerPlan,
    images: ImageSet,
    held_out: ImageSet | None,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    keep: Keep = Keep(),
    on_epoch: Callable[[int, float, float], None] = lambda epoch, loss, accuracy: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> LabelerDescription:
    """Train a labeler and save it.

    Under torchrun every process calls this; the batch stays what it is and is split over them, and the first one
    writes. After each epoch the state goes to `OUT.state`, which is removed at the end: a run that goes on from it
    gives the weights that an uninterrupted one gives, byte for byte on the same device type and libraries.

    Args:
        plan: network, classes, normalisation and training settings.
        images: real training pictures, labels in the plan's class order.
        held_out: pictures for the recorded accuracy; None takes every tenth of `images` out for it.
        out: the .safetensors file to write.
        device: where to train; under torchrun on GPUs each process takes its own.
        keep: which epochs are kept, and whether an interrupted run is continued.
        on_epoch: told (epoch from 1, mean loss, held-out accuracy), by every process.
        on_batch: told (batches done, batches in all).

    Raises:
        UsageError: the network is not known or cannot take the images, the state is of a run with other settings,
            or there is one and `keep.resume` is not set.
        LabelError: the loss is not finite, or the state is damaged.
    """
    if held_out is None:
        images, held_out = split_held_out(images)
    with join_ranks(device) as ranks, full_float32():
        run = _Run(plan, images, held_out, ranks)
        run.start(out, keep)
        for epoch in range(len(run.history), plan.training.epochs):
            loss = run.train(epoch, on_batch)
            if not math.isfinite(loss):
                raise LabelError(f"epoch {epoch + 1}: the loss is {loss}. Train again, with a smaller --lr.")
            run.finish_epoch(out, keep.path(epoch + 1))
            on_epoch(epoch + 1, loss, run.history[-1])
        description = run.describe()
        if ranks.first:
            save_labeler(out, run.network, description)
            state_path(out).unlink(missing_ok=True)
        return description


def split_held_out(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return (every picture but each tenth, each tenth).

    Raises:
        UsageError: there are fewer than ten.
    """
    held = np.arange(len(images.labels)) % HELD_OUT == HELD_OUT - 1
    if not held.any():
        raise UsageError(
            f"{images.name}: {len(held)} pictures are too few to hold a tenth out. Give test images: --val."
        )
    return (
        replace(images, images=images.images[~held], labels=images.labels[~held]),
        replace(images, images=images.images[held], labels=images.labels[held]),
    )


class _Run:
    """One training run in one process: network, optimiser, pictures, and what has been measured."""

    def __init__(self, plan: LabelerPlan, images: ImageSet, held_out: ImageSet, ranks: Ranks) -> None:
        self.plan, self.images, self.held_out, self.ranks = plan, images, held_out, ranks
        self.flops = count_training_flops(plan.network, allow_code=True) * len(images.labels)
        settings = plan.training
        torch.manual_seed(settings.seed)
        self.network = build_network(plan.network, allow_code=True).to(ranks.device)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.affine = natural_affine(plan.normalization)
        self.digest = images.digest()
        self.settings = self._settings()
        self.history: list[float] = []
        self.began = time.perf_counter()

    def start(self, out: Path, keep: Keep) -> None:
        """Take up the state of an interrupted run, or clear the place for a new one; then join the other ranks."""
        path = state_path(out)
        data = self.ranks.from_first(path.read_bytes() if self.ranks.first and path.is_file() else None)
        if isinstance(data, bytes) and not keep.resume:
            raise UsageError(
                f"{path}: an earlier run did not finish. Go on with --resume, or --overwrite what it left."
            )
        if isinstance(data, bytes):
            self._restore(parse_state(path, data, self.settings))
        if keep.checkpoints is not None and self.ranks.first:
            keep.checkpoints.mkdir(parents=True, exist_ok=True)
            for old in keep.checkpoints.glob("epoch-*.safetensors") if data is None else ():
                old.unlink()
        self.trained = self.ranks.wrap(self.network)
        pixels, device = torch.from_numpy(self.images.images), self.ranks.device
        fits = device.type != "cuda" or pixels.nbytes < torch.cuda.mem_get_info(device)[0] / 2
        self.pixels = pixels.to(device) if fits else pixels
        self.labels = torch.from_numpy(self.images.labels)

    def train(self, epoch: int, on_batch: Callable[[int, int], None]) -> float:
        """Train on every picture once, epoch from 0, and return the mean loss over all ranks."""
        settings, ranks = self.plan.training, self.ranks
        torch.manual_seed((settings.seed << 30) + (epoch + 1) * 2**14 + ranks.number)  # for dropout
        self.trained.train()
        order = torch.from_numpy(epoch_order(len(self.labels), settings.seed, epoch))
        batches = torch.split(order, settings.batch_size)
        losses = []
        for number, batch in enumerate(batches):
            losses.append(self._step(ranks.share(batch), len(batch)))
            on_batch(number + 1, len(batches))
        return float(ranks.add(torch.stack(losses).sum())) / len(order)

    def _step(self, mine: Tensor, whole: int) -> Tensor:
        """Take one step on this rank's part of a batch of `whole` pictures; return the sum of its losses."""
        weight = len(mine) * self.ranks.count / whole  # gradients are averaged over ranks: this makes it over pictures
        if not len(mine):
            mine = torch.zeros(1, dtype=torch.int64)  # all ranks must take part; weight is 0
        pixels = self.pixels[mine.to(self.pixels.device)].to(self.ranks.device)
        target = self.labels[mine].to(self.ranks.device)
        try:
            logits = self.trained(apply_affine(self.affine, pixels))
        except ValueError as error:
            said = f"{self.plan.network.name} cannot train on a batch of {len(mine)}: {error}"
            raise UsageError(f"{said} Choose another --batch-size, so that no epoch ends in so small a one.") from error
        loss = functional.cross_entropy(logits, target) * weight
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.detach() * (whole / self.ranks.count)

    def finish_epoch(self, out: Path, checkpoint: Path | None) -> None:
        """Measure the held-out accuracy, then write the checkpoint and the state."""
        share = 0.0
        if self.ranks.first:
            held_out = self.held_out
            share = accuracy(self.network, held_out.images, held_out.labels, self.affine, self.ranks.device)
        self.history.append(float(self.ranks.from_first(share) or 0))
        if not self.ranks.first:
            return
        if checkpoint is not None:
            save_labeler(checkpoint, self.network, self.describe())
        if len(self.history) < self.plan.training.epochs:
            seconds = time.perf_counter() - self.began
            state = TrainingState(self.settings, tuple(self.history), seconds, self._tensors())
            write_state(state_path(out), state)

    def describe(self) -> LabelerDescription:
        """Return the description of the labeler as it is now."""
        plan, history = self.plan, self.history
        return LabelerDescription(
            network=plan.network,
            classes=plan.classes,
            normalization=plan.normalization,
            training=plan.training,
            training_images=len(self.images.labels),
            training_digest=self.digest,
            epochs_done=len(history),
            accuracy=history[-1] if history else None,
            history=tuple(history),
            training_flops=self.flops * len(history),
            training_seconds=round(time.perf_counter() - self.began, 3),
            training_device=device_name(self.ranks.device),
            ranks=self.ranks.count,
            libraries=library_versions(),
        )

    def _settings(self) -> Settings:
        """Return what must not change between the two halves of a run."""
        plan = self.plan
        training = plan.training.model_dump(mode="json", exclude={"source"})
        return {
            **{name: value for name, value in plan.network.model_dump(mode="json").items() if name != "classes"},
            **{name.replace("_", "-"): value for name, value in training.items()},
            "classes": list(plan.classes.names),
            "normalization": plan.normalization.model_dump(mode="json"),
            "training images": self.digest,
            "held-out images": self.held_out.digest(),
            "device type": self.ranks.device.type,
            "ranks": self.ranks.count,
            "torch": library_versions()["torch"],
        }

    def _tensors(self) -> dict[str, Tensor]:
        """Return copies of the weights and of the optimiser's momentum."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        return copy_to_cpu(tensors)

    def _restore(self, state: TrainingState) -> None:
        weights = {name: value for name, value in state.tensors.items() if name.startswith("network.")}
        self.network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
        for name, parameter in self.network.named_parameters():
            if f"momentum.{name}" in state.tensors:
                momentum = state.tensors[f"momentum.{name}"].to(self.ranks.device)
                self.optimizer.state[parameter]["momentum_buffer"] = momentum
        self.history = list(state.history)
        self.began -= state.seconds
