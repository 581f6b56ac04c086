"""SRe2L's relabel files and their kin: a folder an epoch, a file a batch, opened and checked one by one.

    <fkd-path>/epoch_<e>/batch_<b>.tar      a torch file in spite of its name; a list of 6, 7 or 8:

    0 coords     f32 [B,4]: top / H, left / W, height / H, width / W of the crop in the picture
    1 flips      bool [B], after resizing; LPLD on ImageNet-21K: cut-outs f32 [B,7] in its place (y, x, height, width of
                 the middle and sides as shares of the view, and the fill's R, G, B), and then no flips
    2 mix_index  int64 [B], the row of the same batch that is mixed in; None without mixing
    3 lam        float, the share of the row's own (MixUp), or what CutMix drew; None
    4 bbox       rows x1..x2 and columns y1..y2 of the view that come from the partner (CutMix); None
    5 output     float16 or float32 [B, classes]: the teacher's answer to the mixed view
    6 index      int64 [B], the picture's place in the sorted listing (G-VBSM, EDC); 7 (EDC): of no use

    <fkd-path>/batch_<b>.tar                LPQLD: counted over all epochs, in one folder; the same list, but

    0 coords float16; 2 mix_index uint8, which wraps above 256 rows; 4 bbox four uint8 tensors
    5 output     the k largest logits, float16 or float32 [B, k], where labels are quantised; else as above
    6 ids        int16 [B, k], their classes. With RandAugment, its parameters lie between 1 and 2

Files sort as text in the wrong order (batch_10 before batch_2), so they are read by number.
Sources: SRe2L 8d00cba3, CDA, soft-label-pruning 63eee186 (LPLD), soft-label-pruning-quantization 107c7a5d (LPQLD),
G_VBSM 1ed80b0e, EDC.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ladd_converters.class_folders import scan
from ladd_converters.torch_files import dense, read_torch, say_content, say_tensor
from ladd_data import ConvertError, UsageError

_EPOCH, _BATCH = re.compile(r"epoch_(\d+)"), re.compile(r"batch_(\d+)\.tar")
_EXPECTED = "epoch_<e>/batch_<b>.tar, as SRe2L's relabel step writes them, or LPQLD's batch_<b>.tar"
_OFF = 0.02
"""Pixels by which a crop's edge may miss a whole number, beside the rounding of float16 where shares are stored so."""
_HALF = 2.0**-12
"""Largest error of a share in float16."""
_MOST_ROWS_UINT8 = 256
FLAT_INDEX_FILE = "sampler_indices_batch.json"
"""LPQLD's: which picture each row of each batch is of."""


@dataclass(frozen=True, slots=True)
class BatchFile:
    """Where a batch lies: its epoch and its number, as the names say; no epoch where LPQLD counts over all of them."""

    path: Path
    epoch: int | None
    number: int


@dataclass(frozen=True, slots=True)
class BatchRows:
    """What one file says of its B rows.

    coords: float64 [B, 4], y, x, height, width as shares of the picture. flip: bool [B], or None.
    cutout: float32 [B, 7], or None. partner: int64 [B], the row that is mixed in, or None. lam: MixUp's share of the
    row's own, or what CutMix drew. bbox: rows from, columns from, rows to, columns to of CutMix's patch, in pixels of
    the view. output: float16 or float32 [B, classes], or [B, k] of the classes in ids. index: int64 [B], the picture,
    where the file says it. fields: how many the file holds; 8 are EDC's on ImageNet, whose crops were resized without
    rounding. rounding: how far coords may be off. ids: int64 [B, k], or None.
    """

    file: BatchFile
    coords: NDArray[np.float64]
    flip: NDArray[np.bool_] | None
    cutout: NDArray[np.float32] | None
    partner: NDArray[np.int64] | None
    lam: float | None
    bbox: tuple[int, int, int, int] | None
    output: NDArray[np.floating[Any]]
    index: NDArray[np.int64] | None
    fields: int
    rounding: float = 0.0
    ids: NDArray[np.int64] | None = None

    @property
    def kind(self) -> str:
        """How its rows were mixed: "none", "cutmix" or "mixup"."""
        if self.partner is None:
            return "none"
        return "mixup" if self.bbox is None else "cutmix"

    def __len__(self) -> int:
        return len(self.coords)


def holds_batches(path: Path) -> bool:
    """Tell from its names whether a folder is one of relabel files."""
    if (path / FLAT_INDEX_FILE).is_file():
        return any(_BATCH.fullmatch(entry.name) for entry in scan(path))
    first = next((path / entry.name for entry in scan(path) if _EPOCH.fullmatch(entry.name)), None)
    return first is not None and any(_BATCH.fullmatch(entry.name) for entry in scan(first))


