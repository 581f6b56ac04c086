"""What labels/NAME/projector.json says: a small network that makes labels on the fly, upon a public backbone.

Typed models, no torch here. `shards.projectors` reads the files, `projector.network` builds the network.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from ladd_data.files import canonical_json
from ladd_data.manifest import (
    MAX_SIDE,
    MAX_VIEWS,
    SET_NAME,
    Affine,
    Digest,
    Full,
    GoldenView,
    Grid,
    Network,
    NonNegative,
    Normalization,
    Share,
    count_views,
)
from ladd_data.manifest_labels import ManifestPart
from ladd_data.recipe import Recipe

STATEMENT, WEIGHTS = "projector.json", "projector.safetensors"
BACKBONE_FILE, HEAD_FILE = "backbone.safetensors", "head.safetensors"
"""The public files, where they are kept in the set."""

MAX_RANK = 4096
MAX_FEATURES = 65536


class RandomBoxes(ManifestPart):
    """Views drawn anew each epoch: boxes of the image, each resized to the image's size."""

    kind: Literal["random"] = "random"
    count: Annotated[int, Field(ge=1, le=MAX_VIEWS)] = Field(default=1, description="Views of an image each epoch.")
    least: Annotated[float, Field(gt=0, le=1)] = Field(default=0.5, description="Smallest side, of the image's.")
    flip: bool = Field(default=True, description="Whether half of them are mirrored left to right.")


OnlineViews = Grid | Full | RandomBoxes
"""What a projector is asked to label: any view will do, so that none is stored."""


class PublicFile(ManifestPart):
    """A safetensors file that the projector is built upon and that many projectors may share."""

    reference: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = Field(
        default=None, description="Model repository of the Hub, such as timm/resnet50_clip.openai; null for another."
    )
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(default=None, description="Its commit.")
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$")] = "model.safetensors"
    bytes: Annotated[int, Field(ge=1)]
    sha256: Digest
    kept: bool = Field(default=False, description="Whether a copy is in the set's folder.")

    @model_validator(mode="after")
    def _check_revision(self) -> PublicFile:
        if (self.reference is None) != (self.revision is None):
            raise ValueError("reference and revision go together")
        return self


class Backbone(ManifestPart):
    """The network that turns views into features; its own weights stay as they were published."""

    name: Annotated[str, Field(pattern=r"^timm:[A-Za-z0-9_]{1,128}$")] = Field(description="As timm:resnet50_clip.")
    outputs: Annotated[int, Field(ge=0, le=MAX_FEATURES)] = Field(
        description="Outputs of its own last layer (1024 for CLIP's RN50); 0 for pooled features, without that layer."
    )
    features: Annotated[int, Field(ge=1, le=MAX_FEATURES)]
    parameters: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=1, le=MAX_SIDE)] = Field(description="Side of its square input in pixels.")
    normalization: Normalization = Field(description="Of its input, from natural pixels; three channels.")
    weights: PublicFile


class Adapters(ManifestPart):
    """Low-rank layers beside each convolution of one group and each linear layer of the backbone (LoRA)."""

    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 8
    alpha: Annotated[float, Field(gt=0)] = Field(default=8, description="What they give is weighed by alpha / rank.")


class Head(ManifestPart):
    """The linear layer from features to logits: ((W + B A) f + bias) / temperature."""

    start: Literal["text", "prototypes", "zeros"] = Field(
        description="What W is: text embeddings of the classes, their mean features, or zeros."
    )
    base: PublicFile | None = Field(default=None, description="W, [classes, features]; null where it is zeros.")
    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 64
    unit_features: bool = Field(default=False, description="Whether f is scaled to length 1 first.")
    temperature: Annotated[float, Field(gt=0)] = 1.0


class Projector(ManifestPart):
    """The network, whole."""

    backbone: Backbone
    adapters: Adapters
    head: Head
    input: Affine = Field(description="Backbone input of a stored pixel, 0..255, of three channels; then resized.")
    dtype: Literal["float32", "float16"] = Field(default="float32", description="Of the tensors in the file.")
    bytes: Annotated[int, Field(ge=1)] = Field(description="Of projector.safetensors.")
    sha256: Digest


class Teacher(ManifestPart):
    """A network whose logits the projector learned."""

    network: Network
    weights_digest: Digest
    accuracy: Share | None = None


