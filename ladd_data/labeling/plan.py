"""What a labeling run is to do, and what follows: the labelers' input, the columns, all that decides the bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import torch

from ladd_data.dataset import Dataset
from ladd_data.encodings.coding import column_types
from ladd_data.errors import LabelError
from ladd_data.labeling.average import Average
from ladd_data.labeling.drawing import BoxDraw
from ladd_data.labeling.journal import Facts
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.labeling.pipeline import Computing, Member, Precision
from ladd_data.manifest import MANIFEST_PATH, SPEC_VERSION, Affine, ByRecord, Coding, Manifest, ViewSpec, count_views
from ladd_data.models.arithmetic import library_versions
from ladd_data.pixels import renormalize
from ladd_data.shards.folder import SHARDS_PATH
from ladd_data.shards.layout import Layout, view_columns
from ladd_data.shards.plan import ShardPlan


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What to label with, which views, how to store the result, and where and how to compute.

    labeler: already on the device; others: more of them, whose average is taken.
    profile: the coding's name, if it has one.
    boxes: for views of kind `Boxes` and `Mix`, how they are drawn.
    precision, channels_last, compile, batch, memory: see `Computing`.
    """

    labeler: LoadedLabeler
    views: ViewSpec
    coding: Coding
    device: torch.device
    profile: str | None = None
    boxes: BoxDraw = field(default_factory=BoxDraw)
    others: tuple[LoadedLabeler, ...] = ()
    average: Average = "probs"
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    batch: int | None = None
    memory: int | None = None

    @property
    def labelers(self) -> tuple[LoadedLabeler, ...]:
        """All labelers, in the order given."""
        return (self.labeler, *self.others)

    @property
    def computing(self) -> Computing:
        """Where and how the labelers compute."""
        return Computing(self.device, self.precision, self.channels_last, self.compile, self.batch, self.memory)


def labeler_input(manifest: Manifest, labeler: LoadedLabeler) -> Affine:
    """Return the map from a view's 0..255 values to what this labeler was trained on.

    Where dataset and labeler share a normalisation this is the dataset's own map.

    Raises:
        LabelError: classes, size or channels differ, or the pixels are ZCA-whitened.
    """
    description, images = labeler.description, manifest.images
    if description.classes.names != manifest.classes.names:
        raise LabelError(_say_classes_differ(description.classes.names, manifest))
    takes = (description.network.channels, description.network.size, description.network.size)
    has = (images.channels, images.height, images.width)
    if takes != has:
        raise LabelError(
            f"the labeler takes images of {'x'.join(map(str, takes))} (channels x height x width), the dataset has "
            f'{"x".join(map(str, has))}. Train one for it: "ladd train-labeler --for DIR".'
        )
    if images.normalization is None:
        raise LabelError("the images are ZCA-whitened: a labeler of natural pictures cannot read them.")
    if description.normalization == images.normalization:
        return images.affine
    return renormalize(images.affine, images.normalization, description.normalization)


def pipeline_members(manifest: Manifest, labelers: tuple[LoadedLabeler, ...]) -> list[Member]:
    """Return the labelers as the pipeline takes them.

    Raises:
        LabelError: one of them does not fit the dataset.
    """
    return [
        Member(labeler.network, labeler.description.network, labeler_input(manifest, labeler)) for labeler in labelers
    ]


def labelled_layout(dataset: Dataset, plan: LabelPlan) -> Layout:
    """Return the columns of the labelled dataset: old dense labels go, whole-image labels stay."""
    soft = {name: kind for name, kind in dataset.folder.layout.dense.items() if name.startswith("soft_")}
    views = view_columns(plan.views, present=False)
    columns = soft | views | column_types(plan.coding, count_views(plan.views), len(dataset.classes))
    return replace(dataset.folder.layout, dense=columns)


def state_facts(dataset: Dataset, plan: LabelPlan, batch: int, shards: ShardPlan) -> Facts:
    """Return all that decides the bytes of the labelled dataset, by names for messages."""
    source = hashlib.sha256()
    for name in (MANIFEST_PATH, SHARDS_PATH):
        source.update((dataset.folder.path / name).read_bytes())
    descriptions = [labeler.description.model_dump_json() for labeler in plan.labelers]
    facts: dict[str, object] = {
        "dataset": source.hexdigest(),
        "labeler": " ".join(labeler.digest for labeler in plan.labelers),
        "labeler's description": hashlib.sha256("\n".join(descriptions).encode()).hexdigest(),
        "average": plan.average if plan.others else "of one",
        "views": plan.views.model_dump_json(),
        "boxes": str(plan.boxes) if isinstance(plan.views, ByRecord) else "none",
        "encoding": plan.coding.model_dump_json(),
        "profile": plan.profile,
        "device": plan.device.type,
        "precision": plan.precision,
        "channels_last": plan.channels_last,
        "compile": plan.compile,
        "batch": batch,
        "shards": f"{shards.shards} of {shards.rows_per_shard} records in groups of {shards.rows_per_group}",
        "software": ", ".join(f"{name} {version}" for name, version in library_versions().items()),
        "format": SPEC_VERSION,
    }
    return {name: str(value) for name, value in facts.items()}


def _say_classes_differ(names: tuple[str, ...], manifest: Manifest) -> str:
    wanted = manifest.classes.names
    pairs = enumerate(zip(names, wanted, strict=False))
    first = next((f'number {i} is "{a}" there and "{b}" here' for i, (a, b) in pairs if a != b), "")
    return (
        f"the labeler has {len(names)} classes, the dataset {len(wanted)}; {first or 'their numbers differ'}. "
        'Train one in this order: "ladd train-labeler --for DIR".'
    )