def list_batches(path: Path) -> list[BatchFile]:
    """Return the batch files by epoch and number.

    Raises:
        UsageError: there are none.
    """
    if (path / FLAT_INDEX_FILE).is_file():
        flat = [
            BatchFile(path / entry.name, None, int(name[1]))
            for entry in scan(path)
            if (name := _BATCH.fullmatch(entry.name))
        ]
        return sorted(flat, key=lambda file: file.number)
    epochs = sorted((int(name[1]), path / entry.name) for entry in scan(path) if (name := _EPOCH.fullmatch(entry.name)))
    files = [
        BatchFile(folder / entry.name, epoch, int(name[1]))
        for epoch, folder in epochs
        for entry in scan(folder)
        if (name := _BATCH.fullmatch(entry.name))
    ]
    if not files:
        found = "no such folder" if not path.is_dir() else "found no batch files"
        raise UsageError(f"{path}: {found}; expected {_EXPECTED}.")
    return sorted(files, key=lambda file: (file.epoch or 0, file.number))


def find_gap(files: Sequence[BatchFile]) -> str | None:
    """Return the first epoch or batch that is missing before a later one, such as "epoch_2/batch_1.tar"."""
    epoch, number = 0, 0
    for file in files:
        if file.epoch is None:
            if file.number != number:
                return f"batch_{number}.tar"
            number += 1
            continue
        if file.epoch != epoch and number:
            epoch, number = epoch + 1, 0
        if (file.epoch, file.number) != (epoch, number):
            return f"epoch_{epoch}/batch_{number}.tar"
        number += 1
    return None


def read_batch(file: BatchFile) -> BatchRows:
    """Open a batch file and check its fields against each other.

    Raises:
        ConvertError: it is something else, is damaged, or holds numbers that cannot be.
    """
    path = file.path
    content = read_torch(path)
    if not isinstance(content, list | tuple) or not 6 <= len(content) <= 8:
        raise ConvertError(f"{path}: found {say_content(content)}; expected a list of 6 to 8, as SRe2L writes.")
    ids = _class_ids(path, content) if file.epoch is None else None
    coords = _tensor(path, content, 0, "coords", floating=True)
    count = len(coords)
    if coords.shape != (count, 4) or not count:
        raise ConvertError(f"{path}: found coords {say_tensor(coords)}; expected [rows, 4].")
    second = _tensor(path, content, 1, "flips or cut-outs", count=count)
    flip, cutout = (second, None) if second.dim() == 1 else (None, second)
    if cutout is not None and cutout.shape != (count, 7):
        raise ConvertError(f"{path}: found cut-outs {say_tensor(cutout)}; expected [{count}, 7].")
    output = _tensor(path, content, 5, "outputs", count=count, floating=True)
    if output.dim() != 2 or not torch.isfinite(output).all():
        found = say_tensor(output) if output.dim() != 2 else "NaN or infinity (float16 ends at 65504)"
        raise ConvertError(f"{path}: found outputs {found}; expected finite [{count}, classes].")
    if ids is not None and output.shape != ids.shape:
        raise ConvertError(f"{path}: found outputs {say_tensor(output)} of {ids.shape[1]} classes; expected as many.")
    index = _tensor(path, content, 6, "index", count=count) if len(content) > 6 and ids is None else None
    partner = _partners(path, content, count)
    stored = np.float16 if output.dtype == torch.float16 else np.float32
    return BatchRows(
        file,
        coords.numpy().astype(np.float64),
        None if flip is None else flip.numpy().astype(bool),
        None if cutout is None else cutout.numpy().astype(np.float32),
        partner,
        _share(path, content[3]),
        _corners(path, content[4]),
        output.to(torch.float32).numpy().astype(stored),
        None if index is None else index.numpy().astype(np.int64),
        len(content),
        _HALF if coords.dtype == torch.float16 else 0.0,
        ids,
    )


def pixel_boxes(rows: BatchRows, height: int, width: int) -> NDArray[np.int32]:
    """Return the crops in pixels of a picture: int32 [B, 4], y, x, height, width; see `whole_boxes`."""
    return whole_boxes(rows.file.path, rows.coords, rows.rounding, (height, width))


def rounding_of(coords: NDArray[np.floating[Any]]) -> float:
    """Return how far shares may be off by the type that they are stored in."""
    return _HALF if coords.dtype == np.float16 else 0.0


