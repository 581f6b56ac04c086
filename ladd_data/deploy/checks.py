"""Misuse of a dataset in training, refused before it costs time: labels, classes and pictures that do not fit."""

from __future__ import annotations

import numpy as np

from ladd_data.dataset import Dataset
from ladd_data.deploy.losses import Loss
from ladd_data.errors import UsageError
from ladd_data.manifest import Affine, Network
from ladd_data.pixels import natural_affine
from ladd_data.sources import ImageSet


def check_run(dataset: Dataset, network: Network, loss: Loss, val: ImageSet) -> None:
    """Refuse what cannot be trained, or tested, together.

    Raises:
        UsageError: says what was found, what was expected, and what to do.
    """
    natural_input(dataset)
    loss.check(dataset.manifest)
    _check_network(dataset, network)
    _check_val(dataset, val)


def natural_input(dataset: Dataset) -> Affine:
    """Return the map from a natural picture to what a student of this dataset takes.

    Raises:
        UsageError: the set is ZCA-whitened, so there is no such map.
    """
    normalization = dataset.manifest.images.normalization
    if normalization is None:
        raise UsageError(
            "the images are ZCA-whitened: a student of theirs must be tested on images whitened by the same matrix, "
            "which no file holds, and plain test images would give a number that means nothing. Convert the "
            "de-whitened pictures (--whitening dewhitened) to train on ordinary input."
        )
    return natural_affine(normalization)


def _check_network(dataset: Dataset, network: Network) -> None:
    images, classes = dataset.manifest.images, len(dataset.classes)
    if network.classes != classes:
        raise UsageError(f"{network.name}: has {network.classes} outputs; expected {classes}, the dataset's classes.")
    if (network.channels, network.size, network.size) != (images.channels, images.height, images.width):
        raise UsageError(
            f"{network.name}: takes {network.channels}x{network.size}x{network.size} images; the dataset's are "
            f"{images.channels}x{images.height}x{images.width}."
        )


def _check_val(dataset: Dataset, val: ImageSet) -> None:
    images, names = dataset.manifest.images, dataset.classes
    if val.classes is not None and val.classes != names:
        same = "the same classes in another order" if set(val.classes) == set(names) else "other classes"
        raise UsageError(
            f"{val.name}: has {same}; accuracy would be that of wrong labels. Renumber them with "
            "ladd_data.sources.match_classes, or name the folders as the dataset names its classes."
        )
    if len(val.labels) == 0 or val.labels.min() < 0 or val.labels.max() >= len(names):
        found = f"labels {val.labels.min()} .. {val.labels.max()}" if len(val.labels) else "no pictures"
        raise UsageError(f"{val.name}: found {found}; expected 0 .. {len(names) - 1}, as the dataset's classes.")
    missing = [names[label] for label in sorted(set(range(len(names))) - set(np.unique(val.labels).tolist()))]
    if missing:
        raise UsageError(
            f"{val.name}: found pictures of {len(names) - len(missing)} classes; expected all {len(names)} of the "
            f"dataset's. None of: {', '.join(missing[:5])}. Is it the set that was distilled?"
        )
    shape, wanted = val.images.shape[1:], (images.channels, images.height, images.width)
    if shape != wanted:
        raise UsageError(f"{val.name}: pictures are {shape}; expected {wanted}, as the dataset's.")
