"""Which picture each row of SRe2L's relabel files belongs to: no file says it, so it is worked out and checked.

The relabel program draws pictures by torch's RandomSampler from a generator of its own (seed 42), which goes on from
epoch to epoch, over torchvision's ImageFolder: class folders sorted as text, in each the files sorted as text. Torch
draws two permutations an epoch, of which it uses the first (versions before that change drew one). An epoch that is
left early draws one less. LPLD writes the places into sampler_indices_epoch.json, LPQLD into
sampler_indices_batch.json, G-VBSM and EDC into each batch: these hold whatever torch did.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ladd_data import ConvertError

INDEX_FILE = "sampler_indices_epoch.json"
SEED = 42
Draws = Literal[1, 2]
"""Permutations that the torch of that day drew for an epoch."""
PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What torchvision's ImageFolder takes for a picture."""

Order = NDArray[np.int64]
"""Places in the listing, row by row of an epoch."""


def folder_listing(run: Path) -> list[str]:
    """Return the pictures of a folder of class folders in ImageFolder's order: "new000/class000_id000.jpg", ..."""
    listed = []
    for folder in sorted(entry.name for entry in os.scandir(run) if entry.is_dir()):
        for root, _, names in sorted(os.walk(run / folder, followlinks=True)):
            inside = Path(root).relative_to(run)
            listed += [str(inside / name) for name in sorted(names) if name.lower().endswith(PICTURES)]
    return listed


def listing_digest(listing: Sequence[str]) -> str:
    """Return the SHA-256 over the listing, a name a line: what the order hangs on."""
    return hashlib.sha256("".join(f"{name}\n" for name in listing).encode()).hexdigest()


def sampled_orders(count: int, epochs: int, seed: int = SEED, draws: Draws = 2) -> list[Order]:
    """Return the permutation of `count` pictures of each epoch, as RandomSampler drew them."""
    generator = torch.Generator().manual_seed(seed)
    orders = []
    for _ in range(epochs):
        orders.append(torch.randperm(count, generator=generator).numpy())
        for _ in range(draws - 1):
            torch.randperm(count, generator=generator)
    return orders


def read_index_file(path: Path, count: int, epochs: int) -> list[Order]:
    """Return the orders that LPLD's JSON states.

    Args:
        path: the folder of epochs.
        count: pictures there are.
        epochs: how many there are.

    Raises:
        ConvertError: it is no such JSON, names pictures that do not exist, or is of a folder with fewer pictures.
    """
    file = path / INDEX_FILE
    expected = f"a list of places 0 .. {count - 1} for each of epochs 0 .. {epochs - 1}"
    try:
        content = json.loads(file.read_bytes())
        orders = [np.array(content[str(epoch)], np.int64) for epoch in range(epochs)]
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ConvertError(f"{file}: found something else ({type(error).__name__}); expected {expected}.") from error
    for epoch, order in enumerate(orders):
        if order.ndim != 1:
            raise ConvertError(f"{file}: found {order.ndim} levels of lists in epoch {epoch}; expected {expected}.")
        check_places(file, f"epoch {epoch}", order, count)
    whole = max(len(order) for order in orders)
    if whole < count and any(len(order) == whole == order.max(initial=-1) + 1 for order in orders):
        raise ConvertError(
            f"{file}: found epochs of all of {whole} pictures; there are {count}. A picture was added since the labels "
            "were made, so that the places are of other ones."
        )
    return orders


def read_batch_places(file: Path, numbers: Sequence[int], count: int) -> list[Order]:
    """Return the places of the rows of some batches, as LPQLD's JSON states them.

    Args:
        file: the JSON.
        numbers: of the batches.
        count: pictures there are.

    Raises:
        ConvertError: it is no such JSON, lacks a batch, names pictures that do not exist, or is of a folder with
            fewer pictures.
    """
    expected = f"a list of places 0 .. {count - 1} for each batch"
    try:
        content = json.loads(file.read_bytes())
        places = [np.array(content[str(number)], np.int64) for number in numbers]
    except KeyError as error:
        raise ConvertError(f"{file}: found no batch {error}; expected {expected}. It is of another run.") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ConvertError(f"{file}: found something else ({type(error).__name__}); expected {expected}.") from error
    seen = np.zeros(count, np.bool_)
    for number, here in zip(numbers, places, strict=True):
        if here.ndim != 1:
            raise ConvertError(f"{file}: found {here.ndim} levels of lists in batch {number}; expected {expected}.")
        check_places(file, f"batch {number}", here, count)
        seen[here] = True
    if 0 < (whole := int(seen.sum())) < count and seen[:whole].all() and sum(map(len, places)) >= 2 * count:
        raise ConvertError(
            f"{file}: found places of the first {whole} pictures only; there are {count}. A picture was added since "
            "the labels were made, so that the places are of other ones."
        )
    return places


def check_places(path: Path, where: str, order: Order, count: int) -> None:
    """Check that places are of pictures that there are, each at most once.

    Raises:
        ConvertError: they are not.
    """
    if len(order) and (order.min() < 0 or order.max() >= count):
        raise ConvertError(
            f"{path}: found places {order.min()} .. {order.max()} in {where}; expected 0 .. {count - 1}, the {count} "
            "pictures given. These are not the pictures that the labels were made from."
        )
    if len(np.unique(order)) != len(order):
        twice = int(np.flatnonzero(np.bincount(order) > 1)[0])
        raise ConvertError(f"{path}: found picture {twice} twice in {where}; expected each picture once an epoch.")
