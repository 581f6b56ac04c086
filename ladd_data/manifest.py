"""The manifest: what a dataset says of itself (meta/ladd.json), as typed models.

`manifest_json.parse_manifest` is the one way in. The JSON Schema in spec/ is generated from these models,
so a rule written here is a rule of the format. Absent and null mean the same, "not known", for every
optional field; an empty list or object means "known to be none". No torch here.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from ladd_data.files import canonical_json
from ladd_data.recipe import Recipe
from ladd_data.types import LabelSpace

SPEC_VERSION = "1.0"
MANIFEST_PATH = "meta/ladd.json"
RUN_PATH = "meta/run.json"
"""What a run took, for people: in no digest, and never needed (LADD-007)."""
MAX_VIEWS = 4096
"""Views an image may have."""
MAX_SIDE = 16384
"""Pixels an image may have on a side."""
MAX_PIXELS = 2**24
"""Pixels an image may have in all (LADD-081)."""
MAX_DENSE_VALUES = 2**23
"""Views times classes (LADD-081)."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PerChannel = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Classes(_Part):
    """The classes, in label order."""

    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=65536)]
    ids: tuple[str, ...] | None = Field(
        default=None,
        description="Id of each class in its source set, such as a WordNet id; same length as names.",
    )
    source: str | None = Field(default=None, description="The set the ids belong to, such as imagenet-1k.")


class Affine(_Part):
    """The model input of a stored pixel, per channel: value = scale * pixel + offset, in float32."""

    scale: PerChannel
    offset: PerChannel


class Normalization(_Part):
    """How model input relates to natural pixels x in [0, 1], per channel: value = (x - mean) / std."""

    mean: PerChannel
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=3)]


class PixelError(_Part):
    """What storing as uint8 cost, in natural units (1.0 = from black to white)."""

    rmse: NonNegative
    max_abs: NonNegative
    clipped_share: Share = Field(description="Share of values outside what the uint8 range can say.")


class Quantization(_Part):
    """How float pixels became uint8, and the error of the way chosen and of the way not chosen."""

    mode: Literal["none", "clip", "range"]
    error: PixelError
    clip: PixelError | None = Field(default=None, description="Error had the values been clipped to 0..255.")
    range: PixelError | None = Field(default=None, description="Error had each channel's range been stretched.")


class Images(_Part):
    """The images: all of one size, stored as PNG, or as the JPEG files that the method wrote."""

    count: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    width: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    channels: Literal[1, 3]
    encoding: Literal["png", "jpeg"] = Field(
        default="png", description="png: written by a converter; jpeg: the method's own files, byte for byte."
    )
    png: Literal["stored", "small"] | None = Field(
        default=None, description="stored: no filter, no deflate; small: best deflate; null where encoding is jpeg."
    )
    affine: Affine
    normalization: Normalization | None = Field(
        default=None, description="null where no per-channel relation to natural pixels exists, as after ZCA."
    )
    whitening: Literal["none", "zca"]
    quantization: Quantization
    digest: Digest = Field(
        description="In id order, over the decoded pixels (png) or the files' bytes (jpeg); independent of container."
    )


class SourceFile(_Part):
    """A file that the distillation method wrote and the converter read, or a folder of such files (LADD-016)."""

    path: str = Field(description="The file's name; of a folder, its name and a slash.")
    bytes: Annotated[int, Field(ge=0)]
    sha256: Digest


class Distillation(_Part):
    """Where the images come from. What was read from files and what a person asserted stay apart."""

    method: str
    repository: str | None = None
    commit: str | None = None
    ipc: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Images per class, where equal.")
    mosaic_factor: Annotated[int, Field(ge=1)] = 1
    learned_lr: NonNegative | None = None
    read: dict[str, JsonValue]
    asserted: dict[str, JsonValue]
    files: tuple[SourceFile, ...]


class Grid(_Part):
    """Views: n x n overlapping crops on a regular grid, each resized to the image's size (LADD, Sec. 3.1)."""

    kind: Literal["grid"] = "grid"
    n: Annotated[int, Field(ge=1, le=64)]
    ratio: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}/[1-9][0-9]{0,4}$")] = Field(
        description="Side of a crop as an exact fraction of the image's side, at most 1/1."
    )
    resample: Literal["bilinear"] = "bilinear"


class Full(_Part):
    """One view: the whole image as it is."""

    kind: Literal["full"] = "full"


class Boxes(_Part):
    """Views given record by record in the columns view_box and, with `flip`, view_flip."""

    kind: Literal["boxes"] = "boxes"
    count: Annotated[int, Field(ge=1, le=MAX_VIEWS)]
    flip: bool = Field(default=False, description="Whether view_flip is there: mirrored left to right, after resizing.")
    resample: Literal["bilinear"] = "bilinear"


