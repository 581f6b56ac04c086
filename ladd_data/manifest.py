"""The manifest: what a dataset says of itself (meta/ladd.json), as typed models.

`parse_manifest` is the one way in. The JSON Schema in spec/ is generated from these models, so a rule
written here is a rule of the format. Absent and null mean the same, "not known", for every optional
field; an empty list or object means "known to be none". No torch here.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from ladd_data.errors import DatasetError, Problem
from ladd_data.files import LimitError, canonical_json, parse_json_strictly
from ladd_data.types import LabelSpace

SPEC_VERSION = "1.0"
MANIFEST_PATH = "meta/ladd.json"
MAX_SIDE = 16384
"""Pixels an image may have on a side."""
MAX_PIXELS = 2**24
"""Pixels an image may have in all (LADD-081)."""
MAX_DENSE_VALUES = 2**23
"""Views times classes (LADD-081)."""
MAX_BREACHES = 1000
"""More breaches of the schema than this are counted, not listed."""
KNOWN_REQUIREMENTS: frozenset[str] = frozenset()
"""Entries of `requires` that this reader fulfils; an unknown one is a refusal."""

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
    """The images: all of one size, stored as PNG."""

    count: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    width: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    channels: Literal[1, 3]
    encoding: Literal["png"] = "png"
    png: Literal["stored", "small"] = Field(description="stored: no filter, no deflate; small: best deflate.")
    affine: Affine
    normalization: Normalization | None = Field(
        default=None, description="null where no per-channel relation to natural pixels exists, as after ZCA."
    )
    whitening: Literal["none", "zca"]
    quantization: Quantization
    digest: Digest = Field(description="Over the decoded pixels, in id order; independent of shards and container.")


class SourceFile(_Part):
    """A file that the distillation method wrote and the converter read."""

    path: str
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


class Network(_Part):
    """An architecture by name, with what it needs to be built."""

    name: str
    width: Annotated[int, Field(ge=1)]
    classes: Annotated[int, Field(ge=1)]
    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=1)]


class Labeler(_Part):
    """The network that made the dense labels, and exactly what it was fed."""

    network: Network
    weights_digest: Digest
    input: Affine = Field(description="Labeler input of a view's 0..255 value, per channel.")
    epochs: Annotated[int, Field(ge=0)] | None = None
    accuracy: Share | None = Field(default=None, description="On the labeler's own held-out images.")
    precision: Literal["float32"] = "float32"
    device: str
    libraries: dict[str, str]
    labeling_flops: Annotated[int, Field(ge=0)] = Field(description="Multiply and add counted as two.")
    training_flops: Annotated[int, Field(ge=0)] | None = None


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

    views: Grid
    coding: Coding
    temperature: Annotated[float, Field(gt=0)] = 1.0
    profile: str | None = None
    certificate: Certificate
    parent: Digest | None = Field(
        default=None, description="labels.digest of the labels these were re-encoded from; certificate against them."
    )
    labeler: Labeler | None
    golden: Annotated[tuple[GoldenView, ...], Field(min_length=1, max_length=64)]
    digest: Digest = Field(description="Over the stored label values, in id order.")

    @property
    def count(self) -> int:
        """Views per image."""
        return self.views.n**2


class Recipe(_Part):
    """The loss these data are meant for. Reductions are fields because the field's codes differ in them."""

    loss: Literal["hard-ce", "ladd"]
    view_reduction: Literal["sum", "mean"] | None = None
    image_reduction: Literal["mean"] = "mean"
    source: str | None = None


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
        over, under = map(int, labels.views.ratio.split("/"))
        if over > under:
            raise ValueError(f"labels.views.ratio {labels.views.ratio} is more than 1/1")
        coding = labels.coding
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
        if labels.labeler is not None and labels.labeler.network.classes != classes:
            raise ValueError(f"the labeler has {labels.labeler.network.classes} classes, the dataset {classes}")
        for golden in labels.golden:
            if golden.view >= labels.count or golden.top_class >= classes:
                raise ValueError(f'golden view {golden.view} of "{golden.id}" is outside the grid or the classes')


def classes_digest(classes: Classes) -> str:
    """Return the SHA-256 over names and ids in label order: what two class lists are compared by."""
    return hashlib.sha256(canonical_json([list(classes.names), list(classes.ids or ())])).hexdigest()


def dump_manifest(manifest: Manifest) -> bytes:
    """Serialise a manifest to the bytes of meta/ladd.json; `parse_manifest` is the way back."""
    return canonical_json(manifest.model_dump(mode="json"))


