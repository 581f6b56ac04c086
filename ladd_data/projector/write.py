"""A trained projector into a dataset's folder: whole or not at all, and nothing else there changes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ladd_data.card.sets import offer_sets
from ladd_data.dataset import Dataset
from ladd_data.files import new_folder, write_synced
from ladd_data.label_writer import place_of_set
from ladd_data.manifest import SPEC_VERSION, GoldenView, Manifest, classes_digest
from ladd_data.manifest_json import dump_projector_set
from ladd_data.manifest_projector import (
    BACKBONE_FILE,
    HEAD_FILE,
    STATEMENT,
    WEIGHTS,
    OnlineViews,
    ProjectorRecord,
    ProjectorSet,
    Teacher,
    projector_digest,
)
from ladd_data.projector.network import ProjectorNetwork
from ladd_data.recipe import Recipe
from ladd_data.views.golden import digest_view, top_of


@dataclass(frozen=True, slots=True)
class Made:
    """What is said of a projector beside its network: which views, whose labels, how, and what for."""

    views: OnlineViews
    recipe: Recipe
    teachers: tuple[Teacher, ...] = ()
    training: ProjectorRecord | None = None


def write_projector(
    dataset: Dataset,
    name: str,
    network: ProjectorNetwork,
    made: Made,
    *,
    backbone: Path,
    head: Path | None = None,
    overwrite: bool = False,
    after: Callable[[], None] = lambda: None,
) -> ProjectorSet:
    """Write a projector as a label set of a dataset, which its card lists, and round the network to what is stored.

    Args:
        dataset: opened from its folder.
        name: of the set.
        network: on the CPU; its `spec` says which public files are kept in the set.
        made: what else is said of it.
        backbone: the file of the backbone's weights.
        head: the file of the head's W, if it has one.
        overwrite: replace the set, a projector too, if it is there.
        after: called when the set is in its place.

    Raises:
        UsageError: the name is none, the set is there already, or another run is writing it.
    """
    target = place_of_set(dataset.folder.path, name)
    with new_folder(target, overwrite=overwrite, after=after, marker=STATEMENT, option="--as") as folder:
        content = network.dump()
        write_synced(folder / WEIGHTS, content)
        written = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        network.spec = network.spec.model_copy(update=written)
        for public, source, file in (
            (network.spec.backbone.weights, backbone, BACKBONE_FILE),
            (network.spec.head.base, head, HEAD_FILE),
        ):
            if public is not None and public.kept and source is not None:
                shutil.copyfile(source, folder / file)
        statement = _state(dataset, name, network, made)
        write_synced(folder / STATEMENT, dump_projector_set(statement))
    offer_sets(dataset.folder)
    return statement


def _state(dataset: Dataset, name: str, network: ProjectorNetwork, made: Made) -> ProjectorSet:
    manifest: Manifest = dataset.manifest
    fields = {
        "spec_version": SPEC_VERSION,
        "name": name,
        "count": manifest.images.count,
        "images": manifest.images.digest,
        "classes": classes_digest(manifest.classes),
        "width": len(manifest.classes.names),
        "views": made.views,
        "projector": network.spec,
        "teachers": made.teachers,
        "training": made.training,
        "golden": tuple(_golden(dataset, network)),
        "recipe": made.recipe,
        "digest": "0" * 64,
    }
    statement = ProjectorSet.model_validate(fields)
    return statement.model_copy(update={"digest": projector_digest(statement)})


def _golden(dataset: Dataset, network: ProjectorNetwork) -> list[GoldenView]:
    """Return the first, the middle and the last image, each with its label."""
    arrays, found = dataset.arrays, []
    for row in sorted({0, len(dataset) // 2, len(dataset) - 1}):
        image = torch.from_numpy(arrays.images[row])
        top, prob = top_of(network.label(image[None, None])[0, 0].softmax(-1).numpy())
        pixels = digest_view(image.to(torch.float32).numpy())
        found.append(GoldenView(id=arrays.ids[row], view=0, pixels=pixels, top_class=top, top_prob=prob))
    return found