Views = Annotated[Grid | Full | Boxes, Field(discriminator="kind")]


def count_views(views: Grid | Full | Boxes) -> int:
    """Return the number of views per image."""
    if isinstance(views, Grid):
        return views.n**2
    return views.count if isinstance(views, Boxes) else 1


class Network(_Part):
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


class Labeler(_Part):
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


class Ensemble(_Part):
    """Labelers beside the first, where each view's label is what all of them say on average."""

    average: Literal["probs", "logits"] = Field(
        description="The mean of their probabilities, or the softmax of the mean of their logits."
    )
    others: Annotated[tuple[Labeler, ...], Field(min_length=1, max_length=64)]


class Certificate(_Part):
    """Error of the stored labels against the labeler's float32 output, as probabilities at T = 1."""

    mean_tv: NonNegative
    max_tv: NonNegative
    mean_kl: NonNegative
    max_kl: NonNegative
    top1_agreement: Share


class GoldenView(_Part):
    """One view whose pixels and label are written down, so that any loader can prove itself."""

    id: str
    view: Annotated[int, Field(ge=0)]
    pixels: Digest = Field(description="SHA-256 of the view: float32 little-endian [C,H,W], 0..255 scale.")
    top_class: Annotated[int, Field(ge=0)]
    top_prob: Share


class Coding(_Part):
    """How soft labels are stored; decides the columns."""

    encoding: Literal["dense", "q8", "q4", "topk"] = "dense"
    space: LabelSpace = Field(default="log_probs", description="What the numbers are; log_probs if not dense.")
    dtype: Literal["float16", "float32", "bfloat16"] = Field(
        default="float16", description="Of a dense column; float16 for the values of the others."
    )
    logz: bool = Field(default=False, description="Whether dense_logz is there: logits = log_probs + logz.")
    k: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Classes kept per view, for topk.")


class Labels(_Part):
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
    golden: Annotated[tuple[GoldenView, ...], Field(min_length=1, max_length=64)]
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


class Soft(_Part):
    """The distiller's own soft label of the whole image, in the column soft_<space>."""

    space: Literal["probs", "logits", "targets"] = Field(
        description="probs: sum to 1; logits: unnormalised; targets: regression targets, any real numbers."
    )
    temperature: Annotated[float, Field(gt=0)] = 1.0
    digest: Digest = Field(description="Over the stored values, in id order.")


class Manifest(_Part):
    """meta/ladd.json, whole."""

    spec_version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+$")]
    requires: tuple[str, ...] = ()
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
    license: str | None = None
    citation: str | None = None
    classes: Classes
    images: Images
    distillation: Distillation
    soft: Soft | None = None
    labels: Labels | None = None
    recipe: Recipe
    digest: Digest = Field(description="Over ids, hard labels, pixels and dense labels: the dataset's identity.")
    extensions: dict[str, JsonValue] = Field(default_factory=dict, description="Vendor data, by vendor name.")

    @model_validator(mode="after")
    def _check_agreement(self) -> Manifest:
        channels, count = self.images.channels, len(self.classes.names)
        per_channel: dict[str, tuple[float, ...]] = {
            "images.affine.scale": self.images.affine.scale,
            "images.affine.offset": self.images.affine.offset,
        }
        if self.images.normalization is not None:
            per_channel["images.normalization.mean"] = self.images.normalization.mean
            per_channel["images.normalization.std"] = self.images.normalization.std
        for where, values in per_channel.items():
            if len(values) != channels:
                raise ValueError(f"{where} has {len(values)} entries for {channels} channels")
        if (self.images.encoding == "png") != (self.images.png is not None):
            raise ValueError("images.png belongs to encoding png, and has to be there")
        if self.images.encoding == "jpeg" and self.images.quantization.mode != "none":
            raise ValueError(f"images.quantization.mode {self.images.quantization.mode} of JPEG files; expected none")
        if len(set(self.classes.names)) != count:
            raise ValueError("classes.names holds a name twice")
        if self.classes.ids is not None and len(self.classes.ids) != count:
            raise ValueError(f"classes.ids has {len(self.classes.ids)} entries for {count} classes")
        if self.images.whitening == "zca" and self.images.normalization is not None:
            raise ValueError("images.normalization must be null after ZCA whitening")
        if self.labels is not None:
            self._check_labels(self.labels, count)
        return self

    def _check_labels(self, labels: Labels, classes: int) -> None:
        if isinstance(labels.views, Grid):
            over, under = map(int, labels.views.ratio.split("/"))
            if over > under:
                raise ValueError(f"labels.views.ratio {labels.views.ratio} is more than 1/1")
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


def classes_digest(classes: Classes) -> str:
    """Return the SHA-256 over names and ids in label order: what two class lists are compared by."""
    return hashlib.sha256(canonical_json([list(classes.names), list(classes.ids or ())])).hexdigest()