def parse_manifest(data: bytes, where: str = MANIFEST_PATH) -> Manifest:
    """Turn the bytes of meta/ladd.json into a checked manifest.

    Raises:
        DatasetError: every breach found, each with its path in the document (LADD-010 to LADD-013).
    """
    try:
        document = parse_json_strictly(data)
    except LimitError as error:
        raise _refusal("LADD-080", where, str(error), "a document of sensible size", _RESTORE) from error
    except ValueError as error:
        raise _refusal("LADD-010", where, str(error), "a JSON object", _RESTORE) from error
    if _check_version(document, where):
        _drop_unknown_keys(document)
    try:
        manifest = Manifest.model_validate_json(canonical_json(document))
    except ValidationError as error:
        raise DatasetError(_problems(error, where)) from error
    _check_limits(manifest, where)
    return manifest


def _check_limits(manifest: Manifest, where: str) -> None:
    """Refuse records that no reader should have to hold in memory (LADD-081)."""
    images, labels = manifest.images, manifest.labels
    if images.height * images.width > MAX_PIXELS:
        found = f"images of {images.width}x{images.height} pixels"
        raise _refusal("LADD-081", f"{where}, images", found, f"at most {MAX_PIXELS} pixels", _RESTORE)
    if labels is not None and labels.count * len(manifest.classes.names) > MAX_DENSE_VALUES:
        found = f"{labels.count} views of {len(manifest.classes.names)} classes per record"
        raise _refusal("LADD-081", f"{where}, labels", found, f"at most {MAX_DENSE_VALUES} in all", _RESTORE)


_RESTORE = "Restore the file from its publisher, or write the dataset again."


def _refusal(clause: str, where: str, found: str, expected: str, fix: str) -> DatasetError:
    return DatasetError([Problem(clause, where, found, expected, fix)])


def _check_version(document: Any, where: str) -> bool:
    """Apply the version rule; True where the document is of a newer minor version than this reader."""
    version = document.get("spec_version") if isinstance(document, dict) else None
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}(\.[0-9]+)*", version):
        raise _refusal("LADD-011", where, f"spec_version {version!r}", 'a version such as "1.0"', _RESTORE)
    major, minor = (int(part) for part in version.split(".")[:2])
    known_major, known_minor = (int(part) for part in SPEC_VERSION.split("."))
    if major != known_major:
        upgrade = f"Read it with ladd-data {major}.x (pip install 'ladd-data=={major}.*')."
        raise _refusal("LADD-011", where, f"spec version {version}", f"{known_major}.x", upgrade)
    requires = document.get("requires")
    named = [name for name in requires if isinstance(name, str)] if isinstance(requires, list) else []
    unknown = [name for name in named if name not in KNOWN_REQUIREMENTS]
    if unknown:
        upgrade = "Upgrade ladd-data (pip install -U ladd-data)."
        raise _refusal("LADD-012", where, f"requires {', '.join(unknown)}", "only features known here", upgrade)
    if minor > known_minor:
        warnings.warn(
            f"{where} is of spec {version}; unknown keys are ignored by this {SPEC_VERSION} reader.",
            stacklevel=4,
        )
    return minor > known_minor


def _drop_unknown_keys(document: Any) -> None:
    """Take out the keys that only a newer reader knows."""
    try:
        Manifest.model_validate_json(canonical_json(document))
    except ValidationError as error:
        for item in error.errors() if error.error_count() <= MAX_BREACHES else ():
            if item["type"] == "extra_forbidden":
                *parents, key = item["loc"]
                part = document
                for step in parents:
                    part = part[step]
                del part[key]


def _problems(error: ValidationError, where: str) -> list[Problem]:
    if error.error_count() > MAX_BREACHES:
        found = f"{error.error_count()} breaches of the schema"
        return [Problem("LADD-010", where, found, "a document that fulfils it", _RESTORE)]
    problems = []
    for item in error.errors():
        path = ".".join(str(step) for step in item["loc"])
        clause = "LADD-013" if item["type"] == "value_error" else "LADD-010"
        value = repr(item["input"])
        found = item["msg"].removeprefix("Value error, ") if clause == "LADD-013" else value[:80]
        expected = "fields that agree with each other" if clause == "LADD-013" else item["msg"]
        problems.append(Problem(clause, f"{where}, {path}" if path else where, found, expected, _RESTORE))
    return problems
