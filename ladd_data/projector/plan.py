"""What is decided before a projector is trained, backbone, ranks, head, teachers; and the network it begins as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ladd_data.dataset import Dataset
from ladd_data.errors import UsageError
from ladd_data.files import write_atomically
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.manifest import Affine, Manifest, Normalization
from ladd_data.manifest_projector import (
    Adapters,
    Backbone,
    Head,
    OnlineViews,
    Projector,
    ProjectorTraining,
    RandomBoxes,
    Teacher,
)
from ladd_data.pixels import natural_affine, renormalize
from ladd_data.projector.network import (
    ProjectorNetwork,
    build_backbone,
    features_of,
    load_backbone,
    load_head,
    published,
    sketch_backbone,
)
from ladd_data.projector.public_files import describe_public, download_public
from ladd_data.sources import ImageSet

Start = Literal["text", "prototypes", "zeros"]
DEFAULT_BACKBONE = "timm:resnet50_clip"


@dataclass(frozen=True, slots=True)
class BackboneChoice:
    """Which backbone, and where its weights are.

    name: `timm:NAME`; outputs and size: None for what timm says of the published weights.
    weights: a safetensors file; None downloads `reference` at `revision`.
    reference: model repository of the Hub; None for timm's own of this network, where `weights` is None too.
    keep: store a copy in the label set.
    """

    name: str = DEFAULT_BACKBONE
    weights: Path | None = None
    reference: str | None = None
    revision: str | None = None
    outputs: int | None = None
    size: int | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """How the head begins; `text`: a safetensors file with the classes' text embeddings, [classes, features]."""

    start: Start = "prototypes"
    text: Path | None = None
    rank: int = 64
    unit_features: bool = False
    temperature: float = 1.0
    keep: bool = True


@dataclass(frozen=True, slots=True)
class ProjectorPlan:
    """Everything that decides a projector."""

    backbone: BackboneChoice
    head: HeadChoice
    adapters: Adapters
    training: ProjectorTraining
    views: OnlineViews = RandomBoxes()  # noqa: RUF009 (frozen)
    dtype: Literal["float32", "float16"] = "float32"


@dataclass(frozen=True, slots=True)
class Begun:
    """A projector before its first step: the network, on the CPU, and its public files."""

    network: ProjectorNetwork
    backbone: Path
    head: Path | None


def begin(plan: ProjectorPlan, dataset: Dataset, images: ImageSet, scratch: Path) -> Begun:
    """Build a projector, with its public weights loaded.

    Args:
        plan: what is wanted.
        dataset: the one that it is for.
        images: real pictures, of which prototypes are made.
        scratch: a file that prototypes are written to.

    Raises:
        UsageError: the backbone is not known, or a file is missing.
        LabelError: a file is not what it should be.
        LaddError: it cannot be downloaded.
    """
    path, spec = _choose_backbone(plan.backbone)
    network = build_backbone(spec.name, spec.outputs, spec.size)
    load_backbone(network, path)
    manifest = dataset.manifest
    classes = len(manifest.classes.names)
    head_path, base = plan.head.text, None
    if plan.head.start == "prototypes":
        base, head_path = _make_prototypes(network, spec, images, classes), scratch
        _write_prototypes(scratch, base)
    elif head_path is not None:
        base = load_head(head_path, classes, spec.features)
    elif plan.head.start == "text":
        raise UsageError("a head that begins with text embeddings needs them: --text FILE, [classes, features].")
    keep = plan.head.keep or plan.head.start == "prototypes"
    head = Head(
        start=plan.head.start,
        base=None if head_path is None else describe_public(head_path, kept=keep),
        rank=min(plan.head.rank, classes, spec.features),
        unit_features=plan.head.unit_features,
        temperature=plan.head.temperature,
    )
    projector = Projector(
        backbone=spec,
        adapters=plan.adapters,
        head=head,
        input=_input_of(manifest, spec.normalization),
        dtype=plan.dtype,
        bytes=1,
        sha256="0" * 64,
    )
    torch.manual_seed(plan.training.seed)
    return Begun(ProjectorNetwork(projector, network, base, classes), path, head_path)