def whole_boxes(
    path: Path, coords: NDArray[np.floating[Any]], rounding: float, size: tuple[int, int]
) -> NDArray[np.int32]:
    """Return crops, shares of a picture [B, 4], in its pixels: int32 [B, 4], y, x, height, width.

    Args:
        path: of the file, for messages.
        coords: y, x, height, width as shares.
        rounding: how far these may be off.
        size: height and width of the picture.

    Raises:
        ConvertError: an edge lies between pixels or outside: the pictures were of another size.
    """
    height, width = size
    exact = coords.astype(np.float64) * np.array([height, width, height, width])
    whole = np.rint(exact)
    ends = whole[:, :2] + whole[:, 2:]
    near = np.abs(exact - whole) < _OFF + rounding * max(height, width)
    fits = near.all(1) & (whole[:, :2] >= 0).all(1) & (whole[:, 2:] >= 1).all(1)
    fits &= (ends <= [height, width]).all(1)
    if not fits.all():
        row = int(np.argmin(fits))
        raise ConvertError(
            f"{path}: found the crop {coords[row].tolist()} in row {row}, in pixels "
            f"{np.round(exact[row], 3).tolist()}; expected whole numbers inside pictures of {height}x{width}. "
            "The labels were made from pictures of another size."
        )
    boxes: NDArray[np.int32] = whole.astype(np.int32)
    return boxes


def _partners(path: Path, content: Sequence[object], count: int) -> NDArray[np.int64] | None:
    """Return the row that is mixed into each row, int64 [B]; None without mixing.

    Raises:
        ConvertError: it is no row of the batch, or cannot be told.
    """
    if content[2] is None:
        return None
    partner = _tensor(path, content, 2, "mix_index", count=count)
    if partner.dtype == torch.uint8 and count > _MOST_ROWS_UINT8:
        raise ConvertError(
            f"{path}: found mix_index uint8 in {count} rows: it wraps above {_MOST_ROWS_UINT8}, so which row was mixed "
            "in is lost. Relabel with batches of at most 256."
        )
    if not ((partner >= 0) & (partner < count)).all():
        raise ConvertError(f"{path}: found mix_index {int(partner.min())} .. {int(partner.max())} in {count} rows.")
    rows: NDArray[np.int64] = partner.numpy().astype(np.int64)
    return rows


def _class_ids(path: Path, content: Sequence[object]) -> NDArray[np.int64] | None:
    """Return the classes of LPQLD's outputs, int64 [B, k]; None where a row has an output for each class.

    Raises:
        ConvertError: views were made by RandAugment, too; or a class number wrapped, or is there twice.
    """
    if isinstance(content[2], list | tuple):
        raise ConvertError(
            f"{path}: found RandAugment's parameters in field 2 (--use_rand_aug): the format has no such views, so no "
            "label could be shown with its picture. Relabel without it."
        )
    if len(content) < 7:
        return None
    tensor = _tensor(path, content, 6, "ids")
    if tensor.dim() != 2 or tensor.is_floating_point():
        raise ConvertError(f"{path}: found {say_tensor(tensor)} in field 6 (ids); expected whole numbers [rows, k].")
    ids = tensor.numpy().astype(np.int64)
    if ids.size and (ids.min() < 0 or (np.diff(np.sort(ids, 1), axis=1) == 0).any()):
        raise ConvertError(f"{path}: found a class below 0 or twice in a row of field 6; expected each once.")
    return ids


def _tensor(
    path: Path, content: Sequence[object], place: int, name: str, count: int | None = None, floating: bool | None = None
) -> Tensor:
    item = content[place]
    if not isinstance(item, Tensor) or not item.dim() or (count is not None and len(item) != count):
        found = say_tensor(item) if isinstance(item, Tensor) else type(item).__name__
        wanted = "a tensor" if count is None else f"a tensor of {count} rows"
        raise ConvertError(f"{path}: found {found} in field {place} ({name}); expected {wanted}.")
    tensor = dense(path, item)
    if floating and not tensor.is_floating_point():
        raise ConvertError(f"{path}: found {say_tensor(tensor)} in field {place} ({name}); expected floats.")
    return tensor


def _share(path: Path, item: object) -> float | None:
    value = item.item() if isinstance(item, Tensor) and item.numel() == 1 else item
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConvertError(f"{path}: found {str(value)[:40]} in field 3 (lambda); expected 0 .. 1.")
    return float(value)


def _corners(path: Path, item: object) -> tuple[int, int, int, int] | None:
    if item is None:
        return None
    values = item.tolist() if isinstance(item, Tensor) else item
    if isinstance(values, list | tuple) and len(values) == 4:
        corners = [int(value) if isinstance(value, int | Tensor) else -1 for value in values]
        top, left, bottom, right = corners
        if 0 <= top <= bottom and 0 <= left <= right:
            return top, left, bottom, right
    raise ConvertError(f"{path}: found {str(values)[:60]} in field 4 (bbox); expected 4 whole numbers, x1 y1 x2 y2.")
