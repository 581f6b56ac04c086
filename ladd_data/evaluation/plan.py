"""What an evaluation is to do, and what follows from it before anything is trained: runs, facts, refusals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ladd_data.dataset import Dataset
from ladd_data.errors import UsageError
from ladd_data.evaluation.arms import Arm, check_labelers, choose_arms, is_soft, without_soft_labels
from ladd_data.evaluation.inputs import RealImages, open_dataset, read_real, refuse_overlap
from ladd_data.evaluation.protocol import choose_networks, choose_optimizer
from ladd_data.evaluation.runs import Facts, Run
from ladd_data.labeling.labeler import LoadedLabeler, load_labeler
from ladd_data.manifest import Manifest, Network
from ladd_data.models.arithmetic import library_versions
from ladd_data.recipe import Recipe
from ladd_data.sources import ImageSet, Reading


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """How a set is tested.

    recipe: how students are trained.
    protocol: 5-cae, 4-cae, or networks' names with commas between.
    seeds: students a network, seeds 0, 1, ...
    optimizers: as "adam" or "sgd:0.05", in place of the recipe's own; none for the recipe's own alone.
    controls: also train without soft labels, and on random real images of the same count.
    width: channels of the blocks of ConvNets; 128 where left out.
    threads: that share one student's sums on a CPU, and so decide their last bits; None: what the earlier call that
        is continued had, else torch's choice.
    """

    recipe: Recipe
    protocol: str = "5-cae"
    seeds: int = 5
    optimizers: tuple[str, ...] = ()
    controls: bool = False
    width: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What an evaluation is given beside its plan; see `evaluate`."""

    dataset: Dataset | str | Path
    val: RealImages
    train: RealImages | None = None
    labelers: tuple[LoadedLabeler | str | Path, ...] = ()
    reading: Reading | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a rank needs to train any of the runs.

    facts: what all runs share; random_facts: what runs on random images share beside; asked: what was asked for.
    """

    dataset: Dataset
    val: ImageSet
    train: ImageSet | None
    labelers: tuple[LoadedLabeler, ...]
    device: torch.device
    runs: tuple[Run, ...]
    facts: Facts
    random_facts: Facts
    asked: Facts
    notes: tuple[str, ...]


def prepare(given: Given, plan: EvaluationPlan, device: torch.device) -> Prepared:
    """Open and read everything, and refuse what cannot be evaluated.

    Raises:
        UsageError, LaddError: as `evaluate`.
    """
    _check_plan(given, plan)
    dataset = open_dataset(given.dataset)
    manifest = dataset.manifest
    networks = choose_networks(plan.protocol, manifest, plan.width)
    optimizers = _choose_optimizers(plan)
    _check_soft_labels(manifest, plan.recipe)
    labelers = tuple(one if isinstance(one, LoadedLabeler) else load_labeler(Path(one), device) for one in given.labelers)
    if labelers:
        check_labelers(manifest, labelers)
    val = read_real(given.val, manifest, "--val", given.reading)
    train = None if given.train is None else read_real(given.train, manifest, "--train", given.reading)
    if train is not None:
        refuse_overlap(train, val)
    arms = choose_arms(plan.recipe, controls=plan.controls, train=train is not None, labelers=bool(labelers))
    runs = tuple(
        Run(network, name, arm, seed, without_soft_labels(recipe) if arm.endswith("hard") else recipe)
        for network in networks
        for name, recipe in optimizers
        for arm in arms
        for seed in range(plan.seeds)
    )
    facts: Facts = {
        "dataset": _describe_dataset(manifest),
        "val": _describe_images(val),
        "device": device.type,
        "libraries": library_versions(),
    }
    random_facts: Facts = {} if train is None else {"train": _describe_images(train)}
    random_facts |= {"labelers": [one.digest for one in labelers]} if labelers else {}
    asked = {
        "protocol": plan.protocol,
        "networks": [network.model_dump(mode="json", exclude_defaults=True) for network in networks],
        "recipe": plan.recipe.model_dump(mode="json", exclude_none=True),
        "optimizers": [name for name, _ in optimizers],
        "seeds": plan.seeds,
    }
    notes = _say_what_is_missing(plan, arms)
    return Prepared(dataset, val, train, labelers, device, runs, facts, random_facts, asked, notes)


def _check_plan(given: Given, plan: EvaluationPlan) -> None:
    if plan.seeds < 1 or (plan.threads is not None and plan.threads < 1):
        raise UsageError(f"--seeds {plan.seeds}, --threads {plan.threads}: expected 1 or more.")
    if not plan.controls and (given.train is not None or given.labelers):
        raise UsageError("--train and --labeler are for the controls: add --controls, or leave them out.")
    if given.labelers and given.train is None:
        raise UsageError("--labeler labels random images: say with --train where they are drawn from.")


def _choose_optimizers(plan: EvaluationPlan) -> tuple[tuple[str, Recipe], ...]:
    """Return the optimisers' names and the recipe under each."""
    own = plan.recipe.optimizer
    if not plan.optimizers:
        return ((own.name if own is not None else "sgd", plan.recipe),)
    chosen = [choose_optimizer(text, own) for text in plan.optimizers]
    names = [one.name for one in chosen]
    if len(set(names)) != len(names):
        raise UsageError(f"--optimizers {','.join(plan.optimizers)}: names one twice.")
    return tuple((one.name, plan.recipe.model_copy(update={"optimizer": one})) for one in chosen)


def _check_soft_labels(manifest: Manifest, recipe: Recipe) -> None:
    if is_soft(recipe) and manifest.labels is None:
        raise UsageError(
            f'the recipe\'s loss, {recipe.loss}, needs dense labels and this dataset has none. Run "ladd label" first.'
        )


def _say_what_is_missing(plan: EvaluationPlan, arms: tuple[Arm, ...]) -> tuple[str, ...]:
    if not plan.controls:
        return ()
    notes = []
    if "random-hard" not in arms:
        notes.append("No random images: --train does not say where to draw them from.")
    if is_soft(plan.recipe) and "random-soft" not in arms:
        notes.append("No random images with soft labels: they need --train and, with --labeler, the set's own labeler.")
    return tuple(notes)


def _describe_dataset(manifest: Manifest) -> Facts:
    labels = manifest.labels
    return {
        "name": manifest.name,
        "digest": manifest.digest,
        "images": manifest.images.count,
        "classes": len(manifest.classes.names),
        "method": manifest.distillation.method,
        "labels": None
        if labels is None
        else {
            "digest": labels.digest,
            "views": labels.views.model_dump(mode="json"),
            "coding": labels.coding.model_dump(mode="json"),
            "labelers": [one.weights_digest for one in labels.labelers],
        },
    }


def _describe_images(images: ImageSet) -> Facts:
    return {
        "source": images.name,
        "images": len(images.labels),
        "digest": images.digest(),
        "classes": "matched by name" if images.classes is not None else "taken in the order given",
    }
