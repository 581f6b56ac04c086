"""The deployment recipes of the papers' own code, by method.

Source: each repository's evaluation code at the commit its converter names; constants that a paper and its
code give differently are the code's. A learning rate of null is the one that was learned with the images.
"""

from __future__ import annotations

from ladd_data.recipe import Augmentation, Optimizer, Recipe, Schedule

DSA = "color_crop_cutout_flip_scale_rotate"

_SGD = Optimizer(name="sgd", lr=0.01, momentum=0.9, weight_decay=5e-4)
_LEARNED = Optimizer(name="sgd", lr=None, momentum=0.9, weight_decay=5e-4)
_ADAMW = Optimizer(name="adamw", lr=1e-3, weight_decay=0.01, decay_vectors=False)
_HALF = Schedule(kind="step", at=(0.5,), factor=0.1)
_DSA = Augmentation(dsa=DSA)

RECIPES: dict[str, Recipe] = {
    "mtt": Recipe(
        loss="hard-ce", optimizer=_LEARNED, schedule=_HALF, epochs=1000, batch_size=256, augmentation=_DSA, source="MTT"
    ),
    "datm": Recipe(
        loss="soft-ce",
        optimizer=_LEARNED,
        schedule=_HALF,
        epochs=1000,
        batch_size=128,
        augmentation=_DSA,
        source="DATM",
    ),
    "dc": Recipe(loss="hard-ce", optimizer=_SGD, schedule=_HALF, epochs=300, batch_size=256, source="DC"),
    "dsa": Recipe(
        loss="hard-ce", optimizer=_SGD, schedule=_HALF, epochs=1000, batch_size=256, augmentation=_DSA, source="DSA, DM"
    ),
    "idc": Recipe(
        loss="hard-ce",
        optimizer=_SGD,
        schedule=Schedule(kind="step", at=(2 / 3, 5 / 6), factor=0.2),
        epochs=1000,
        batch_size=64,
        augmentation=Augmentation(dsa="color_crop_flip_scale_rotate", cutmix=1.0),
        source="IDC",
    ),
    "glad": Recipe(
        loss="hard-ce",
        optimizer=Optimizer(name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4),
        schedule=Schedule(kind="warmup-cosine", warmup=0.5),
        epochs=1000,
        batch_size=256,
        augmentation=_DSA,
        ema=0.995,
        source="GLaD",
    ),
    "rded": Recipe(
        loss="kl",
        temperature=20.0,
        optimizer=_ADAMW,
        schedule=Schedule(kind="half-cosine"),
        epochs=300,
        augmentation=Augmentation(cutmix=1.0, crop_scale=(0.5, 1.0), flip=True, patch_shuffle=2),
        source="RDED",
    ),
    "sre2l": Recipe(
        loss="kl",
        temperature=20.0,
        optimizer=_ADAMW,
        schedule=Schedule(kind="cosine"),
        epochs=300,
        batch_size=1024,
        augmentation=Augmentation(replay=True),
        source="SRe2L",
    ),
    "gvbsm": Recipe(
        loss="mse-ce",
        hard_weight=0.1,
        optimizer=Optimizer(name="adamw", lr=1e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine"),
        epochs=300,
        batch_size=1024,
        augmentation=Augmentation(replay=True),
        source="G-VBSM",
    ),
}
"""By the name of the converter whose methods were evaluated so."""
