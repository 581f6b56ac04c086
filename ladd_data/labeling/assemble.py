"""Finished labels become a dataset: digests over all parts, the manifest, then the shards with their images."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ladd_data.dataset import Dataset
from ladd_data.digests import Digests, Line, digest_records
from ladd_data.encodings.certificate import CertificateMeter
from ladd_data.errors import LabelError
from ladd_data.labeling.journal import Progress
from ladd_data.labeling.labeler import LoadedLabeler
from ladd_data.labeling.parts import Part, PartFormat
from ladd_data.labeling.plan import LabelPlan, labeler_input
from ladd_data.manifest import Ensemble, Labeler, Labels, Manifest, count_views
from ladd_data.models.arithmetic import count_flops, library_versions
from ladd_data.recipe import Recipe
from ladd_data.shards.folder import Shard
from ladd_data.shards.layout import Layout, Records, pick
from ladd_data.shards.plan import ShardPlan
from ladd_data.writer import write_shard


def describe_labels(
    dataset: Dataset, plan: LabelPlan, batch: int, parts: list[Part], form: PartFormat, progress: Progress
) -> Manifest:
    """Return the manifest of the labelled dataset.

    Args:
        dataset: the source.
        plan: of the run.
        batch: views in each forward pass.
        parts: of all shards, in order.
        form: of their files.
        progress: where these are.

    Raises:
        LabelError: the source's pixels or whole-image labels are not those of its manifest.
    """
    old = dataset.manifest
    digests = _digest(dataset, parts, form, progress)
    _refuse_other_pixels(old, digests)
    meter = CertificateMeter()
    for part in parts:
        meter.merge(part.errors)
    first, *others = (_describe_labeler(dataset, plan, labeler, batch) for labeler in plan.labelers)
    labels = Labels(
        views=plan.views,
        coding=plan.coding,
        profile=plan.profile,
        certificate=meter.result(),
        labeler=first,
        ensemble=Ensemble(average=plan.average, others=tuple(others)) if others else None,
        golden=tuple(view for part in parts for view in part.golden),
        digest=digests.labels or "",
    )
    recipe = Recipe(loss="ladd", view_reduction="sum", source="LADD Eq. 5")
    return old.model_copy(update={"labels": labels, "recipe": recipe, "digest": digests.dataset})


def assemble_shards(
    dataset: Dataset,
    folder: Path,
    layout: Layout,
    cut: ShardPlan,
    numbers: Iterable[int],
    progress: Progress,
    content: bytes,
) -> list[Shard]:
    """Write some of the dataset's shards: images of the source, byte for byte, with the labels of the parts.

    Args:
        dataset: the source.
        folder: the dataset folder; has its `data`.
        layout: of the labelled dataset.
        cut: into shards.
        numbers: of the shards to write.
        progress: where the parts are.
        content: the bytes of meta/ladd.json.
    """
    form, edition = PartFormat(layout), dataset.folder.edition
    written = []
    for number in numbers:
        records = _join(dataset, cut.span(number), progress.path(number), form, layout)
        written.append(write_shard(folder, edition, layout, cut.only(number), records, content))
    return written


def _join(dataset: Dataset, span: range, path: Path, form: PartFormat, layout: Layout) -> Iterator[Records]:
    """Yield a shard's records: the source's, with the label columns of the part, in the layout's order."""
    row = 0
    for _, records in dataset.read(span.start, span.stop):
        columns = pick(records.dense, ("soft_",)) | form.labels(path, row, row + len(records))
        yield replace(records, dense={name: columns[name] for name in layout.dense})
        row += len(records)


def _digest(dataset: Dataset, parts: list[Part], form: PartFormat, progress: Progress) -> Digests:
    """Return the digests over all records; keeps none of them where the ids ascend, as converters write them."""
    has_soft = dataset.manifest.soft is not None
    lines = [form.lines(progress.path(part.shard), has_soft=has_soft) for part in parts]
    if all(part.ascending for part in parts):
        if all(a.last_id < b.first_id for a, b in pairwise(parts)):
            return digest_records(dataset.manifest.classes, (line for part in lines for line in part))
        return digest_records(dataset.manifest.classes, heapq.merge(*lines))
    every: list[Line] = [line for part in lines for line in part]
    return digest_records(dataset.manifest.classes, sorted(every))


def _refuse_other_pixels(old: Manifest, digests: Digests) -> None:
    soft = old.soft.digest if old.soft is not None else None
    for what, ours, theirs in (("images", digests.images, old.images.digest), ("soft", digests.soft, soft)):
        if ours != theirs:
            raise LabelError(
                f"meta/ladd.json, {what}.digest: found records of digest {ours}; expected {theirs}. "
                'These are not the records that the manifest is about: see "ladd validate", and get them again.'
            )


def _describe_labeler(dataset: Dataset, plan: LabelPlan, labeler: LoadedLabeler, batch: int) -> Labeler:
    description = labeler.description
    return Labeler(
        network=description.network,
        weights_digest=labeler.digest,
        input=labeler_input(dataset.manifest, labeler),
        epochs=description.epochs_done,
        accuracy=description.accuracy,
        precision=plan.precision,
        batch=batch,
        channels_last=plan.channels_last,
        compiled=plan.compile,
        device=plan.device.type,
        libraries=library_versions(),
        labeling_flops=count_flops(description.network, allow_code=True) * count_views(plan.views) * len(dataset),
        training_flops=description.training_flops,
        training_seconds=description.training_seconds,
        training_device=description.training_device,
        training_libraries=description.libraries or None,
    )