def describe_teachers(teachers: list[LoadedLabeler], dataset: Dataset) -> tuple[Teacher, ...]:
    """Return what a projector says of its teachers.

    Raises:
        UsageError: one of them is of other classes or another size than the dataset.
    """
    manifest, stated = dataset.manifest, []
    for teacher in teachers:
        said = teacher.description
        shape = (said.network.channels, said.network.size, said.network.size)
        wanted = (manifest.images.channels, manifest.images.height, manifest.images.width)
        if said.classes.names != manifest.classes.names:
            raise UsageError(f"teacher {said.network.name}: its classes are not the dataset's, in its order.")
        if shape != wanted:
            raise UsageError(f"teacher {said.network.name}: takes images {shape}; the dataset's are {wanted}.")
        stated.append(Teacher(network=said.network, weights_digest=teacher.digest, accuracy=said.accuracy))
    if not stated:
        raise UsageError("a projector learns from one labeler at least: --teacher LABELER.safetensors.")
    return tuple(stated)


def _choose_backbone(choice: BackboneChoice) -> tuple[Path, Backbone]:
    known = published(choice.name)
    size = choice.size or int(known["input_size"][-1])
    outputs = choice.outputs
    if outputs is None:  # CLIP's last layer is its projection into the space of texts; that of others names classes
        outputs = int(known["num_classes"]) if choice.name.endswith("_clip") else 0
    features, parameters = sketch_backbone(choice.name, outputs, size)
    path, reference, revision = choice.weights, choice.reference, choice.revision
    if path is None:
        reference = reference or known.get("hf_hub_id")
        if not reference:
            raise UsageError(f"{choice.name}: timm names no published weights. Give a file: --backbone-weights PATH.")
        path = download_public(reference, revision, "model.safetensors")
        revision = path.parent.name  # the cache's folder of this snapshot is named by its commit
    elif (reference is None) != (revision is None):
        raise UsageError("--backbone-reference and --backbone-revision go together: a repository and its commit.")
    weights = describe_public(path, kept=choice.keep, reference=reference, revision=revision)
    return path, Backbone(
        name=choice.name,
        outputs=outputs,
        features=features,
        parameters=parameters,
        size=size,
        normalization=Normalization(mean=tuple(known["mean"]), std=tuple(known["std"])),
        weights=weights,
    )


def _input_of(manifest: Manifest, wanted: Normalization) -> Affine:
    """Return the map from a dataset's stored pixel to the backbone's input.

    Raises:
        UsageError: the dataset is ZCA-whitened.
    """
    images = manifest.images
    if images.normalization is None:
        raise UsageError("the dataset is ZCA-whitened; a backbone of natural pictures cannot serve it.")
    times = 3 // images.channels
    affine = Affine(scale=images.affine.scale * times, offset=images.affine.offset * times)
    own = Normalization(mean=images.normalization.mean * times, std=images.normalization.std * times)
    return renormalize(affine, own, wanted)


def _make_prototypes(network: nn.Module, spec: Backbone, images: ImageSet, classes: int) -> Tensor:
    """Return the mean features of each class, less those of all, scaled to length 1, float32 [classes, features]."""
    sums, counts = torch.zeros(classes, spec.features), torch.zeros(classes)
    labels = torch.from_numpy(images.labels)
    for rows in torch.split(torch.arange(len(labels)), 256):
        with torch.no_grad():
            pixels = torch.from_numpy(images.images[rows.numpy()])
            features = features_of(network, pixels, natural_affine(spec.normalization), spec.size)
        sums.index_add_(0, labels[rows], features)
        counts.index_add_(0, labels[rows], torch.ones(len(rows)))
    means = sums / counts.clamp_min(1)[:, None]
    return nn.functional.normalize(means - sums.sum(0) / counts.sum(), dim=1)


def _write_prototypes(path: Path, values: Tensor) -> None:
    write_atomically(path, save({"embeddings": values.contiguous()}))
