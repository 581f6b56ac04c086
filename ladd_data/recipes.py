"""The deployment recipes of the papers, by method.

Source: `SOURCES`; constants that a paper and its code give differently are the code's, at the commit that the
converter of that name states. A learning rate of null is the one that was learned with the images. Batch statistics,
normalisation and test pictures are the dataset's: its manifest says them.
"""

from __future__ import annotations

from ladd_data.recipe import Augmentation, BatchRule, Optimizer, Recipe, Schedule

DSA = "color_crop_cutout_flip_scale_rotate"

_SGD = Optimizer(name="sgd", lr=0.01, momentum=0.9, weight_decay=5e-4)
_LEARNED = Optimizer(name="sgd", lr=None, momentum=0.9, weight_decay=5e-4)
_GLAD = Optimizer(
    name="sgd", lr=1e-3, lr_by_network={"vgg11": 1e-4, "vgg11-cifar": 1e-4}, momentum=0.9, weight_decay=5e-4
)
_ADAMW = Optimizer(name="adamw", lr=1e-3, weight_decay=0.01, decay_vectors=False)
_RDED = Optimizer(
    name="adamw",
    lr=1e-3,
    lr_by_network={
        "alexnet": 1e-4,
        "vgg11": 5e-4,
        "torchvision:efficientnet_b0": 2e-3,
        "torchvision:mobilenet_v2": 2.5e-3,
        "torchvision:swin_v2_t": 1e-4,
        "torchvision:vit_b_16": 1e-4,
    },
    weight_decay=0.01,
    decay_vectors=False,
)
_GIFT = Optimizer(name="adamw", lr=1e-3, weight_decay=1e-4)

_HALF = Schedule(kind="step", at=(0.5,), factor=0.1)
_THIRDS = Schedule(kind="step", at=(2 / 3, 5 / 6), factor=0.2)
_WARM = Schedule(kind="warmup-cosine", warmup=0.5)
_COSINE, _HALF_COSINE = Schedule(kind="cosine"), Schedule(kind="half-cosine")
_TAIL = Schedule(kind="step", at=(0.8, 0.9, 0.95), factor=0.5)

_DSA, _REPLAY = Augmentation(dsa=DSA), Augmentation(replay=True)
_BY_IPC = BatchRule(by="ipc", sizes=((1, 10), (10, 50), (50, 100)))
_BY_IMAGES = BatchRule(by="images", sizes=((10, 10), (500, 50), (20000, 100), (20001, 200)))

_GLAD_TRAINING = Recipe(
    loss="hard-ce",
    optimizer=_GLAD,
    schedule=_WARM,
    epochs=1000,
    batch_size=256,
    augmentation=_DSA,
    ema=0.995,
    ema_every="epoch",
    ema_warmup=True,
    source="GLaD",
)
_DSA_TRAINING = Recipe(
    loss="hard-ce", optimizer=_SGD, schedule=_HALF, epochs=1000, batch_size=256, augmentation=_DSA, source="DSA, DM"
)
_SRE2L = Recipe(
    loss="kl",
    views_per_step=1,
    temperature=20.0,
    optimizer=_ADAMW,
    schedule=_COSINE,
    epochs=300,
    batch_size=1024,
    augmentation=_REPLAY,
    source="SRe2L",
)
_GVBSM = Recipe(
    loss="mse-ce",
    views_per_step=1,
    hard_weight=0.1,
    optimizer=_ADAMW,
    schedule=_COSINE,
    epochs=300,
    batch_size=1024,
    augmentation=_REPLAY,
    source="G-VBSM",
)
_GIFT_TRAINING = Recipe(
    loss="gift",
    target="image",
    gift="paper",
    gift_weight=0.1,
    smoothing=0.1,
    optimizer=_GIFT,
    schedule=_THIRDS,
    epochs=1000,
    batch_rule=_BY_IMAGES,
    augmentation=Augmentation(dsa=DSA, dsa_per_image=True),
    source="GIFT",
)


def _change(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update=changes)


