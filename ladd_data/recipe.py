"""How a dataset is meant to be trained on: loss, optimiser, schedule and augmentation, as data.

Part of the manifest, and so of the JSON Schema in spec/. Absent and null mean "not known".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(gt=0, le=4)]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Optimizer(_Part):
    """What turns gradients into steps."""

    name: Literal["sgd", "adam", "adamw"]
    lr: Positive | None = Field(default=None, description="null where the dataset's learned_lr is meant.")
    lr_by_network: dict[str, Positive] = Field(
        default_factory=dict, description="lr of the networks that have their own, by name, such as vgg11."
    )
    momentum: Share = 0.0
    weight_decay: NonNegative = 0.0
    decay_vectors: bool = Field(default=True, description="Whether biases and norm weights are decayed, too.")


class Schedule(_Part):
    """The learning rate over a run, as a share of the first: t runs from 0 to 1."""

    kind: Literal["constant", "step", "cosine", "half-cosine", "half-cosine-steep", "warmup-cosine"] = Field(
        description="cosine: (1 + cos(pi t)) / 2; half-cosine: (1 + cos(pi t / 2)) / 2, which ends at a half; "
        "half-cosine-steep: that until t = 5/6, then straight down to 0; "
        "warmup-cosine: linear from 0 over the share `warmup`, cosine over the rest."
    )
    at: tuple[Share, ...] = Field(default=(), description="step: the shares of the run at which `factor` applies.")
    factor: Positive | None = None
    warmup: Share = 0.0
    every: Literal["epoch", "step"] = Field(default="epoch", description="When t moves on.")


class Augmentation(_Part):
    """What is done to images on the way into the network; absent parts are not done."""

    dsa: str | None = Field(default=None, description="DSA's strategy, such as color_crop_cutout_flip_scale_rotate.")
    dsa_per_image: bool = Field(default=False, description="The operation is drawn per image, not once a batch.")
    dsa_always: bool = Field(
        default=False,
        description="flip and color are done first and cutout last, always, and one of the others is drawn (IDC).",
    )
    cutmix: Beta | None = Field(default=None, description="Beta of CutMix's draw.")
    mixup: Beta | None = Field(default=None, description="Alpha of MixUp's draw.")
    mix_share: Share = Field(default=1.0, description="Of the batches that are mixed.")
    crop_scale: tuple[Share, Share] | None = Field(default=None, description="Random resized crop: least, most area.")
    crop_padding: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    patch_shuffle: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Patches per side.")
    replay: bool = Field(default=False, description="Crops, flips and mixing are those stored with the labels.")


class BatchRule(_Part):
    """Batch sizes that follow the size of the dataset."""

    by: Literal["ipc", "images"] = Field(description="Images per class, or all images.")
    sizes: Annotated[tuple[tuple[Count, Count], ...], Field(min_length=1)] = Field(
        description="(up to this many, batch size), ascending; beyond the last, the last."
    )


class Recipe(_Part):
    """The loss these data are meant for. Reductions are fields because the field's codes differ in them."""

    loss: Literal["hard-ce", "ladd", "soft-ce", "kl", "mse", "mse-ce", "kl-ce", "soft-ce-ce", "gift", "topk-kl"]
    target: Literal["views", "image"] | None = Field(
        default=None, description="What the soft loss is of: views and their dense labels, or images and their own."
    )
    view_reduction: Literal["sum", "mean"] | None = None
    views_per_step: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Views of an image in one step, drawn anew each step; null for all."
    )
    image_reduction: Literal["mean"] = "mean"
    temperature: Positive | None = Field(default=None, description="Of student and teacher in kl; 1 elsewhere.")
    teacher_temperature: Positive | None = Field(
        default=None, description="Of the teacher, where it is not the student's; in soft-ce, of its labels."
    )
    temperature_squared: bool = Field(default=False, description="Whether kl is multiplied by temperature squared.")
    hard_weight: NonNegative | None = Field(default=None, description="Of the hard cross-entropy beside a soft loss.")
    smoothing: Share | None = Field(
        default=None, description="Share of the hard label that goes to all classes; in gift, to all others."
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Classes that topk-kl compares.")
    gift: Literal["paper", "code"] | None = Field(
        default=None, description="paper: (1 - g) soft + g hard; code: soft + g hard; both of length 1."
    )
    gift_weight: Share | None = Field(default=None, description="gift: the g of the hard label.")
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    batch_rule: BatchRule | None = Field(default=None, description="Of the batch size, where none is given.")
    augmentation: Augmentation | None = None
    ema: Share | None = Field(default=None, description="Decay of the average of weights that is tested.")
    ema_every: Literal["step", "epoch"] = Field(default="step", description="When the average is moved.")
    ema_warmup: bool = Field(default=False, description="The k-th update decays by min(ema, 1 - 1/k).")
    online_labels: bool = Field(
        default=False, description="Whether a teacher labelled each augmented picture anew: stored labels cannot."
    )
    source: str | None = None
