"""What a manifest says of dense labels: views, coding, who made them, how true they are. Typed models, no torch here.

The same models describe the labels in the records and those of a further label set (`label_set`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ladd_data.types import LabelSpace

MAX_VIEWS = 4096
"""Views an image may have."""
MAX_VIEW_SIDE = 4096
"""Pixels on a side of views that are not of their image's size."""
Resample = Literal["bilinear", "pillow-bilinear", "pillow-bicubic", "pillow13-bicubic"]
"""How a crop becomes a view (LADD-041, LADD-047)."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PerChannel = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class ManifestPart(BaseModel):
    """A piece of a manifest: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Affine(ManifestPart):
    """The model input of a stored pixel, per channel: value = scale * pixel + offset, in float32."""

    scale: PerChannel
    offset: PerChannel


class Grid(ManifestPart):
    """Views: n x n overlapping crops on a regular grid, each resized to the image's size (LADD, Sec. 3.1)."""

    kind: Literal["grid"] = "grid"
    n: Annotated[int, Field(ge=1, le=64)]
    ratio: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}/[1-9][0-9]{0,4}$")] = Field(
        description="Side of a crop as an exact fraction of the image's side, at most 1/1."
    )
    resample: Literal["bilinear"] = "bilinear"


class Full(ManifestPart):
    """One view: the whole image as it is."""

    kind: Literal["full"] = "full"


class ByRecord(ManifestPart):
    """What views given record by record have in common: `count` boxes in view_box and, with `flip`, view_flip."""

    kind: Literal["boxes", "mix"]
    count: Annotated[int, Field(ge=1, le=MAX_VIEWS)]
    flip: bool = Field(default=False, description="Whether view_flip is there: mirrored left to right, after resizing.")
    resample: Resample = Field(
        default="bilinear",
        description="pillow-*: rounded to whole numbers after each axis, as Pillow does with 8-bit pictures.",
    )


class Boxes(ByRecord):
    """Views given record by record in the columns view_box and, with `flip`, view_flip."""

    kind: Literal["boxes"] = "boxes"
    size: Annotated[int, Field(ge=1, le=MAX_VIEW_SIDE)] | None = Field(
        default=None, description="Side of the square views in pixels; null where they have the image's size."
    )


class Mix(ByRecord):
    """Views that mix two: a box of its own image, and another view pasted into it (CutMix) or blended with it (MixUp).

    The partner, in view_partner and view_partner_view, is another record's view before its own mixing.
    """

    kind: Literal["mix"] = "mix"
    cutmix: bool = Field(default=False, description="Whether view_mix_box is there: where the partner is pasted.")
    mixup: bool = Field(default=False, description="Whether view_mix_lambda is there: the share of the view's own.")


class Opaque(ManifestPart):
    """Views that labels were made of and that nobody can cut again: the labels are kept, without a golden view."""

    kind: Literal["opaque"] = "opaque"
    count: Annotated[int, Field(ge=1, le=MAX_VIEWS)]
    reason: Annotated[str, Field(min_length=1, max_length=500)] = Field(description="Why they cannot be cut.")


ViewSpec = Grid | Full | Boxes | Mix | Opaque
"""What views are."""
Views = Annotated[ViewSpec, Field(discriminator="kind")]


def count_views(views: ViewSpec) -> int:
    """Return the number of views per image."""
    if isinstance(views, Grid):
        return views.n**2
    return views.count if isinstance(views, ByRecord | Opaque) else 1


class Network(ManifestPart):
    """An architecture by name, with what it needs to be built."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="As convnet-d5, torchvision:resnet18, timm:NAME, or module:factory, which readers never import."
    )
    width: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Channels of each block of a convnet-*; null for networks of one width."
    )
    classes: Annotated[int, Field(ge=1)]
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=1)] = Field(description="Side of the square input in pixels.")
    options: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="Keyword arguments of a module:factory."
    )


class Labeler(ManifestPart):
    """The network that made the dense labels, and exactly what it was fed."""

    network: Network
    weights_digest: Digest
    input: Affine = Field(description="Labeler input of a view's 0..255 value, per channel.")
    epochs: Annotated[int, Field(ge=0)] | None = None
    accuracy: Share | None = Field(default=None, description="On the labeler's own held-out images.")
    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="float32 without TF32, or bfloat16 by autocast."
    )
    batch: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Views in each forward pass.")
    channels_last: bool = Field(default=False, description="Whether it computed in the memory format NHWC.")
    compiled: bool = Field(default=False, description="Whether torch.compile had compiled it.")
    device: str
    libraries: dict[str, str]
    labeling_flops: Annotated[int, Field(ge=0)] = Field(description="Multiply and add counted as two.")
    training_flops: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Forward and backward passes of its training, evaluation left out."
    )
    training_seconds: NonNegative | None = Field(default=None, description="Wall time of its training.")
    training_device: str | None = None
    training_libraries: dict[str, str] | None = None


class Ensemble(ManifestPart):
    """Labelers beside the first, where each view's label is what all of them say on average."""

    average: Literal["probs", "logits"] = Field(
        description="The mean of their probabilities, or the softmax of the mean of their logits."
    )
    others: Annotated[tuple[Labeler, ...], Field(min_length=1, max_length=64)]


