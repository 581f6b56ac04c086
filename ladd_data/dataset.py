"""An opened, verified dataset: records by number, batches by loader, views by one call."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import DatasetError, Problem, UsageError
from ladd_data.loaders.batches import BatchMaker
from ladd_data.loaders.buffers import new_array
from ladd_data.loaders.caching.cache import is_cached, is_vouched, key_of, verify_once
from ladd_data.loaders.caching.cached import open_cached
from ladd_data.loaders.caching.partner_images import CachedImages
from ladd_data.loaders.decode import decode_probs, find_soft, to_tensors
from ladd_data.loaders.hugging_face import open_with_datasets
from ladd_data.loaders.loader import Loader
from ladd_data.loaders.mapstyle import MapDataset
from ladd_data.loaders.opening import open_loader
from ladd_data.loaders.placement import Choice
from ladd_data.loaders.places import ViewPlaces
from ladd_data.loaders.ranks import find_rank
from ladd_data.loaders.reading.unpacking import unpack
from ladd_data.loaders.schedule import Last, Schedule
from ladd_data.manifest import ByRecord, Manifest, Mix, ViewSpec
from ladd_data.remote import explain_stale, find_folder
from ladd_data.shards.container import clause_of
from ladd_data.shards.folder import Folder, Shard, check_files
from ladd_data.shards.images import decode_image
from ladd_data.shards.joined import read_joined, set_of
from ladd_data.shards.layout import Records
from ladd_data.types import I64, U8, Array, Arrays, DenseSpace, Record
from ladd_data.views.device import ViewMaker, apply_affine
from ladd_data.views.mixing import MixTable, Pixels
from ladd_data.views.mosaics import take_apart

if TYPE_CHECKING:
    import datasets


def load(path: str | Path, *, revision: str | None = None, labels: str | None = None, verify: bool = True) -> Dataset:
    """Open a dataset: a folder, or one of the Hub.

    Args:
        path: the folder; or "user/repo" where there is no such folder, or "hf://datasets/user/repo@revision", which
            are downloaded into huggingface_hub's cache.
        revision: of a dataset on the Hub, a tag, branch or commit; the head of "main" where left out.
        labels: a label set, in place of the labels in the records; of one on the Hub no other set is downloaded.
        verify: compare every shard with its checksum first; False compares sizes and metadata only. What is
            read later is still held to the format's limits, and what cannot be read is a DatasetError. Shards
            that the cache was made of, and that have not been written since, are compared when they are first
            read: with `placement="cached"` they are not.

    Raises:
        UsageError: there is no such folder, or it is no ladd dataset, or has no such label set.
        LaddError: it is not on the Hub, may not be read, or the Hub cannot be reached and the cache does not have it.
        DatasetError: a shard is missing or changed, metadata was edited, a version is unknown; every
            problem found, each with its file.
    """
    folder, remote = find_folder(path, revision, labels)
    try:
        return _open(folder, verify, labels)
    except DatasetError as error:
        if remote:
            raise explain_stale(error, folder) from error
        raise


class Dataset:
    """A dataset folder, opened. Made by `load`."""

    def __init__(self, folder: Folder, *, unverified: bool = False) -> None:
        """Wrap an opened folder; `unverified`: its shards are still to be compared with their checksums."""
        self._folder, self._unverified = folder, unverified
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
    def view_spec(self) -> ViewSpec | None:
        """The views that the dense labels belong to; None before labeling."""
        return self.manifest.labels.views if self.manifest.labels else None

    @property
    def folder(self) -> Folder:
        """The files, verified.

        Raises:
            DatasetError: a shard has changed since the cache was made of it.
        """
        if self._unverified:
            verify_once(self._folder)
            self._unverified = False
        return self._folder

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
        pixels: Pixels | None = None,
    ) -> Tensor:
        """Cut the views that the dense labels belong to, bit-equal to what the labeler saw.

        Args:
            images: uint8 [batch, channels, height, width], or one image without the batch axis.
            views: view numbers wanted, in that order; None for all.
            normalize: turn the views into model input; False leaves them on the 0..255 scale.
            index: the records' numbers (`batch.index`); needed only where views differ from record to record.
            pixels: for mixed views, returns images by record numbers; where left out, this dataset is read.

        Returns:
            float32 [batch, views, channels, height, width] on the images' device.

        Raises:
            UsageError: the dataset has no dense labels, so no views are defined; or `index` is missing.
            DatasetError: a record's box does not lie in the image, or what it is mixed with is not there.
        """
        maker = self._maker(images.device)
        given: dict[str, Any] = {}
        if isinstance(maker.spec, ByRecord) and index is not None:
            rows = torch.as_tensor(index, dtype=torch.int64).cpu().numpy()
            given = self._places.of(rows, views, images.device, pixels)
        cut = maker(images if images.dim() == 4 else images[None], views, **given)
        return apply_affine(self.manifest.images.affine, cut) if normalize else cut

    def tiles(self, images: Tensor, *, resize: bool = True, normalize: bool = True) -> Tensor:
        """Take mosaics apart: the pictures that each stored image is made of, row by row from the top left.

        Resized, they are the views of `grid(factor, "1/factor")`, bit by bit. Where the factor does not divide
        the sides, a set of IDC is cut by its rule: grey (0.5) is added right and below up to the next multiple.

        Args:
            images: uint8 [batch, channels, height, width], or one image without the batch axis.
            resize: to the size of a stored image; False cuts the pixels out as they are.
            normalize: turn resized tiles into model input; False leaves them on the 0..255 scale.

        Returns:
            float32 [batch, tiles, channels, height, width]; uint8, of sides divided by the factor, unless resized.

        Raises:
            UsageError: the factor does not divide the image's sides, and the set is not IDC's or not to be resized.

        Source: RDED, Sec. 3; IDC, "multi-formation" and its code's decode_zoom.
        """
        batch = images if images.dim() == 4 else images[None]
        manifest = self.manifest
        return take_apart(batch, manifest.images, manifest.distillation, resize=resize, normalize=normalize)

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
        placement: Choice = "auto",
        last: Last = "short",
        space: DenseSpace = "probabilities",
        rank: int | None = None,
        world: int | None = None,
    ) -> Loader:
        """Return a loader of batches, whose order depends on seed and epoch alone.

        Yields `Batch`, which unpacks as (image uint8 [B,C,H,W], label int64 [B], dense float32 [B,V,classes] or
        None). `loader.placement` says where the records are, how many bytes they take and why.

        Args:
            batch_size: records per step, of each rank.
            shuffle: another order each epoch; else file order.
            seed: of the order and of drawn views, 0 .. 2**32 - 1.
            device: where batches are.
            placement: where the records are kept; "auto" chooses by size.
            last: the records that do not fill a batch of all ranks: left out ("drop"), in a smaller batch
                ("short"), or filled up with repeats that `batch.mask` marks ("wrap").
            space: what dense labels become; always float32.
            rank: this process, of `world` that share the records; by default what torchrun says.
            world: see `rank`.

        Raises:
            UsageError: a value is out of range, or the space cannot be had from what is stored.
        """
        rank, world = find_rank(rank, world)
        schedule = Schedule(len(self), batch_size, shuffle=shuffle, seed=seed, last=last, rank=rank, world=world)
        labels, classes = self.manifest.labels, len(self.classes)
        make = BatchMaker(labels, classes, space, seed, self._cut, torch.device(device))
        return open_loader(self, self._folder, schedule, make, placement)

    def to_torch(self, *, space: DenseSpace = "probabilities") -> MapDataset:
        """Return a `torch.utils.data.Dataset` of single records, for code that is built on torch's DataLoader.

        It reads the user's cache, filled here if need be, so that workers, forked or spawned, share one copy.
        `DataLoader(data, 256, shuffle=True, collate_fn=ladd_data.collate)` yields `Batch`; `space` is as in `loader`.

        Raises:
            UsageError: the space cannot be had from what is stored.
            LaddError: the cache cannot be written.
        """
        return MapDataset(self, self._folder, space)

    def to_datasets(self) -> datasets.Dataset:
        """Return a `datasets.Dataset`: `image` as Image, `label` as ClassLabel, `id`, label columns as fixed lists.

        Of Parquet, it is what `load_dataset` gives, from the same files, memory-mapped from that library's own
        cache. Records of the other editions are copied into memory, under the same names and types.

        Raises:
            DatasetError: the files cannot be read.
        """
        return open_with_datasets(self.folder)

    def _cut(self, images: Tensor, numbers: Sequence[int], index: Tensor, pixels: Pixels | None = None) -> Tensor:
        return self.views(images, numbers, index=index, pixels=pixels)

    @cached_property
    def arrays(self) -> Arrays:
        """The whole dataset in memory, decoded once, in file order."""
        pixels = new_array((len(self), *self._folder.layout.shape), np.dtype(np.uint8))
        ids: list[str] = []
        labels: list[I64] = []
        dense: dict[str, list[Array]] = {}
        for _, records, _ in self.unpacked(pixels):
            ids += records.ids
            labels.append(records.labels)
            for name, values in records.dense.items():
                dense.setdefault(name, []).append(values)
        joined = {name: np.concatenate(parts) for name, parts in dense.items()}
        return Arrays(ids, pixels, np.concatenate(labels), joined)

    def unpacked(self, out: U8 | None = None) -> Iterator[tuple[int, Records, U8]]:
        """Yield (first record's number, records, pixels uint8 [n,C,H,W]), for who needs no PNG files (`unpack`)."""
        return unpack(self.folder, out)

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

    @property
    def mix_table(self) -> MixTable | None:
        """What has to be known of all records to cut views that are mixed; None where they are not."""
        labels = self.manifest.labels
        return self._places.table if labels is not None and isinstance(labels.views, Mix) else None

    @cached_property
    def _places(self) -> ViewPlaces:
        return ViewPlaces(self.folder, self._pixels)

    def _pixels(self, rows: I64) -> U8:
        """Return images by number: from memory, or from the cache where the dataset is there and not in memory."""
        if "arrays" in self.__dict__ or not is_cached(self._folder):
            return self.arrays.images[rows]
        return self._cached_images(rows)

    @cached_property
    def _cached_images(self) -> CachedImages:
        return CachedImages(open_cached(self, self._folder))

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

    def __reduce__(self) -> tuple[Callable[[str, str, str | None], Dataset], tuple[str, str, str | None]]:
        """Pickle as path and digests: another process opens the files anew."""
        return _reopen, (str(self._folder.path.resolve()), self._key, set_of(self._folder))

    @cached_property
    def _key(self) -> str:
        return key_of(self._folder)

    def __repr__(self) -> str:
        images, labels = self.manifest.images, self.manifest.labels
        dense = f", {labels.count} views each" if labels else ""
        return f"<ladd dataset {self.manifest.name}: {len(self)} images {images.width}x{images.height}{dense}>"


def _open(path: Path, verify: bool, labels: str | None) -> Dataset:
    folder = read_joined(path, labels)
    vouched = verify and is_vouched(folder)
    if verify and not vouched:
        verify_once(folder)
    elif problems := check_files(folder, verify=False):
        raise DatasetError(problems)
    return Dataset(folder, unverified=vouched)


@lru_cache(maxsize=16)
def _reopen(path: str, key: str, labels: str | None) -> Dataset:
    """Return the dataset that another process verified, without verifying it again; one for all who ask.

    Raises:
        DatasetError: it has been replaced by another since.
    """
    folder = read_joined(Path(path), labels)
    if (found := key_of(folder)) != key:
        fix = "It was replaced while it was in use: begin again."
        raise DatasetError([Problem("LADD-026", path, f"digests {found}", key, fix)])
    return Dataset(folder)
