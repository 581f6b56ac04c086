"""Projectors: label sets that hold a network; two valid cases, and cases of one mistake."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from building import LABELLED, Document, Plan
from cases import Case, at, set_to
from safetensors.numpy import load, save

from ladd_data.files import canonical_json
from ladd_data.manifest import SPEC_VERSION, Affine, GoldenView, Normalization, classes_digest
from ladd_data.manifest_json import dump_projector_set
from ladd_data.manifest_projector import (
    Adapters,
    Backbone,
    Head,
    Projector,
    ProjectorSet,
    PublicFile,
    RandomBoxes,
    projector_digest,
)
from ladd_data.shards.folder import read_metadata
from ladd_data.types import F32

HOME = "labels/hello"
STATEMENT, WEIGHTS = f"{HOME}/projector.json", f"{HOME}/projector.safetensors"
BACKBONE = f"{HOME}/backbone.safetensors"
FEATURES, RANK = 8, 2
ADAPTED = ("stem.conv", "stages.0.0.conv1_1x1.conv")

After = Callable[[Path], object]
Tensors = dict[str, F32]


def public(content: bytes, *, kept: bool) -> PublicFile:
    """Return what is said of a public file."""
    named = {} if kept else {"reference": "timm/resnet50_clip.openai", "revision": "0123456789abcdef" * 2 + "01234567"}
    return PublicFile(bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), kept=kept, **named)


def make_tensors(classes: int) -> Tensors:
    """Return adapters of two layers, a convolution each, and a head."""
    draw = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        "head.bias": (classes,),
        "head.lora_A.weight": (RANK, FEATURES),
        "head.lora_B.weight": (classes, RANK),
    }
    for layer in ADAPTED:
        shapes[f"base_model.model.{layer}.lora_A.weight"] = (RANK, 3, 1, 1)
        shapes[f"base_model.model.{layer}.lora_B.weight"] = (4, RANK, 1, 1)
    return {name: draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def projector(*changes: After, kept: bool = False) -> After:
    """Return a change of a folder: a projector, and then what is wrong with it."""

    def change(folder: Path) -> None:
        add_projector(folder, kept)
        for one in changes:
            one(folder)

    return change


def add_projector(folder: Path, kept: bool) -> None:
    """Add a projector to a written folder."""
    source = read_metadata(folder)
    manifest, classes = source.manifest, len(source.manifest.classes.names)
    weights, backbone = save(make_tensors(classes)), save({"stem.conv.weight": np.zeros((4, 3, 1, 1), np.float32)})
    three = (0.5, 0.5, 0.5)
    spec = Projector(
        backbone=Backbone(
            name="timm:test_byobnet",
            outputs=0,
            features=FEATURES,
            parameters=12,
            size=8,
            normalization=Normalization(mean=three, std=three),
            weights=public(backbone, kept=kept),
        ),
        adapters=Adapters(rank=RANK, alpha=RANK),
        head=Head(start="zeros", rank=RANK),
        input=Affine(scale=three, offset=three),
        bytes=len(weights),
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    golden = GoldenView(id="000000", view=0, pixels="0" * 64, top_class=0, top_prob=0.5)
    statement = ProjectorSet(
        spec_version=SPEC_VERSION,
        name="hello",
        count=manifest.images.count,
        images=manifest.images.digest,
        classes=classes_digest(manifest.classes),
        width=classes,
        views=RandomBoxes(),
        projector=spec,
        golden=(golden,),
        recipe=manifest.recipe,
        digest="0" * 64,
    )
    (folder / HOME).mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(weights)
    if kept:
        (folder / BACKBONE).write_bytes(backbone)
    sealed = statement.model_copy(update={"digest": projector_digest(statement)})
    (folder / STATEMENT).write_bytes(dump_projector_set(sealed))


def edit(change: Callable[[Document], object], *, seal: bool = True) -> After:
    """Return a change of a folder: the statement, by value; and, to seal it, its digest."""

    def run(folder: Path) -> None:
        document = json.loads((folder / STATEMENT).read_bytes())
        change(document)
        if seal:
            document["digest"] = projector_digest(ProjectorSet.model_validate_json(json.dumps(document)))
        (folder / STATEMENT).write_bytes(canonical_json(document))

    return run


def put(change: Callable[[Tensors], Any], *, content: Callable[[bytes], bytes] = lambda data: data) -> After:
    """Return a change of a folder: the tensors, or their file's bytes; the statement says of them what they are."""

    def run(folder: Path) -> None:
        tensors = load((folder / WEIGHTS).read_bytes())
        change(tensors)
        data = content(save(tensors))
        (folder / WEIGHTS).write_bytes(data)
        edit(set_to("projector.bytes", len(data)))(folder)
        edit(set_to("projector.sha256", hashlib.sha256(data).hexdigest()))(folder)

    return run