class Certificate(ManifestPart):
    """Error of the stored labels against the labeler's float32 output, as probabilities at T = 1."""

    mean_tv: NonNegative
    max_tv: NonNegative
    mean_kl: NonNegative
    max_kl: NonNegative
    top1_agreement: Share


class GoldenView(ManifestPart):
    """One view whose pixels and label are written down, so that any loader can prove itself."""

    id: str
    view: Annotated[int, Field(ge=0)]
    pixels: Digest = Field(description="SHA-256 of the view: float32 little-endian [C,H,W], 0..255 scale.")
    top_class: Annotated[int, Field(ge=0)]
    top_prob: Share


class Coding(ManifestPart):
    """How soft labels are stored; decides the columns."""

    encoding: Literal["dense", "q8", "q4", "topk"] = "dense"
    space: LabelSpace = Field(default="log_probs", description="What the numbers are; log_probs if not dense.")
    dtype: Literal["float16", "float32", "bfloat16"] = Field(
        default="float16", description="Of a dense column; float16 for the values of the others."
    )
    logz: bool = Field(default=False, description="Whether dense_logz is there: logits = log_probs + logz.")
    k: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Classes kept per view, for topk.")


class Labels(ManifestPart):
    """The dense labels: one soft label per view."""

    views: Views
    present: bool = Field(default=False, description="Whether view_present is there: views may be missing.")
    coding: Coding
    temperature: Annotated[float, Field(gt=0)] = 1.0
    profile: str | None = None
    certificate: Certificate
    parent: Digest | None = Field(
        default=None, description="labels.digest of the labels these were re-encoded from; certificate against them."
    )
    labeler: Labeler | None
    ensemble: Ensemble | None = Field(default=None, description="Where more than one labeler was averaged.")
    golden: Annotated[tuple[GoldenView, ...], Field(max_length=64)] = Field(
        description="At least one; none for views of kind opaque."
    )
    digest: Digest = Field(description="Over the stored label values, in id order.")

    @property
    def labelers(self) -> tuple[Labeler, ...]:
        """All labelers, where they are known, the first one first."""
        first = (self.labeler,) if self.labeler is not None else ()
        return (*first, *(self.ensemble.others if self.ensemble is not None else ()))

    @property
    def count(self) -> int:
        """Views per image."""
        return count_views(self.views)


def check_agreement(labels: Labels, classes: int) -> None:
    """Raise ValueError where the fields of labels contradict each other or the number of classes (LADD-013)."""
    views = labels.views
    if isinstance(views, Grid):
        over, under = map(int, views.ratio.split("/"))
        if over > under:
            raise ValueError(f"labels.views.ratio {views.ratio} is more than 1/1")
    if isinstance(views, Mix) and not views.cutmix and not views.mixup:
        raise ValueError("labels.views of kind mix, with neither cutmix nor mixup")
    if bool(labels.golden) == isinstance(views, Opaque):
        found = f"{len(labels.golden)} golden views of kind {views.kind}"
        raise ValueError(f"labels.golden: {found}; expected at least one, and none of views that cannot be cut")
    _check_coding(labels.coding, classes)
    if labels.ensemble is not None and labels.labeler is None:
        raise ValueError("labels.ensemble goes with labels.labeler, its first member")
    for labeler in labels.labelers:
        if labeler.network.classes != classes:
            raise ValueError(f"the labeler has {labeler.network.classes} classes, the dataset {classes}")
    for golden in labels.golden:
        if golden.view >= labels.count or golden.top_class >= classes:
            raise ValueError(f'golden view {golden.view} of "{golden.id}" is outside the views or the classes')


def _check_coding(coding: Coding, classes: int) -> None:
    """Raise ValueError where the fields of a coding contradict each other."""
    if coding.logz and coding.space != "log_probs":
        raise ValueError("labels.coding.logz belongs to space log_probs only")
    if coding.space == "probs" and coding.dtype != "float32":
        raise ValueError(f"{coding.dtype} probabilities underflow: use log_probs, or float32")
    if coding.encoding != "dense" and (coding.space, coding.dtype) != ("log_probs", "float16"):
        raise ValueError(f"encoding {coding.encoding} is of space log_probs and dtype float16")
    if (coding.encoding == "topk") != (coding.k is not None):
        raise ValueError("labels.coding.k belongs to encoding topk, and only there")
    if coding.k is not None and coding.k >= classes:
        raise ValueError(f"labels.coding.k is {coding.k}, not fewer than the {classes} classes")