class ProjectorTraining(ManifestPart):
    """How a projector was trained; defaults are HeLlO's (supplement, Table 2)."""

    source: str
    epochs: Annotated[int, Field(ge=1)] = 20
    lr: Annotated[float, Field(gt=0)] = 5e-4
    weight_decay: NonNegative = 0.01
    batch_size: Annotated[int, Field(ge=1)] = 256
    hard_weight: NonNegative = Field(default=0.1, description="Of the cross-entropy beside the mean squared error.")
    least: Annotated[float, Field(gt=0, le=1)] = Field(default=0.5, description="Smallest side of the crops.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class ProjectorRecord(ManifestPart):
    """What a training gave."""

    settings: ProjectorTraining
    images: Annotated[int, Field(ge=1)]
    images_digest: Digest
    accuracy: Share = Field(description="On held-out real images.")
    history: tuple[Share, ...] = ()
    seconds: NonNegative
    device: str
    libraries: dict[str, str]


class ProjectorSet(ManifestPart):
    """labels/NAME/projector.json: labels that a network makes when they are asked for (LADD-100 to LADD-104)."""

    spec_version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+$")]
    requires: tuple[str, ...] = ()
    kind: Literal["projector"] = "projector"
    name: Annotated[str, Field(pattern=SET_NAME)] = Field(description="That of its folder.")
    count: Annotated[int, Field(ge=1)] = Field(description="Records; those of the dataset.")
    images: Digest = Field(description="images.digest of the dataset that the projector belongs to.")
    classes: Digest = Field(description="SHA-256 of the class list, as in LADD-026.")
    width: Annotated[int, Field(ge=1, le=65536)] = Field(description="Classes, hence logits of each view.")
    views: Annotated[OnlineViews, Field(discriminator="kind")] = Field(description="What is labelled, if not told.")
    space: Literal["logits"] = "logits"
    projector: Projector
    teachers: Annotated[tuple[Teacher, ...], Field(max_length=64)] = ()
    training: ProjectorRecord | None = None
    golden: Annotated[tuple[GoldenView, ...], Field(min_length=1, max_length=64)] = Field(
        description="Whole images, as view 0, with the label that the projector gave them when it was made."
    )
    recipe: Recipe
    digest: Digest = Field(description="LADD-101.")
    extensions: dict[str, JsonValue] = Field(default_factory=dict, description="Vendor data, by vendor name.")

    @model_validator(mode="after")
    def _check_agreement(self) -> ProjectorSet:
        head, backbone = self.projector.head, self.projector.backbone
        if (head.base is None) != (head.start == "zeros"):
            raise ValueError(f"projector.head.base does not go with start {head.start}")
        if backbone.outputs not in (0, backbone.features):
            raise ValueError(f"projector.backbone has {backbone.features} features of {backbone.outputs} outputs")
        channels = (self.projector.input.scale, self.projector.input.offset)
        if any(len(values) != 3 for values in (*channels, backbone.normalization.mean, backbone.normalization.std)):
            raise ValueError("projector.input and projector.backbone.normalization have three channels")
        if any(golden.view != 0 or golden.top_class >= self.width for golden in self.golden):
            raise ValueError("a golden view is not view 0, or of no class")
        if head.rank > min(self.width, backbone.features):
            raise ValueError(f"projector.head.rank {head.rank}; at most the lesser of classes and features")
        if isinstance(self.views, Grid):
            over, under = map(int, self.views.ratio.split("/"))
            if over > under:
                raise ValueError(f"views.ratio {self.views.ratio} is more than 1/1")
        return self

    @property
    def files(self) -> dict[str, tuple[int, str]]:
        """The files of the set beside its statement, as name -> (bytes, sha256)."""
        parts = {WEIGHTS: (self.projector.bytes, self.projector.sha256)}
        for name, public in ((BACKBONE_FILE, self.projector.backbone.weights), (HEAD_FILE, self.projector.head.base)):
            if public is not None and public.kept:
                parts[name] = (public.bytes, public.sha256)
        return parts

    @property
    def public_bytes(self) -> int:
        """Bytes of the files that the projector needs and that are not in the set."""
        public = (self.projector.backbone.weights, self.projector.head.base)
        return sum(file.bytes for file in public if file is not None and not file.kept)


def count_online(views: OnlineViews) -> int:
    """Return the views that an image has each epoch."""
    return views.count if isinstance(views, RandomBoxes) else count_views(views)


def projector_digest(stated: ProjectorSet) -> str:
    """Return the SHA-256 over what decides the labels: images, classes, views, and the network with its files."""
    part = stated.model_dump(mode="json", include={"count", "images", "classes", "width", "views", "projector"})
    return hashlib.sha256(canonical_json(part)).hexdigest()