RECIPES: dict[str, Recipe] = {
    "ladd": _change(_GLAD_TRAINING, loss="ladd", view_reduction="sum", source="LADD"),
    "hard-labels": _change(_GLAD_TRAINING, source="LADD, baseline"),
    "glad": _GLAD_TRAINING,
    "mtt": Recipe(
        loss="hard-ce", optimizer=_LEARNED, schedule=_HALF, epochs=1000, batch_size=256, augmentation=_DSA, source="MTT"
    ),
    "datm": Recipe(
        loss="soft-ce",
        target="image",
        optimizer=_LEARNED,
        schedule=_HALF,
        epochs=1000,
        batch_size=128,
        augmentation=_DSA,
        source="DATM",
    ),
    "dc": Recipe(loss="hard-ce", optimizer=_SGD, schedule=_HALF, epochs=300, batch_size=256, source="DC"),
    "dsa": _DSA_TRAINING,
    "dm": _DSA_TRAINING,
    "idc": Recipe(
        loss="hard-ce",
        optimizer=_SGD,
        schedule=_THIRDS,
        epochs=1000,
        batch_size=64,
        augmentation=Augmentation(dsa="color_crop_flip_scale_rotate", dsa_always=True, cutmix=1.0, mix_share=0.5),
        source="IDC",
    ),
    "rded": Recipe(
        loss="kl",
        views_per_step=1,
        temperature=20.0,
        optimizer=_RDED,
        schedule=_HALF_COSINE,
        epochs=300,
        batch_rule=_BY_IPC,
        augmentation=Augmentation(cutmix=1.0, crop_scale=(0.5, 1.0), flip=True, patch_shuffle=2),
        online_labels=True,
        source="RDED",
    ),
    "sre2l": _SRE2L,
    "cda": _change(_SRE2L, batch_size=128, source="CDA"),
    "gvbsm": _GVBSM,
    "edc": _change(_GVBSM, hard_weight=0.025, schedule=_HALF_COSINE, batch_size=100, source="EDC"),
    "edc-cifar": Recipe(
        loss="mse-ce",
        views_per_step=1,
        hard_weight=0.025,
        optimizer=_ADAMW,
        schedule=_TAIL,
        epochs=1000,
        batch_rule=_BY_IPC,
        augmentation=Augmentation(cutmix=1.0, crop_scale=(0.08, 1.0), flip=True),
        ema=0.99,
        online_labels=True,
        source="EDC, CIFAR",
    ),
    "gift": _GIFT_TRAINING,
    "gift-code": _change(_GIFT_TRAINING, gift="code", source="GIFT, code"),
    "hello": Recipe(
        loss="mse-ce",
        views_per_step=1,
        hard_weight=0.025,
        optimizer=_ADAMW,
        schedule=_HALF_COSINE,
        epochs=300,
        batch_size=100,
        augmentation=Augmentation(cutmix=1.0),
        online_labels=True,
        source="HeLlO",
    ),
}
"""By name; converters take theirs from here."""

SOURCES: dict[str, str] = {
    "ladd": "LADD, Eq. 5 (loss), Sec. 4.1 (1,000 epochs; rates, decay and augmentation of GLaD); the rest is `glad`.",
    "hard-labels": "LADD's baseline: `glad`, for any dataset.",
    "glad": "GLaD utils.py `evaluate_synset` (schedule, EMA once an epoch, its warm-up), glad_utils.py `get_eval_lrs`.",
    "mtt": "MTT utils.py `evaluate_synset`; the learned rate is not in its files and begins at 0.01.",
    "datm": "DATM utils_baseline.py (soft CE, both sides softmaxed), its configs (batch 128); rate from lr_*.pt.",
    "dc": "DC utils.py `evaluate_synset`, main.py (300 epochs); MNIST is augmented, the others are not.",
    "dsa": "DC utils.py and main.py: 1,000 epochs with DSA.",
    "dm": "DC main_DM.py: as `dsa`.",
    "idc": "IDC argument.py and train.py for CIFAR-10 (mix_p 0.5); augment.py: flip and colour always, one other.",
    "rded": "RDED argument.py, validation/main.py; its converter doubles batches for 100 and for 1,000 classes.",
    "sre2l": "SRe2L validate/train_FKD.sh and .py: T = 20 without T^2, no decay of vectors.",
    "cda": "As `sre2l`, with batches of 128 (SRe2L issue 27).",
    "gvbsm": "G-VBSM Branch_full_ImageNet_1k/train/train.sh: the temperature is passed on and not used.",
    "edc": "EDC Branch_full_ImageNet_1k/train/train.sh: --cos --st 2, which ends at a half; no EMA there.",
    "edc-cifar": "EDC Branch_CIFAR_10/train/train.sh: x0.5 at 800, 900, 950, EMA 0.99; its RandAugment is left out.",
    "gift": "GIFT, Sec. 4 (loss) and Table 11; weight decay from its code (1e-4). ImageNet-1k: 300 epochs.",
    "gift-code": "GIFT's released loss: t/|t| + 0.1 y/|y|, not re-normalised; the rest is `gift`.",
    "hello": "HeLlO supplement, Table 3; it states no schedule (RDED's is taken) and no decay (AdamW's 0.01).",
}
"""Where the constants come from, by name."""
