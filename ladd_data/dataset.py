"""An opened, verified dataset: records by number, batches by loader, views by one call."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import DatasetError, Problem, UsageError, say_place
from ladd_data.loaders.decode import decode_probs, find_soft, to_tensors
from ladd_data.loaders.resident import ResidentLoader
from ladd_data.manifest import Boxes, Full, Grid, Manifest
from ladd_data.remote import explain_stale, fetch, find_repo
from ladd_data.shards.container import clause_of
from ladd_data.shards.folder import Folder, Shard, open_folder
from ladd_data.shards.images import decode_image
from ladd_data.shards.layout import Records, pick
from ladd_data.types import I64, U8, Array, Columns, Record
from ladd_data.views.device import ViewMaker, apply_affine
from ladd_data.views.geometry import grid, lies_inside

_PLAIN = {"view_box": np.int64, "view_flip": np.bool_}
"""Types that torch computes with, for the columns that say where views lie."""


def load(path: str | Path, *, revision: str | None = None, verify: bool = True) -> Dataset:
    """Open a dataset: a folder, or one of the Hub.

    Args:
        path: the folder, as `ladd convert` or `ladd label` wrote it; or "user/repo" where there is no such folder, or
            "hf://datasets/user/repo@revision": downloaded into huggingface_hub's cache, where it is not yet.
        revision: of a dataset on the Hub, a tag, branch or commit; the head of "main" where left out.
        verify: compare every shard with its checksum first; False compares sizes and metadata only. What is
            read later is still held to the format's limits, and what cannot be read is a DatasetError.

    Raises:
        UsageError: there is no such folder, or it is no ladd dataset.
        LaddError: it is not on the Hub, may not be read, or the Hub cannot be reached and the cache does not have it.
        DatasetError: a shard is missing or changed, metadata was edited, a version is unknown; every
            problem found, each with its file.
    """
    named = find_repo(path)
    if named is None:
        if revision is not None:
            raise UsageError(f"{path}: a folder has no revisions; leave revision out, or name a dataset of the Hub.")
        return Dataset(open_folder(Path(path), verify=verify))
    repo, stated = named
    if revision is not None and stated not in (None, revision):
        raise UsageError(f"{path}: names one revision, and revision={revision!r} another. Give one.")
    folder = fetch(repo, revision or stated)
    try:
        return Dataset(open_folder(folder, verify=verify))
    except DatasetError as error:
        raise explain_stale(error, folder) from error


@dataclass(frozen=True, slots=True)
class Arrays:
    """A whole dataset, decoded.

    ids: names; images: uint8 [records, channels, height, width]; labels: int64 [records];
    dense: label columns (dense_*, view_*, soft_*) as name -> array as stored.
    """

    ids: list[str]
    images: U8
    labels: I64
    dense: Columns


class Dataset:
    """A dataset folder, opened. Made by `load`."""

    def __init__(self, folder: Folder) -> None:
        """Wrap an opened folder."""
        self.folder = folder
        self.manifest: Manifest = folder.manifest
        self._makers: dict[torch.device, ViewMaker] = {}
        self._group: tuple[int, Records] | None = None

    def __len__(self) -> int:
        """Records."""
        return self.manifest.images.count

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in label order."""
        return self.manifest.classes.names

    @property
    def view_spec(self) -> Grid | Full | Boxes | None:
        """The views that the dense labels belong to; None before labeling."""
        return self.manifest.labels.views if self.manifest.labels else None

    def __getitem__(self, index: int) -> Record:
        """Return one record, decoded; negative numbers count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        index %= len(self)
        group = bisect_right(self._groups, index, key=lambda group: group[0]) - 1
        records, row = self._read_group(group), index - self._groups[group][0]
        image = torch.from_numpy(self._decode(records, row, self._groups[group][1]))
        dense, labels = None, self.manifest.labels
        stored = to_tensors({name: values[row : row + 1] for name, values in records.dense.items()})
        if labels is not None:
            dense = decode_probs(stored, labels.coding, len(self.classes))[0]
        present, soft = stored.get("view_present"), find_soft(stored)
        return Record(
            records.ids[row],
            image,
            int(records.labels[row]),
            dense,
            None if present is None else present[0],
            None if soft is None else soft[0],
        )

    def views(
        self,
        images: Tensor,
        views: Sequence[int] | None = None,
        *,
        normalize: bool = True,
        index: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """Cut the views that the dense labels belong to, bit-equal to what the labeler saw.

        Args:
            images: uint8 [batch, channels, height, width], or one image without the batch axis.
            views: view numbers wanted, in that order; None for all.
            normalize: turn the views into model input; False leaves them on the 0..255 scale.
            index: the records' numbers (`batch.index`); needed only where views differ from record to record.

        Returns:
            float32 [batch, views, channels, height, width] on the images' device.

        Raises:
            UsageError: the dataset has no dense labels, so no views are defined; or `index` is missing.
            DatasetError: a record's box does not lie in the image.
        """
        maker = self._maker(images.device)
        given: dict[str, Tensor] = {}
        if isinstance(maker.spec, Boxes) and index is not None:
            rows = torch.as_tensor(index, dtype=torch.int64).cpu().numpy()
            given = {name: torch.from_numpy(values[rows].astype(_PLAIN[name])) for name, values in self._boxes.items()}
            given = {name: values.to(images.device) for name, values in given.items()}
        cut = maker(
            images if images.dim() == 4 else images[None],
            views,
            view_box=given.get("view_box"),
            view_flip=given.get("view_flip"),
        )
        return apply_affine(self.manifest.images.affine, cut) if normalize else cut

    def tiles(self, images: Tensor, *, resize: bool = True, normalize: bool = True) -> Tensor:
        """Take mosaics apart: the pictures that each stored image is made of, row by row from the top left.

        Resized, they are the views of `grid(factor, "1/factor")`, bit by bit.

        Args:
            images: uint8 [batch, channels, height, width], or one image without the batch axis.
            resize: to the size of a stored image; False cuts the pixels out as they are.
            normalize: turn resized tiles into model input; False leaves them on the 0..255 scale.

        Returns:
            float32 [batch, tiles, channels, height, width]; uint8, of sides divided by the factor, unless resized.

        Raises:
            UsageError: the factor does not divide the image's sides.

        Source: RDED, Sec. 3; IDC, "multi-formation".
        """
        stored, factor = self.manifest.images, self.manifest.distillation.mosaic_factor
        if stored.height % factor or stored.width % factor:
            raise UsageError(
                f"tiles of {stored.width}x{stored.height} images by a mosaic factor of {factor}: the factor does not "
                "divide the sides, and methods differ in how they pad. Cut them by the method's own rule."
            )
        batch = images if images.dim() == 4 else images[None]
        if not resize:
            sides = (factor, stored.height // factor, factor, stored.width // factor)
            return batch.reshape(*batch.shape[:2], *sides).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        cut = ViewMaker(grid(factor, f"1/{factor}"), stored.height, stored.width, batch.device)(batch)
        return apply_affine(stored.affine, cut) if normalize else cut

    def model_input(self, images: Tensor) -> Tensor:
        """Turn stored pixels, uint8 [..., channels, height, width], into model input, float32."""
        return apply_affine(self.manifest.images.affine, images)

    def loader(
        self,
        batch_size: int = 256,
        *,
        shuffle: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
    ) -> ResidentLoader:
        """Decode everything once, put it on the device, and return a loader of batches.

        Yields `Batch`, which unpacks as (image uint8 [B,C,H,W], label int64 [B], dense float32
        probabilities [B,V,classes] or None). The order depends on seed and epoch alone.
        """
        labels = self.manifest.labels
        decode = partial(decode_probs, coding=labels.coding, classes=len(self.classes)) if labels else None
        return ResidentLoader(
            torch.from_numpy(self.arrays.images).to(device),
            torch.from_numpy(self.arrays.labels).to(device),
            to_tensors(pick(self.arrays.dense, ("dense_", "soft_", "view_present")), device),
            decode,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
        )

    @cached_property
    def arrays(self) -> Arrays:
        """The whole dataset in memory, decoded once, in file order."""
        images = self.manifest.images
        pixels = np.empty((len(self), images.channels, images.height, images.width), np.uint8)
        ids: list[str] = []
        labels: list[I64] = []
        dense: dict[str, list[Array]] = {}
        for _, first, records, decoded in self.decoded():
            pixels[first : first + len(records)] = decoded
            ids += records.ids
            labels.append(records.labels)
            for name, values in records.dense.items():
                dense.setdefault(name, []).append(values)
        joined = {name: np.concatenate(parts) for name, parts in dense.items()}
        return Arrays(ids, pixels, np.concatenate(labels), joined)

    def decoded(self) -> Iterator[tuple[Shard, int, Records, U8]]:
        """Yield (shard, first record's number, records, pixels uint8 [n,C,H,W]), a row group at a time."""
        first = 0
        for shard, _, records in self.folder.records():
            yield shard, first, records, self.decode(records, shard)
            first += len(records)

    def read(self, first: int, stop: int) -> Iterator[tuple[Shard, Records]]:
        """Yield (shard, records) of the records numbered first .. stop-1, in order, undecoded, group by group."""
        group = bisect_right(self._groups, first, key=lambda group: group[0]) - 1
        while group < len(self._groups) and self._groups[group][0] < stop:
            start, shard, number = self._groups[group]
            records = self._fetch(shard, number)
            yield shard, records.slice(max(0, first - start), min(len(records), stop - start))
            group += 1

    def decode(self, records: Records, shard: Shard) -> U8:
        """Return the pixels of some records of a shard, uint8 [n, channels, height, width].

        Raises:
            DatasetError: an image is damaged, or of another size; names the record.
        """
        return np.stack([self._decode(records, row, shard) for row in range(len(records))])

    @cached_property
    def _boxes(self) -> Columns:
        """Where each record's views lie; checked, as nothing else keeps a wrong box from a device's memory."""
        columns = pick(self.arrays.dense, ("view_box", "view_flip"))
        boxes, images = columns["view_box"], self.manifest.images
        outside = ~lies_inside(boxes, images.height, images.width)
        if not outside.any():
            return columns
        row, view = np.argwhere(outside)[0].tolist()
        shard = next(group[1] for group in reversed(self._groups) if group[0] <= row)
        first = min(start for start, other, _ in self._groups if other is shard)
        name = self.arrays.ids[row]
        where = f"{say_place(shard.path, row - first, name)}, view_box, view {view}"
        found, expected = f"box {boxes[row, view].tolist()}", f"one inside {images.height}x{images.width}"
        fix = "Download the dataset again."
        raise DatasetError([Problem("LADD-044", where, found, expected, fix, row - first, name)])

    @cached_property
    def _groups(self) -> list[tuple[int, Shard, int]]:
        """Row groups as (first record, shard, number in the shard)."""
        groups, start = [], 0
        for shard in self.folder.shards:
            path = self.folder.path / shard.path
            for number, rows in enumerate(self.folder.container.read_group_sizes(path, self.folder.layout)):
                groups.append((start, shard, number))
                start += rows
        return groups

    def _read_group(self, group: int) -> Records:
        if self._group is None or self._group[0] != group:
            _, shard, number = self._groups[group]
            self._group = (group, self._fetch(shard, number))
        return self._group[1]

    def _fetch(self, shard: Shard, number: int) -> Records:
        """Read one row group of a shard."""
        try:
            path, layout = self.folder.path / shard.path, self.folder.layout
            return next(self.folder.container.read_records(path, layout, [number]))
        except ValueError as error:
            found, expected = str(error), "readable records"
            problem = Problem(clause_of(error), shard.path, found, expected, "Download it again.")
            raise DatasetError([problem]) from error

    def _decode(self, records: Records, row: int, shard: Shard) -> U8:
        try:
            return decode_image(records.images, row, self.folder.layout)
        except ValueError as error:
            where = f'{shard.path}, row of id "{records.ids[row]}"'
            problem = Problem("LADD-024", where, str(error), "the image it was", "Download the dataset again.")
            raise DatasetError([problem]) from error

    def _maker(self, device: torch.device) -> ViewMaker:
        if self.manifest.labels is None:
            raise UsageError('This dataset has no dense labels, so it has no views. Run "ladd label" first.')
        if device not in self._makers:
            images = self.manifest.images
            self._makers[device] = ViewMaker(self.manifest.labels.views, images.height, images.width, device)
        return self._makers[device]

    def __repr__(self) -> str:
        images, labels = self.manifest.images, self.manifest.labels
        dense = f", {labels.count} views each" if labels else ""
        return f"<ladd dataset {self.manifest.name}: {len(self)} images {images.width}x{images.height}{dense}>"
