"""Give every view of every image a soft label: Algorithm 1 of LADD, batched over images and views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ladd_data.dataset import Dataset
from ladd_data.digests import Digests
from ladd_data.encodings.certificate import CertificateMeter
from ladd_data.encodings.coding import column_types, decode_probs, encode_labels, log_softmax
from ladd_data.errors import LabelError
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.manifest import (
    Affine,
    Boxes,
    Coding,
    Full,
    GoldenView,
    Grid,
    Labeler,
    Labels,
    Manifest,
    Network,
    count_views,
)
from ladd_data.models.arithmetic import count_flops, full_float32, library_versions
from ladd_data.pixels import renormalize
from ladd_data.recipe import Recipe
from ladd_data.shards.layout import Records, pick, view_columns
from ladd_data.shards.writer import new_dataset
from ladd_data.types import F32, U8, Columns
from ladd_data.views.device import ViewMaker, apply_affine
from ladd_data.views.geometry import random_box
from ladd_data.views.golden import digest_view, top_of

ACTIVATION_BYTES = 256 * 2**20
"""Largest activation of one forward pass; decides how many views go through the labeler together."""

MAX_VIEWS_PER_BATCH = 256

_STORED = {"view_box": np.uint16, "view_flip": np.bool_}


@dataclass(frozen=True, slots=True)
class BoxDraw:
    """Boxes drawn record by record: sides from `least` to 1 of the image's, by `seed`."""

    seed: int = 0
    least: float = 0.5


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What to label with, which views, how to store the result, and where to compute.

    profile: the coding's name, if it has one.
    boxes: for views of kind `Boxes`, where they lie.
    """

    labeler: LoadedLabeler
    views: Grid | Full | Boxes
    coding: Coding
    device: torch.device
    profile: str | None = None
    boxes: BoxDraw = BoxDraw()


def label_dataset(
    dataset: Dataset,
    plan: LabelPlan,
    target: Path,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Write a copy of a dataset with dense labels; its images are copied byte for byte.

    Memory is bounded by a row group, not by the dataset. The target is of the source's
    edition. The labeler runs in float32 without TF32.

    Args:
        dataset: where the images come from; earlier dense labels are replaced.
        plan: labeler (already on the device), views, coding, device.
        target: the folder to write; appears whole or not at all.
        overwrite: replace the target.
        on_progress: told (records done, records in all).

    Returns:
        The new dataset's manifest.

    Raises:
        LabelError: labeler and dataset do not belong together, or an output is not finite.
        UsageError: the target exists.

    Source: LADD, Algorithm 1 and Eq. 4.
    """
    run = _LabelRun(dataset, plan)
    count = len(dataset)
    classes = dataset.manifest.classes
    edition = dataset.folder.edition
    with new_dataset(target, classes, run.layout, count, edition=edition, overwrite=overwrite) as writer:
        for _, first, records, pixels in dataset.decoded():
            writer.add(run.label(first, records, pixels, on_progress), pixels)
        return writer.finish(run.describe)


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


