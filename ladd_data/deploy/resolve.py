"""From a recipe by name, or the dataset's own, to one with nothing left to fill in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import ByRecord, Manifest, Network
from ladd_data.recipe import BatchRule, Recipe
from ladd_data.recipes import RECIPES

T = TypeVar("T")

BASE = "ladd"
"""The recipe that fills gaps: LADD follows GLaD's training (Sec. 4.1), whatever made the images."""


def find_recipe(name: str | None, manifest: Manifest | None = None) -> Recipe:
    """Return a recipe by name; for None, the dataset's own.

    A recipe that names no optimiser says nothing about training (`ladd label` writes such): what it lacks is that of
    the recipe "ladd". Of another, what it lacks is not done.

    Raises:
        UsageError: the name is not known.
    """
    if name is not None:
        if name not in RECIPES:
            raise UsageError(f'recipe "{name}" is not known. {nearest(name, tuple(RECIPES))}')
        return RECIPES[name]
    if manifest is None:
        return RECIPES[BASE]
    own, base = manifest.recipe, RECIPES[BASE]
    gaps = ["optimizer", "schedule", "epochs"]
    if own.optimizer is None:
        gaps += ["augmentation", "ema"]
    filled: dict[str, Any] = {gap: getattr(base, gap) for gap in gaps if getattr(own, gap) is None}
    if "ema" in filled:
        filled |= {"ema_every": base.ema_every, "ema_warmup": base.ema_warmup}
    if own.batch_size is None and own.batch_rule is None:
        filled["batch_size"] = base.batch_size
    return own.model_copy(update=filled)


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return a recipe with fields changed.

    Args:
        recipe: what to change.
        settings: "field=value" or "field.field=value", as optimizer.lr=0.01, epochs=300, augmentation.dsa=flip_crop or
            ema=none. Values are JSON where they can be, else text.

    Raises:
        UsageError: there is no such field, or the value is not one that it takes.
    """
    document: dict[str, Any] = recipe.model_dump(mode="json")
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise UsageError(f"--set {setting}: expected FIELD=VALUE, such as optimizer.lr=0.01.")
        *parents, name = path.split(".")
        place = document
        for parent in parents:
            if not isinstance(place.get(parent, 0), dict | None):
                raise UsageError(f'--set {setting}: the recipe has no part "{parent}". {nearest(parent, list(place))}')
            place[parent] = place[parent] or {}
            place = place[parent]
        place[name] = _value(text)
        if path == "optimizer.lr":
            place["lr_by_network"] = {}
    try:
        return Recipe.model_validate_json(json.dumps(document))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UsageError(f"--set {where}: {problem['msg']}; found {problem['input']!r}.") from error


def resolve(recipe: Recipe, manifest: Manifest, network: Network) -> Recipe:
    """Return the recipe as it is run for a dataset and a network: learning rate and batch size are numbers.

    Raises:
        UsageError: the learning rate was learned with the images and is not in the dataset, something that a run
            needs is missing, or the recipe replays stored views and the dataset has none of its own.
    """
    for name in ("optimizer", "schedule", "epochs"):
        if getattr(recipe, name) is None:
            raise UsageError(f"the recipe says nothing of {name}. Take a whole one: --recipe {BASE}, or --set it.")
    _check_replay(recipe, manifest)
    optimizer = whole(recipe.optimizer)
    rate = optimizer.lr_by_network.get(network.name, optimizer.lr)
    rate = rate if rate is not None else manifest.distillation.learned_lr
    if not rate:
        raise UsageError(
            "the recipe takes the learning rate that was learned with the images, and this dataset does not hold it. "
            "Set one: --lr 0.01, where MTT and DATM begin."
        )
    update = {
        "optimizer": optimizer.model_copy(update={"lr": rate, "lr_by_network": {}}),
        "batch_size": recipe.batch_size or _batch_size(recipe.batch_rule, manifest),
        "batch_rule": None,
    }
    return recipe.model_copy(update=update)


def whole(part: T | None) -> T:
    """Return a part of a resolved recipe, where none is missing."""
    if part is None:
        raise UsageError("the recipe is not resolved: something that a run needs is missing.")
    return part


def _batch_size(rule: BatchRule | None, manifest: Manifest) -> int:
    if rule is None:
        raise UsageError("the recipe says no batch size. Set one: --batch-size 256.")
    images = manifest.images.count
    found = images if rule.by == "images" else -(-images // len(manifest.classes.names))
    size = next((size for most, size in rule.sizes if found <= most), rule.sizes[-1][1])
    return min(size, images)


def _check_replay(recipe: Recipe, manifest: Manifest) -> None:
    if recipe.augmentation is None or not recipe.augmentation.replay:
        return
    views = manifest.labels.views if manifest.labels is not None else None
    if isinstance(views, ByRecord):
        return
    found = "no dense labels" if views is None else f"views of the kind {views.kind}, the same for every image"
    raise UsageError(
        f"the recipe replays the crops that were stored with the labels, and this dataset has {found}. Take another "
        "--recipe, or say that its own views will do: --set augmentation.replay=false."
    )


def _value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
