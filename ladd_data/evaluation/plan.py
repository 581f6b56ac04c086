"""What an evaluation is to do, and what follows from it before anything is trained: runs, facts, refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch

from ladd_data.dataset import Dataset
from ladd_data.deploy.options import Options
from ladd_data.deploy.resolve import find_recipe
from ladd_data.deploy.train import describe_run
from ladd_data.errors import UsageError
from ladd_data.evaluation.arms import Arm, check_labelers, choose_arms, is_soft, without_soft_labels
from ladd_data.evaluation.inputs import RealImages, open_dataset, read_real, refuse_overlap
from ladd_data.evaluation.protocol import choose_networks, choose_optimizer
from ladd_data.evaluation.runs import Facts, Run
from ladd_data.labeling.labeler import LoadedLabeler, load_labeler
from ladd_data.manifest import Manifest, Network
from ladd_data.models.arithmetic import device_name, library_versions
from ladd_data.recipe import Recipe
from ladd_data.sources import ImageSet, Reading


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """How a set is tested.

    recipe: how students are trained, or a recipe's name; None for the dataset's own.
    protocol: 5-cae, 4-cae, or networks' names with commas between.
    seeds: students a network, seeds 0, 1, ...
    optimizers: as "adam" or "sgd:0.05", in place of the recipe's own; none for the recipe's own alone.
    controls: also train without soft labels, and on random real images of the same count.
    width: channels of the blocks of ConvNets; 128 where left out.
    threads: that share one student's sums on a CPU, and so decide their last bits; None: what the earlier call that
        is continued had, else torch's choice.
    options: the switches of LADD's Table 6, and how the arithmetic is done.
    """

    recipe: Recipe | str | None = None
    protocol: str = "5-cae"
    seeds: int = 5
    optimizers: tuple[str, ...] = ()
    controls: bool = False
    width: int | None = None
    threads: int | None = None
    options: Options = field(default_factory=Options)


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
    recipe = plan.recipe if isinstance(plan.recipe, Recipe) else find_recipe(plan.recipe, manifest)
    soft = is_soft(recipe, plan.options)
    networks, optimizers = choose_networks(plan.protocol, manifest, plan.width), _choose_optimizers(plan, recipe)
    labelers = tuple(_open_labeler(one, device) for one in given.labelers)
    if labelers:
        check_labelers(manifest, labelers)
    val = read_real(given.val, manifest, "--val", given.reading)
    train = None if given.train is None else read_real(given.train, manifest, "--train", given.reading)
    if train is not None:
        refuse_overlap(train, val)
    arms = choose_arms(soft=soft, controls=plan.controls, train=train is not None, labelers=bool(labelers))
    runs = _list_runs(dataset, val, plan, soft=soft, networks=networks, optimizers=optimizers, arms=arms, device=device)
    facts: Facts = {
        "dataset": _describe_dataset(manifest),
        "val": _describe_images(val),
        "device": device_name(device),
        "libraries": library_versions(),
    }
    random_facts: Facts = {} if train is None else {"train": _describe_images(train)}
    random_facts |= {"labelers": [one.digest for one in labelers]} if labelers else {}
    asked = {
        "protocol": plan.protocol,
        "networks": [network.model_dump(mode="json", exclude_defaults=True) for network in networks],
        "recipe_name": plan.recipe if isinstance(plan.recipe, str) else recipe.source or recipe.loss,
        "optimizers": [name for name, _ in optimizers],
        "seeds": plan.seeds,
    }
    notes = _say_what_is_missing(arms, soft=soft, controls=plan.controls)
    return Prepared(dataset, val, train, labelers, device, runs, facts, random_facts, asked, notes)


def _list_runs(
    dataset: Dataset,
    val: ImageSet,
    plan: EvaluationPlan,
    *,
    soft: bool,
    networks: tuple[Network, ...],
    optimizers: tuple[tuple[str, Recipe], ...],
    arms: tuple[Arm, ...],
    device: torch.device,
) -> tuple[Run, ...]:
    """Return all runs: by network, then optimiser, arm and seed; what cannot be trained is refused here."""
    runs: list[Run] = []
    for network, (name, recipe), arm in product(networks, optimizers, arms):
        hard = soft and arm.endswith("hard")
        used = without_soft_labels(recipe) if hard else recipe
        options = plan.options.model_copy(update=_AS_THE_LOSS) if hard else plan.options
        told = describe_run(dataset, network, used, val, options, device)
        how = (told.recipe, told.options, told.formula, told.passes)
        runs += [Run(network, name, arm, seed, *how) for seed in range(plan.seeds)]
    return tuple(runs)


_AS_THE_LOSS = {"full": None, "sub": None, "hard": None, "soft": None}
"""The switches of Table 6, all as the loss has them."""


def _check_plan(given: Given, plan: EvaluationPlan) -> None:
    if plan.seeds < 1 or (plan.threads is not None and plan.threads < 1):
        raise UsageError(f"--seeds {plan.seeds}, --threads {plan.threads}: expected 1 or more.")
    if plan.options.ranks_per_student > 1:
        raise UsageError("ranks_per_student: in an evaluation processes share students, not steps. Leave it out.")
    if not plan.controls and (given.train is not None or given.labelers):
        raise UsageError("--train and --labeler are for the controls: add --controls, or leave them out.")
    if given.labelers and given.train is None:
        raise UsageError("--labeler labels random images: say with --train where they are drawn from.")


def _open_labeler(given: LoadedLabeler | str | Path, device: torch.device) -> LoadedLabeler:
    return given if isinstance(given, LoadedLabeler) else load_labeler(Path(given), device)


def _choose_optimizers(plan: EvaluationPlan, recipe: Recipe) -> tuple[tuple[str, Recipe], ...]:
    """Return the optimisers' names and the recipe under each."""
    own = recipe.optimizer
    if not plan.optimizers:
        return ((own.name if own is not None else "none", recipe),)
    chosen = [choose_optimizer(text, own) for text in plan.optimizers]
    names = [one.name for one in chosen]
    if len(set(names)) != len(names):
        raise UsageError(f"--optimizers {','.join(plan.optimizers)}: names one twice.")
    return tuple((one.name, recipe.model_copy(update={"optimizer": one})) for one in chosen)


def _say_what_is_missing(arms: tuple[Arm, ...], *, soft: bool, controls: bool) -> tuple[str, ...]:
    if not controls:
        return ()
    notes = []
    if "random-hard" not in arms:
        notes.append("No random images: --train does not say where to draw them from.")
    if soft and "random-soft" not in arms:
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