def views_per_batch(network: Network) -> int:
    """Return how many views one forward pass takes: a pure function of the network.

    A network's last bits may depend on the batch's shape, so the shape depends on nothing else.
    """
    largest = (network.width or 64) * network.size**2 * 4  # bytes of the first block's output, one view
    return max(1, min(MAX_VIEWS_PER_BATCH, ACTIVATION_BYTES // largest))


class _LabelRun:
    """One labeling run: what stays the same from batch to batch, and what adds up."""

    def __init__(self, dataset: Dataset, plan: LabelPlan) -> None:
        self.dataset, self.plan = dataset, plan
        self.affine = labeler_input(dataset.manifest, plan.labeler)
        images, names = dataset.manifest.images, dataset.manifest.classes.names
        self.views = count_views(plan.views)
        soft = {name: kind for name, kind in dataset.folder.layout.dense.items() if name.startswith("soft_")}
        views = view_columns(plan.views, present=False)
        columns = soft | views | column_types(plan.coding, self.views, len(names))
        self.layout = replace(dataset.folder.layout, dense=columns)
        self.maker = ViewMaker(plan.views, images.height, images.width, plan.device)
        self.batch = views_per_batch(plan.labeler.description.network)
        self.meter = CertificateMeter()
        self.golden: list[GoldenView] = []

    def label(self, first: int, records: Records, pixels: U8, on_progress: Callable[[int, int], None]) -> Records:
        """Return the records with dense labels; `first` is the number of the first one."""
        images_at_once = max(1, self.batch // self.views)
        boxes = self._draw_boxes(first, len(records))
        parts = []
        for start in range(0, len(records), images_at_once):
            part = slice(start, start + images_at_once)
            images = torch.from_numpy(pixels[part]).to(self.plan.device)
            given = {name: torch.from_numpy(values[part]).to(self.plan.device) for name, values in boxes.items()}
            views = self.maker(images, view_box=given.get("view_box"), view_flip=given.get("view_flip"))
            logits = self._forward(views.flatten(0, 1)).reshape(*views.shape[:2], -1).cpu().numpy()
            encoded = encode_labels(logits, self.plan.coding)
            probs = decode_probs(encoded, self.plan.coding, logits.shape[-1])
            self.meter.add(log_softmax(logits)[0], probs)
            self._note_golden(first + start, records.ids[start : start + len(images)], views, probs)
            parts.append(encoded)
            on_progress(first + start + len(images), len(self.dataset))
        columns = pick(records.dense, ("soft_",))
        columns |= {name: values.astype(_STORED[name]) for name, values in boxes.items()}
        columns |= {name: np.concatenate([encoded[name] for encoded in parts]) for name in parts[0]}
        return Records(records.ids, records.labels, records.images, columns)

    def _draw_boxes(self, first: int, count: int) -> Columns:
        """Return view_box, int64 [count, views, 4], and view_flip, bool [count, views], where views are boxes."""
        spec, draw, images = self.plan.views, self.plan.boxes, self.dataset.manifest.images
        if not isinstance(spec, Boxes):
            return {}
        drawn = [
            [random_box(draw.seed, number, view, images.height, images.width, draw.least) for view in range(spec.count)]
            for number in range(first, first + count)
        ]
        box = np.array([[astuple(box) for box, _ in row] for row in drawn], np.int64)
        flip = np.array([[flip for _, flip in row] for row in drawn], np.bool_)
        return {"view_box": box, "view_flip": flip} if spec.flip else {"view_box": box}

    def _forward(self, views: Tensor) -> Tensor:
        """Return logits [views, classes]; every pass has the same shape, the last one padded."""
        results = []
        with torch.no_grad(), full_float32():
            for part in torch.split(views, self.batch):
                padded = functional.pad(part, (0, 0, 0, 0, 0, 0, 0, self.batch - len(part)))
                results.append(self.plan.labeler.network(apply_affine(self.affine, padded))[: len(part)])
        return torch.cat(results)

    def _note_golden(self, first: int, ids: list[str], views: Tensor, probs: F32) -> None:
        """Write down the second view of the first record, the middle of the middle, the last of the last.

        The second, because first, middle and last stay in place when rows and columns are exchanged.
        """
        count = len(self.dataset)
        wanted = {count - 1: self.views - 1, count // 2: self.views // 2, 0: min(1, self.views - 1)}
        for number, view in sorted(wanted.items()):
            if first <= number < first + len(ids):
                row = number - first
                pixels = digest_view(views[row, view].cpu().numpy())
                top, prob = top_of(probs[row, view])
                golden = GoldenView(id=ids[row], view=view, pixels=pixels, top_class=top, top_prob=prob)
                self.golden.append(golden)

    def describe(self, digests: Digests) -> Manifest:
        """Return the manifest of the labelled dataset."""
        old, plan, description = self.dataset.manifest, self.plan, self.plan.labeler.description
        labeler = Labeler(
            network=description.network,
            weights_digest=plan.labeler.digest,
            input=self.affine,
            epochs=description.epochs_done,
            accuracy=description.accuracy,
            device=plan.device.type,
            libraries=library_versions(),
            labeling_flops=count_flops(description.network) * self.views * len(self.dataset),
            training_flops=description.training_flops,
            training_seconds=description.training_seconds,
            training_device=description.training_device,
            training_libraries=description.libraries or None,
        )
        labels = Labels(
            views=plan.views,
            coding=plan.coding,
            profile=plan.profile,
            certificate=self.meter.result(),
            labeler=labeler,
            golden=tuple(self.golden),
            digest=digests.labels or "",
        )
        recipe = Recipe(loss="ladd", view_reduction="sum", source="LADD Eq. 5")
        return old.model_copy(update={"labels": labels, "recipe": recipe, "digest": digests.dataset})


def _say_classes_differ(names: tuple[str, ...], manifest: Manifest) -> str:
    wanted = manifest.classes.names
    pairs = enumerate(zip(names, wanted, strict=False))
    first = next((f'number {i} is "{a}" there and "{b}" here' for i, (a, b) in pairs if a != b), "")
    return (
        f"the labeler has {len(names)} classes, the dataset {len(wanted)}; {first or 'their numbers differ'}. "
        'Train one in this order: "ladd train-labeler --for DIR".'
    )