def turn_bit(folder: Path) -> None:
    """Change the last number's least bit."""
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-4] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def reformat(folder: Path) -> None:
    """Write the statement in one line."""
    (folder / STATEMENT).write_bytes(json.dumps(json.loads((folder / STATEMENT).read_bytes())).encode())


def wrong(name: str, about: str, clause: str, where: str, *changes: After, kept: bool = False) -> Case:
    """Return an invalid case of a dataset with a projector."""
    return Case(
        f"projector-{name}", about, PLAIN, after=projector(*changes, kept=kept), problems=((clause, at(where)),)
    )


PLAIN = Plan()
LONELY = "base_model.model.stem.conv.lora_B.weight"
VALID = [
    Case("projector", "A projector beside the labels in the records.", LABELLED, after=projector()),
    Case("projector-kept", "A projector that holds its backbone.", PLAIN, after=projector(kept=True)),
    Case("projector-in-tars", "A projector.", Plan(edition="webdataset"), after=projector()),
]
INVALID = [
    wrong("file-missing", "No weights.", "LADD-100", WEIGHTS, lambda f: (f / WEIGHTS).unlink()),
    wrong("file-unlisted", "A file more.", "LADD-100", HOME, lambda f: (f / HOME / "model.bin").touch()),
    wrong("statement-reformatted", "Other spaces.", "LADD-100", STATEMENT, reformat),
    wrong("of-another-name", "A name that is not the folder's.", "LADD-100", STATEMENT, edit(set_to("name", "other"))),
    wrong(
        "beside-labels",
        "Stored labels and a projector in one set.",
        "LADD-100",
        HOME,
        lambda f: (f / HOME / "labels.json").write_bytes(b"{}\n"),
    ),
    wrong(
        "of-code",
        "A backbone that is code.",
        "LADD-010",
        STATEMENT,
        edit(set_to("projector.backbone.name", "module:factory"), seal=False),
    ),
    wrong(
        "head-contradictory",
        "A head that begins with nothing, from text.",
        "LADD-013",
        STATEMENT,
        edit(set_to("projector.head.start", "text"), seal=False),
    ),
    wrong("of-other-images", "A projector of other images.", "LADD-101", STATEMENT, edit(set_to("images", "0" * 64))),
    wrong(
        "of-other-classes", "A projector of other classes.", "LADD-101", STATEMENT, edit(set_to("classes", "0" * 64))
    ),
    wrong(
        "digest-of-another",
        "A digest of another network.",
        "LADD-101",
        STATEMENT,
        edit(set_to("projector.adapters.alpha", 3.0), seal=False),
    ),
    wrong("weights-changed", "A bit of an adapter.", "LADD-102", WEIGHTS, turn_bit),
    wrong(
        "backbone-changed",
        "Another backbone in the set.",
        "LADD-102",
        BACKBONE,
        lambda f: (f / BACKBONE).write_bytes(b"1"),
        kept=True,
    ),
    wrong(
        "weights-pickled",
        "Weights that are a pickle: read as safetensors, a header of 700 MB.",
        "LADD-080",
        WEIGHTS,
        put(lambda t: None, content=lambda data: b"\x80\x04N." + bytes([7] * 8)),
    ),
    wrong(
        "weights-cut-short",
        "Weights without their last number.",
        "LADD-103",
        WEIGHTS,
        put(lambda t: None, content=lambda data: data[:-4]),
    ),
    wrong("tensor-missing", "An adapter without its other half.", "LADD-103", WEIGHTS, put(lambda t: t.pop(LONELY))),
    wrong(
        "tensor-unknown",
        "A tensor of no layer.",
        "LADD-103",
        WEIGHTS,
        put(lambda t: t.update(more=np.zeros(2, np.float32))),
    ),
    wrong(
        "rank-other",
        "An adapter of another rank.",
        "LADD-103",
        WEIGHTS,
        put(lambda t: t.update({LONELY: np.zeros((4, 3, 1, 1), np.float32)})),
    ),
    wrong("nan", "An adapter with NaN.", "LADD-103", WEIGHTS, put(lambda t: t[LONELY].fill(np.nan))),
    wrong(
        "in-float16",
        "Tensors of another type than is stated.",
        "LADD-103",
        WEIGHTS,
        put(lambda t: t.update({n: v.astype(np.float16) for n, v in t.items()})),
    ),
]
