"""Small datasets for the corpus, made in memory, written by the package's own writer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ladd_data.card.header import CARD_PATH, card_header, dump_header, records_config
from ladd_data.digests import DigestMeter, digest_pixels
from ladd_data.encodings.coding import decode_probs, encode_labels
from ladd_data.encodings.profiles import coding_of_encoding
from ladd_data.errors import DatasetError
from ladd_data.files import canonical_json, sha256_file
from ladd_data.label_writer import new_label_set
from ladd_data.manifest import (
    MANIFEST_PATH,
    SPEC_VERSION,
    Boxes,
    ByRecord,
    Classes,
    Coding,
    Full,
    Manifest,
    Mix,
    Normalization,
    Opaque,
    ViewSpec,
    count_views,
)
from ladd_data.manifest_json import parse_manifest
from ladd_data.pixels import natural_affine
from ladd_data.png import encode_png
from ladd_data.shards.editions import find_container
from ladd_data.shards.folder import SHARDS_PATH, Shard, dump_shard_list, read_metadata
from ladd_data.shards.layout import Layout, Records, layout_of
from ladd_data.shards.plan import ShardPlan
from ladd_data.types import F32, U8, Columns, Edition
from ladd_data.views.geometry import grid, random_box
from ladd_data.views.golden import digest_view
from ladd_data.views.reference import box_of, mix_of, mix_reference, reference_view

Document = dict[str, Any]
NAMES = ("ant", "bee", "cat")


@dataclass(frozen=True)
class Plan:
    """What a small dataset is to be: the defaults are four 8x8 RGB images of three classes, without dense labels."""

    coding: Coding | None = None
    count: int = 4
    classes: tuple[str, ...] = NAMES
    channels: Literal[1, 3] = 3
    height: int = 8
    width: int = 8
    n: int = 3
    ratio: str = "5/8"
    kind: Full | Boxes | Mix | Opaque | None = None  # None: a grid of n and ratio
    present: bool = False
    soft: Literal["probs", "logits", "targets"] | None = None
    edition: Edition = "parquet"
    png: Literal["stored", "small"] = "stored"
    whitening: Literal["none", "zca"] = "none"
    mode: Literal["none", "clip", "range"] = "clip"
    rows_per_shard: int = 100
    rows_per_group: int = 100

    @property
    def views(self) -> ViewSpec:
        """The views that the dense labels belong to."""
        return self.kind or grid(self.n, self.ratio)


LABELLED = Plan(coding=coding_of_encoding("float16", len(NAMES)))


@dataclass
class Draft:
    """A dataset in memory: its records, their pixels, and the manifest without digests."""

    plan: Plan
    records: Records
    pixels: U8
    document: Document
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        """Work out the columns from the manifest, before anything is made wrong."""
        self.layout = layout_of(Manifest.model_validate_json(json.dumps(self.document)))


def make_draft(plan: Plan) -> Draft:
    """Return the dataset of a plan; the same numbers on every machine."""
    generator = np.random.default_rng(7)
    pixels = generator.integers(0, 256, (plan.count, plan.channels, plan.height, plan.width), np.uint8)
    ids = [f"{number:06d}" for number in range(plan.count)]
    labels = np.arange(plan.count, dtype=np.int64) % len(plan.classes)
    images = [encode_png(image, plan.png) for image in pixels]
    dense: Columns = {}
    if plan.coding is not None:
        logits = generator.integers(-12, 13, (plan.count, count_views(plan.views), len(plan.classes))) / 4
        dense = _view_columns(plan)
        if plan.present:
            logits[~dense["view_present"]] = 0
        dense |= encode_labels(logits.astype(np.float32), plan.coding)
    if plan.soft is not None:
        values = np.eye(len(plan.classes), dtype=np.float32)[labels] / 2 + np.float32(0.5 / len(plan.classes))
        dense = {f"soft_{plan.soft}": values if plan.soft == "probs" else values * 8 - 3} | dense
    records = Records(ids, labels, images, dense)
    return Draft(plan, records, pixels, _document(plan, records, pixels))


def _view_columns(plan: Plan) -> Columns:
    """Return what differs from record to record: boxes that are drawn, and every third view missing."""
    columns: Columns = {}
    rows, count = range(plan.count), count_views(plan.views)
    if isinstance(plan.views, ByRecord):
        drawn = [[random_box(7, row, view, plan.height, plan.width, 0.3) for view in range(count)] for row in rows]
        columns["view_box"] = np.array([[[b.y, b.x, b.height, b.width] for b, _ in row] for row in drawn], np.uint16)
        if plan.views.flip:
            columns["view_flip"] = np.array([[flip for _, flip in row] for row in drawn], np.bool_)
    if isinstance(plan.views, Mix):
        columns |= _mix_columns(plan, plan.views)
    if plan.present:
        columns["view_present"] = np.add.outer(np.arange(plan.count), np.arange(count)) % 3 < 2
    return columns


def _mix_columns(plan: Plan, views: Mix) -> Columns:
    """Return what each view is mixed with: the next record's next view, pasted or blended, or every third nothing."""
    number = np.add.outer(np.arange(plan.count), np.arange(views.count))
    columns: Columns = {
        "view_partner": ((number + 1) % plan.count).astype(np.uint32),
        "view_partner_view": ((number + 2) % views.count).astype(np.uint16),
    }
    pasted = (number % 3 == 0) & views.cutmix
    if views.cutmix:
        box = np.array([1, 2, plan.height // 2, plan.width // 2], np.uint16)
        columns["view_mix_box"] = np.where(pasted[..., None], box, np.uint16(0))
    if views.mixup:
        columns["view_mix_lambda"] = np.where(pasted, 1, np.where(number % 3 == 1, 0.3, 0.75)).astype(np.float32)
    return columns


def write_draft(draft: Draft, folder: Path, state: Callable[[Document], object] = lambda document: None) -> None:
    """Write a draft as a dataset folder.

    Args:
        draft: what to write; its digests are computed from what it holds.
        folder: does not exist yet.
        state: changes the manifest after the digests are in, before it goes into footers and card.
    """
    for name in ("data", "meta"):
        (folder / name).mkdir(parents=True)
    _put_digests(draft)
    honest = parse_manifest(canonical_json(draft.document))
    state(draft.document)
    content = canonical_json(draft.document)
    count = len(draft.records)
    rows = min(draft.plan.rows_per_shard, count)
    plan = ShardPlan(count, -(-count // rows), rows, draft.plan.rows_per_group)
    edition = draft.plan.edition
    writer = find_container(edition).open_writer(folder, draft.layout, plan)
    writer.add(draft.records)
    paths = writer.close(content)
    (folder / MANIFEST_PATH).write_bytes(content)
    seal(folder, paths, draft.document["spec_version"], edition)
    stored = sum((folder / path).stat().st_size for path in paths)
    size = sum(map(len, draft.records.images)) + sum(values.nbytes for values in draft.records.dense.values())
    write_plain_card(folder, _readable(content) or honest, edition, size, stored)


def write_plain_card(folder: Path, manifest: Manifest, edition: Edition, data_bytes: int, download_bytes: int) -> None:
    """Write a card of YAML and a title, so that the corpus stays small."""
    header = card_header(manifest, [records_config(manifest, edition, data_bytes, download_bytes)])
    (folder / CARD_PATH).write_text(f"{dump_header(header)}\n# {manifest.name}\n", encoding="utf-8")


def seal(
    folder: Path, paths: list[str] | None = None, version: str = SPEC_VERSION, edition: Edition = "parquet"
) -> None:
    """Write the shard list anew, with the sizes, checksums and rows that the shards now have."""
    if paths is None:
        paths = [shard["path"] for shard in json.loads((folder / SHARDS_PATH).read_bytes())["shards"]]
    shards = [
        Shard(
            path=path,
            bytes=(folder / path).stat().st_size,
            sha256=sha256_file(folder / path),
            rows=max(1, find_container(edition).read_footer(folder / path).rows),
        )
        for path in paths
    ]
    (folder / SHARDS_PATH).write_bytes(dump_shard_list(version, edition, shards))


def _readable(content: bytes) -> Manifest | None:
    """Return the manifest where a reader would take it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parse_manifest(content)
    except DatasetError:
        return None


def _put_digests(draft: Draft) -> None:
    document, records = draft.document, draft.records
    meter = DigestMeter(Classes.model_validate_json(json.dumps(document["classes"])))
    for row, (name, label) in enumerate(zip(records.ids, records.labels.tolist(), strict=True)):
        meter.add(name, label, digest_pixels(draft.pixels[row]), records.dense, row)
    found = meter.result()
    document["images"]["digest"], document["digest"] = found.images, found.dataset
    if document.get("labels"):
        document["labels"]["digest"] = found.labels
    if document.get("soft"):
        document["soft"]["digest"] = found.soft


def _document(plan: Plan, records: Records, pixels: U8) -> Document:
    """Return the manifest; numbers that cannot be checked from a folder are round ones, made up."""
    half = (0.5,) * plan.channels
    normalization = Normalization(mean=half, std=half)
    affine = natural_affine(normalization).model_dump(mode="json")
    error = {"rmse": 0.001, "max_abs": 0.002, "clipped_share": 0.0}
    document: Document = {
        "spec_version": SPEC_VERSION,
        "requires": [],
        "name": "example",
        "license": "cc0-1.0",
        "citation": None,
        "classes": {"names": list(plan.classes), "ids": None, "source": None},
        "images": {
            "count": len(records),
            "height": plan.height,
            "width": plan.width,
            "channels": plan.channels,
            "encoding": "png",
            "png": plan.png,
            "affine": affine,
            "normalization": None if plan.whitening == "zca" else normalization.model_dump(mode="json"),
            "whitening": plan.whitening,
            "quantization": {"mode": plan.mode, "error": error, "clip": None, "range": None},
            "digest": "0" * 64,
        },
        "distillation": {"method": "example", "read": {}, "asserted": {}, "files": []},
        "labels": None,
        "recipe": {"loss": "hard-ce", "view_reduction": None, "image_reduction": "mean", "source": None},
        "digest": "0" * 64,
        "extensions": {},
    }
    if plan.coding is not None:
        document["labels"] = _labels(plan, plan.coding, records, pixels)
        document["recipe"].update(loss="ladd", view_reduction="sum", source="LADD Eq. 5")
    if plan.soft is not None:
        document["soft"] = {"space": plan.soft, "digest": "0" * 64}
    full: Document = json.loads(Manifest.model_validate_json(json.dumps(document)).model_dump_json())
    return full


def _labels(plan: Plan, coding: Coding, records: Records, pixels: U8) -> Document:
    views, classes = plan.views, len(plan.classes)
    probs = decode_probs(records.dense, coding, classes)
    golden = []
    places = sorted(range(len(records)), key=records.ids.__getitem__)

    def cut_view(row: int, view: int) -> F32:
        own = reference_view(views, pixels[row], view, box_of(records.dense, row, view))
        place = mix_of(records.dense, row, view)
        if place is None:
            return own
        other = places[place.partner]
        given = box_of(records.dense, other, place.view)
        return mix_reference(own, reference_view(views, pixels[other], place.view, given), place)

    count = count_views(views)
    shown = () if isinstance(views, Opaque) else ((0, min(1, count - 1)), (len(records) - 1, count // 2))
    for row, view in shown:
        top = int(probs[row, view].argmax())
        cut = digest_view(cut_view(row, view))
        prob = round(float(probs[row, view, top]), 4)
        golden.append({"id": records.ids[row], "view": view, "pixels": cut, "top_class": top, "top_prob": prob})
    labeler = {
        "network": {
            "name": "convnet-d3",
            "width": 8,
            "classes": classes,
            "channels": plan.channels,
            "size": plan.height,
        },
        "weights_digest": "ab" * 32,
        "input": {"scale": [0.0078125] * plan.channels, "offset": [-1.0] * plan.channels},
        "device": "cpu",
        "libraries": {"torch": "2.9.0"},
        "labeling_flops": 1000000,
    }
    return {
        "views": views.model_dump(mode="json"),
        "present": plan.present,
        "coding": coding.model_dump(mode="json"),
        "certificate": {"mean_tv": 0.001, "max_tv": 0.002, "mean_kl": 0.001, "max_kl": 0.002, "top1_agreement": 1.0},
        "labeler": labeler,
        "golden": golden,
        "digest": "0" * 64,
    }


def add_set(folder: Path, name: str, plan: Plan) -> None:
    """Add a label set to a written folder: the labels that a dataset of a plan would have in its records."""
    draft = make_draft(plan)
    joined = Manifest.model_validate_json(json.dumps(draft.document))
    source = read_metadata(folder)
    columns = {column: kind for column, kind in draft.layout.dense.items() if not column.startswith("soft_")}
    with new_label_set(source, name, columns) as writer:
        writer.add({column: draft.records.dense[column] for column in columns})
        if joined.labels is not None:
            writer.finish(joined.labels, joined.recipe)
