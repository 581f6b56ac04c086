"""Train a projector: what one or several labelers say of crops of real pictures, learned by adapters and head.

Source: HeLlO, supplement, A.4 and Table 2: MSE to the teachers' logits + 0.1 CE with the hard class, AdamW 5e-4, batch
256, 20 epochs. It does not say how several weak teachers are joined; the mean of their logits is learned here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ladd_data.dataset import Dataset
from ladd_data.errors import LabelError, UsageError
from ladd_data.label_writer import place_of_set
from ladd_data.labeling.labeler import LoadedLabeler, copy_to_cpu
from ladd_data.labeling.training.progress import Settings, TrainingState, parse_state, state_path, write_state
from ladd_data.labeling.training.train import split_held_out
from ladd_data.loaders.order import epoch_order
from ladd_data.manifest_projector import ProjectorRecord, ProjectorSet, RandomBoxes
from ladd_data.models.arithmetic import device_name, full_float32, library_versions
from ladd_data.pixels import natural_affine
from ladd_data.projector.adapters import copy_tensors
from ladd_data.projector.network import ProjectorNetwork
from ladd_data.projector.plan import Begun, ProjectorPlan, begin, describe_teachers
from ladd_data.projector.views import Cutting
from ladd_data.projector.write import Made, write_projector
from ladd_data.recipe import Recipe
from ladd_data.recipes import RECIPES
from ladd_data.sources import ImageSet
from ladd_data.views.device import apply_affine

OnEpoch = Callable[[int, float, float], None]
OnBatch = Callable[[int, int], None]
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, slots=True)
class TrainedProjector:
    """A projector in its place: what it says of itself, and the network, on the CPU, rounded as it is stored."""

    statement: ProjectorSet
    network: ProjectorNetwork


def train_projector(
    dataset: Dataset,
    name: str,
    plan: ProjectorPlan,
    teachers: list[LoadedLabeler],
    images: ImageSet,
    held_out: ImageSet | None = None,
    *,
    device: torch.device | str = "cpu",
    recipe: Recipe | None = None,
    overwrite: bool = False,
    resume: bool = False,
    on_epoch: OnEpoch = lambda epoch, loss, accuracy: None,
    on_batch: OnBatch = lambda done, total: None,
) -> TrainedProjector:
    """Train a projector and put it into a dataset's folder as a label set; no other file there changes but the card.

    After each epoch the state goes to `labels/.NAME.state`, which is removed at the end: a run that goes on from it
    gives the bytes that an uninterrupted one gives, on the same device type and libraries.

    Args:
        dataset: opened from its folder; its images are not looked at but for the golden labels.
        name: of the set.
        plan: backbone, ranks, head, training.
        teachers: labelers of the dataset's classes and size, in eval mode, on any device.
        images: real pictures, labels in the dataset's class order.
        held_out: pictures for the accuracy that is recorded; None takes every tenth of `images` out for it.
        device: where to train.
        recipe: what the labels are meant for; None for "hello" without its CutMix.
        overwrite: replace a projector of that name.
        resume: go on with a run that was cut short.
        on_epoch: told (epoch from 1, mean loss, held-out accuracy).
        on_batch: told (batches done, batches in all).

    Raises:
        UsageError: things do not go together, the set is there, or an unfinished run is and `resume` is not set.
        LabelError: the loss is not finite, or a file is not what it should be.
    """
    if held_out is None:
        images, held_out = split_held_out(images)
    target = place_of_set(dataset.folder.path, name)
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists already. Choose another --as, or add --overwrite to replace it.")
    stated = describe_teachers(teachers, dataset)
    target.parent.mkdir(exist_ok=True)
    state, scratch = state_path(target.with_name(f".{name}")), target.with_name(f".{name}.prototypes")
    if overwrite and not resume:
        state.unlink(missing_ok=True)
    try:
        begun = begin(plan, dataset, images, scratch)
        with full_float32():
            run = _Run(plan, begun, teachers, images, held_out, torch.device(device))
            run.resume(state, resume)
            for epoch in range(len(run.history), plan.training.epochs):
                loss = run.train(epoch, on_batch)
                if not math.isfinite(loss):
                    raise LabelError(f"epoch {epoch + 1}: the loss is {loss}. Train again, with a smaller --lr.")
                run.finish_epoch(state)
                on_epoch(epoch + 1, loss, run.history[-1])
        network = begun.network.to("cpu").requires_grad_(False)
        made = Made(plan.views, recipe or default_recipe(), stated, run.record())
        files = {"backbone": begun.backbone, "head": begun.head, "overwrite": overwrite}
        statement = write_projector(
            dataset,
            name,
            network,
            made,
            after=lambda: state.unlink(missing_ok=True),
            **files,  # type: ignore[arg-type]
        )
        return TrainedProjector(statement, network)
    finally:
        scratch.unlink(missing_ok=True)
        if not any(target.parent.iterdir()):
            target.parent.rmdir()


def default_recipe() -> Recipe:
    """Return what a projector's labels are meant for: HeLlO's recipe, but for CutMix after the labels are made."""
    return RECIPES["hello"].model_copy(update={"augmentation": None})


class _Run:
    """One training run: network, optimiser, pictures, and what has been measured."""

    def __init__(
        self,
        plan: ProjectorPlan,
        begun: Begun,
        teachers: list[LoadedLabeler],
        images: ImageSet,
        held_out: ImageSet,
        device: torch.device,
    ) -> None:
        self.plan, self.device, self.images, self.held_out = plan, device, images, held_out
        self.network = begun.network.to(device)
        self.teachers = [
            (teacher.network.to(device).eval(), natural_affine(teacher.description.normalization))
            for teacher in teachers
        ]
        settings = plan.training
        self.tensors = self.network.stored_tensors()
        self.optimizer = torch.optim.AdamW(self.tensors.values(), settings.lr, weight_decay=settings.weight_decay)
        self.affine = natural_affine(self.network.spec.backbone.normalization)
        self.cut = Cutting(RandomBoxes(least=settings.least, flip=settings.flip), *images.images.shape[2:])
        self.digest, self.history = images.digest(), list[float]()
        self.settings = self._settings(teachers, begun)
        self.began = time.perf_counter()

    def resume(self, path: Path, wanted: bool) -> None:
        """Take up the state of an interrupted run, if there is one.

        Raises:
            UsageError: there is one and it is not wanted, or it is of another run.
            LabelError: it is damaged.
        """
        if not path.is_file():
            return
        if not wanted:
            raise UsageError(
                f"{path}: an earlier run did not finish. Go on with --resume, or --overwrite what it left."
            )
        state = parse_state(path, path.read_bytes(), self.settings)
        copy_tensors(
            {n.removeprefix("own."): v for n, v in state.tensors.items() if n.startswith("own.")}, self.tensors
        )
        for name, parameter in self.tensors.items():
            kept = {moment: state.tensors[f"{moment}.{name}"] for moment in _MOMENTS}
            self.optimizer.state[parameter] = {n: v if n == "step" else v.to(self.device) for n, v in kept.items()}
        self.history, self.began = list(state.history), self.began - state.seconds

    def train(self, epoch: int, on_batch: OnBatch) -> float:
        """Train on a crop of every picture, epoch from 0, and return the mean loss."""
        settings = self.plan.training
        order = epoch_order(len(self.images.labels), settings.seed, epoch)
        steps = range(0, len(order), settings.batch_size)
        losses = []
        for number, start in enumerate(steps):
            rows = order[start : start + settings.batch_size]
            pixels = torch.from_numpy(self.images.images[rows]).to(self.device)
            crops = self.cut(pixels, [0], rows, settings.seed, epoch)[:, 0]
            classes = torch.from_numpy(self.images.labels[rows]).to(self.device)
            loss = self._loss(crops, classes)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimizer.step()
            losses.append(loss.detach() * len(rows))
            on_batch(number + 1, len(steps))
        return float(torch.stack(losses).sum()) / len(order)

    def finish_epoch(self, path: Path) -> None:
        """Measure the held-out accuracy, and write the state where epochs are left."""
        self.history.append(self._accuracy())
        if len(self.history) < self.plan.training.epochs:
            tensors = {f"own.{name}": value for name, value in self.tensors.items()}
            for name, parameter in self.tensors.items():
                moments = self.optimizer.state[parameter]
                tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS}
            seconds = time.perf_counter() - self.began
            write_state(path, TrainingState(self.settings, tuple(self.history), seconds, copy_to_cpu(tensors)))

    def record(self) -> ProjectorRecord:
        """Return what the run was."""
        return ProjectorRecord(
            settings=self.plan.training,
            images=len(self.images.labels),
            images_digest=self.digest,
            accuracy=self.history[-1],
            history=tuple(self.history),
            seconds=round(time.perf_counter() - self.began, 3),
            device=device_name(self.device),
            libraries=library_versions(),
        )

    def _loss(self, crops: Tensor, classes: Tensor) -> Tensor:
        """Return MSE + w CE for crops, float32 [batch, channels, height, width], 0..255 scale."""
        with torch.no_grad():
            said = [network(apply_affine(affine, crops)) for network, affine in self.teachers]
        target = torch.stack(said).mean(0)
        logits = self.network(crops, self.affine)
        hard: Tensor = functional.cross_entropy(logits, classes)
        return functional.mse_loss(logits, target) + self.plan.training.hard_weight * hard

    def _accuracy(self) -> float:
        images, labels = self.held_out.images, torch.from_numpy(self.held_out.labels)
        right = 0
        with torch.no_grad():
            for rows in torch.split(torch.arange(len(labels)), 256):
                pixels = torch.from_numpy(images[rows.numpy()]).to(self.device)
                found = self.network(pixels, self.affine).argmax(1).cpu()
                right += int((found == labels[rows]).sum())
        return right / len(labels)

    def _settings(self, teachers: list[LoadedLabeler], begun: Begun) -> Settings:
        """Return what must not change between the two halves of a run."""
        spec = begun.network.spec
        return {
            **{name.replace("_", "-"): v for name, v in self.plan.training.model_dump(mode="json").items()},
            "backbone": spec.backbone.model_dump(mode="json"),
            "adapters": spec.adapters.model_dump(mode="json"),
            "head": spec.head.model_dump(mode="json"),
            "teachers": [teacher.digest for teacher in teachers],
            "training images": self.digest,
            "held-out images": self.held_out.digest(),
            "device type": self.device.type,
            "torch": library_versions()["torch"],
        }
