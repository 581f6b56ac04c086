"""The recipes as a page of Markdown, docs/recipes.md: one table, and where each constant comes from."""

from __future__ import annotations

from ladd_data.deploy.losses import loss_of
from ladd_data.recipe import Augmentation, Optimizer, Recipe, Schedule
from ladd_data.recipes import DSA, RECIPES, SOURCES

HEAD = """# Recipes

Made from `ladd_data/recipes.py` by `python docs/generate.py`; do not edit. `ladd train --list-recipes` lists them,
`ladd train --recipe rded --print` prints one whole; see [deployment](deployment.md).

z: the student's logits; t: the teacher's; y: the hard label; s: softmax; S_j: view j. The learning rate is multiplied
by the schedule, whose t is the share of epochs done. †: the method's teacher labels each augmented picture anew, which
stored labels cannot do.

| recipe | loss, mean over images | optimiser | schedule | epochs | batch | augmentation | average |
|---|---|---|---|---|---|---|---|
"""

_SCHEDULES = {
    "constant": "constant",
    "cosine": "(1 + cos πt) / 2",
    "half-cosine": "(1 + cos(πt/2)) / 2",
    "half-cosine-steep": "(1 + cos(πt/2)) / 2 to t = 5/6, then straight to 0",
}


def make_recipes_page() -> str:
    """Return the page."""
    rows = [_row(name, recipe) for name, recipe in RECIPES.items()]
    evidence = [f"- `{name}`: {SOURCES[name]}" for name in RECIPES]
    return HEAD + "\n".join([*rows, "", "## Where the constants come from", "", *evidence, ""])


def _row(name: str, recipe: Recipe) -> str:
    cells = [
        f"`{name}`",
        f"{loss_of(recipe).formula}".replace("|", "\\|") + (", one view a step" if recipe.views_per_step == 1 else ""),
        _optimizer(recipe.optimizer),
        _schedule(recipe.schedule),
        str(recipe.epochs),
        _batch(recipe),
        _augmentation(recipe.augmentation) + (" †" if recipe.online_labels else ""),
        _average(recipe),
    ]
    return f"| {' | '.join(cells)} |"


def _optimizer(optimizer: Optimizer | None) -> str:
    if optimizer is None:
        return "?"
    rate = "the learned rate" if optimizer.lr is None else f"{optimizer.lr:g}"
    rates = {
        lr: [name for name, own in optimizer.lr_by_network.items() if own == lr]
        for lr in optimizer.lr_by_network.values()
    }
    own = "".join(f", {lr:g} for {' and '.join(names)}" for lr, names in rates.items())
    momentum = f", momentum {optimizer.momentum:g}" if optimizer.momentum else ""
    decay = f", decay {optimizer.weight_decay:g}" + ("" if optimizer.decay_vectors else " of matrices")
    return f"{optimizer.name} {rate}{own}{momentum}{decay}"


def _schedule(schedule: Schedule | None) -> str:
    if schedule is None:
        return "?"
    if schedule.kind == "step":
        return f"× {schedule.factor:g} at " + ", ".join(f"{share:.3g}" for share in schedule.at)
    if schedule.kind == "warmup-cosine":
        return f"linear up to {schedule.warmup:g}, then cosine"
    return _SCHEDULES[schedule.kind]


def _batch(recipe: Recipe) -> str:
    rule = recipe.batch_rule
    if rule is None:
        return str(recipe.batch_size)
    sizes = "/".join(str(size) for _, size in rule.sizes)
    limits = "/".join(str(most) for most, _ in rule.sizes[:-1])
    return f"{sizes} up to {limits}/more {'images per class' if rule.by == 'ipc' else 'images'}"


def _augmentation(wanted: Augmentation | None) -> str:
    if wanted is None:
        return "none"
    strategy = "DSA" if wanted.dsa == DSA else f"DSA {wanted.dsa}"
    parts = [
        f"{wanted.patch_shuffle}×{wanted.patch_shuffle} patch shuffle" if wanted.patch_shuffle else "",
        f"random resized crop {wanted.crop_scale[0]:g} to {wanted.crop_scale[1]:g}" if wanted.crop_scale else "",
        f"crop with padding {wanted.crop_padding}" if wanted.crop_padding else "",
        "flip" if wanted.flip else "",
        strategy + (" per image" if wanted.dsa_per_image else "") + (" (IDC's way)" if wanted.dsa_always else "")
        if wanted.dsa
        else "",
        f"CutMix {wanted.cutmix:g}" if wanted.cutmix else "",
        f"MixUp {wanted.mixup:g}" if wanted.mixup else "",
        f"of {wanted.mix_share:.0%} of batches" if wanted.mix_share < 1 else "",
        "the stored crops" if wanted.replay else "",
    ]
    return ", ".join(part for part in parts if part)


def _average(recipe: Recipe) -> str:
    if not recipe.ema:
        return "no"
    return f"{recipe.ema:g} each {recipe.ema_every}" + (", warmed up" if recipe.ema_warmup else "")
