"""The manifest: what a dataset says of itself (meta/ladd.json), as typed models.

`manifest_json.parse_manifest` is the one way in. The JSON Schema in spec/ is generated from these models,
so a rule written here is a rule of the format. Absent and null mean the same, "not known", for every
optional field; an empty list or object means "known to be none". No torch here.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from ladd_data.files import canonical_json
from ladd_data.manifest_labels import MAX_VIEWS as MAX_VIEWS
from ladd_data.manifest_labels import Affine as Affine
from ladd_data.manifest_labels import Boxes as Boxes
from ladd_data.manifest_labels import ByRecord as ByRecord
from ladd_data.manifest_labels import Certificate as Certificate
from ladd_data.manifest_labels import Coding as Coding
from ladd_data.manifest_labels import Digest as Digest
from ladd_data.manifest_labels import Ensemble as Ensemble
from ladd_data.manifest_labels import Full as Full
from ladd_data.manifest_labels import GoldenView as GoldenView
from ladd_data.manifest_labels import Grid as Grid
from ladd_data.manifest_labels import Labeler as Labeler
from ladd_data.manifest_labels import Labels as Labels
from ladd_data.manifest_labels import ManifestPart, check_agreement
from ladd_data.manifest_labels import Mix as Mix
from ladd_data.manifest_labels import Network as Network
from ladd_data.manifest_labels import NonNegative as NonNegative
from ladd_data.manifest_labels import Opaque as Opaque
from ladd_data.manifest_labels import PerChannel as PerChannel
from ladd_data.manifest_labels import Resample as Resample
from ladd_data.manifest_labels import Share as Share
from ladd_data.manifest_labels import ViewSpec as ViewSpec
from ladd_data.manifest_labels import count_views as count_views
from ladd_data.recipe import Recipe

SPEC_VERSION = "1.0"
MANIFEST_PATH = "meta/ladd.json"
RUN_PATH = "meta/run.json"
"""What a run took, for people: in no digest, and never needed (LADD-007)."""
MAX_SIDE = 16384
"""Pixels an image may have on a side."""
SET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""What a label set may be called; "default" is the labels in the records."""
MAX_PIXELS = 2**24
"""Pixels an image may have in all (LADD-081)."""
MAX_DENSE_VALUES = 2**23
"""Views times classes (LADD-081)."""


class Classes(ManifestPart):
    """The classes, in label order."""

    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=65536)]
    ids: tuple[str, ...] | None = Field(
        default=None,
        description="Id of each class in its source set, such as a WordNet id; same length as names.",
    )
    source: str | None = Field(default=None, description="The set the ids belong to, such as imagenet-1k.")


class Normalization(ManifestPart):
    """How model input relates to natural pixels x in [0, 1], per channel: value = (x - mean) / std."""

    mean: PerChannel
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=3)]


class PixelError(ManifestPart):
    """What storing as uint8 cost, in natural units (1.0 = from black to white)."""

    rmse: NonNegative
    max_abs: NonNegative
    clipped_share: Share = Field(description="Share of values outside what the uint8 range can say.")


class Quantization(ManifestPart):
    """How float pixels became uint8, and the error of the way chosen and of the way not chosen."""

    mode: Literal["none", "clip", "range"]
    error: PixelError
    clip: PixelError | None = Field(default=None, description="Error had the values been clipped to 0..255.")
    range: PixelError | None = Field(default=None, description="Error had each channel's range been stretched.")


class Images(ManifestPart):
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


class SourceFile(ManifestPart):
    """A file that the distillation method wrote and the converter read, or a folder of such files (LADD-016)."""

    path: str = Field(description="The file's name; of a folder, its name and a slash.")
    bytes: Annotated[int, Field(ge=0)]
    sha256: Digest


class Distillation(ManifestPart):
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


class Soft(ManifestPart):
    """The distiller's own soft label of the whole image, in the column soft_<space>."""

    space: Literal["probs", "logits", "targets"] = Field(
        description="probs: sum to 1; logits: unnormalised; targets: regression targets, any real numbers."
    )
    temperature: Annotated[float, Field(gt=0)] = 1.0
    digest: Digest = Field(description="Over the stored values, in id order.")


class Manifest(ManifestPart):
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
            check_agreement(self.labels, count)
        return self


class LabelSet(ManifestPart):
    """labels/NAME/labels.json: a further set of dense labels over the same images (LADD-090 to LADD-097)."""

    spec_version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+$")]
    requires: tuple[str, ...] = ()
    name: Annotated[str, Field(pattern=SET_NAME)] = Field(description="That of its folder.")
    count: Annotated[int, Field(ge=1)] = Field(description="Records; those of the dataset.")
    images: Digest = Field(description="images.digest of the dataset that these labels are of.")
    classes: Digest = Field(description="SHA-256 of the class list, as in LADD-026.")
    labels: Labels
    recipe: Recipe
    digest: Digest = Field(description="That of the dataset, were these labels those in its records.")
    extensions: dict[str, JsonValue] = Field(default_factory=dict, description="Vendor data, by vendor name.")


def classes_digest(classes: Classes) -> str:
    """Return the SHA-256 over names and ids in label order: what two class lists are compared by."""
    return hashlib.sha256(canonical_json([list(classes.names), list(classes.ids or ())])).hexdigest()
