"""The streaming loader: blocks of records on their way through bounded memory, from a folder or from afar."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import DatasetError, Problem, UsageError
from ladd_data.files import MAX_JSON_BYTES
from ladd_data.loaders.batches import KEPT, BatchMaker, CutViews
from ladd_data.loaders.block_order import WINDOW, block_sizes, mix_blocks
from ladd_data.loaders.blocks import Block, ShardBlocks, Verify, check_verify, open_blocks
from ladd_data.loaders.buffers import Buffers
from ladd_data.loaders.decode import to_tensors
from ladd_data.loaders.loader import Loader, Placement
from ladd_data.loaders.picture_files import PictureDecoder, PictureError
from ladd_data.loaders.prefetch import make_ahead
from ladd_data.loaders.ranks import find_rank
from ladd_data.loaders.remote import LocalSource, Patience, Source, open_source
from ladd_data.loaders.schedule import Last, Schedule, Slots
from ladd_data.manifest import MANIFEST_PATH, Manifest, Mix
from ladd_data.shards.folder import SHARDS_PATH, Folder, check_list, read_metadata
from ladd_data.shards.images import PixelImages
from ladd_data.shards.layout import pick
from ladd_data.types import TYPE_BYTES, U8, Array, Batch, DenseSpace
from ladd_data.views.device import ViewMaker, apply_affine
from ladd_data.views.mixing import Pixels

_AHEAD = 4
"""Steps that are looked ahead for the next block to fetch."""
_ROW_BYTES = 4096
"""From which on rows are copied one by one."""
_PLAIN = {"view_box": np.int64, "view_flip": np.bool_}
"""Types that torch computes with, for the columns that say where views lie."""


def stream(
    place: str | Path,
    batch_size: int = 256,
    *,
    shuffle: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    last: Last = "short",
    space: DenseSpace = "probabilities",
    rank: int | None = None,
    world: int | None = None,
    window: int = WINDOW,
    verify: Verify = "pages",
    patience: Patience | None = None,
) -> StreamingLoader:
    """Open a dataset wherever it lies, and return a loader that reads it in blocks, through bounded memory.

    Metadata is read and checked now, a shard when its first record is due. Memory holds `window` + 2 row groups of at
    most 32 MB, whatever the dataset's size. On the CPU, images of 3 channels are `torch.channels_last` in memory.

    Args:
        place: a folder; http(s)://; hf://datasets/USER/NAME[@REVISION]; or any address that fsspec knows (s3://, ...).
        batch_size: records per step, of each rank.
        shuffle: blocks in another order each epoch, records mixed within a window of blocks; else file order.
        seed: of the order and of drawn views, 0 .. 2**32 - 1.
        device: where batches are.
        last: the records that do not fill a batch of all ranks, as in `Dataset.loader`.
        space: what dense labels become; always float32.
        rank: this process, of `world` that share the records; by default what torchrun says.
        world: see `rank`.
        window: blocks that are mixed at a time; more mix better and take more memory.
        verify: "pages": Parquet pages are compared with their CRC-32, tar and Arrow shards, which have none, with
            their SHA-256. "shards": every shard with its SHA-256 too, before its first record.
        patience: attempts and time-outs of what is read from afar.

    Raises:
        UsageError: there is no dataset, or a value is out of range.
        DatasetError: its metadata is missing or malformed. While iterating: a shard is damaged or another one.
        SourceError: it cannot be reached. While iterating: after a bounded number of attempts.
    """
    rank, world = find_rank(rank, world)
    source = open_source(place, patience or Patience())
    folder = read_metadata_from(source)
    count = folder.manifest.images.count
    schedule = Schedule(count, batch_size, shuffle=shuffle, seed=seed, last=last, rank=rank, world=world)
    manifest, target = folder.manifest, torch.device(device)
    maker = BatchMaker(manifest.labels, len(manifest.classes.names), space, seed, None, target)
    return open_stream(source, folder, schedule, maker, "as asked", window=window, verify=verify)


def refuse_to_stream(manifest: Manifest) -> None:
    """Refuse a dataset whose views need the images of records that are not at hand in a stream.

    Raises:
        UsageError: its views are mixed.
    """
    if manifest.labels is not None and isinstance(manifest.labels.views, Mix):
        raise UsageError(
            f"{manifest.name}: its views mix each image with others from all over the dataset, which a stream does not "
            'hold. Load it, with placement "resident", "pinned" or "cached".'
        )


def open_stream(
    source: Source,
    folder: Folder,
    schedule: Schedule,
    make: BatchMaker,
    reason: str,
    *,
    window: int = WINDOW,
    verify: Verify = "pages",
) -> StreamingLoader:
    """Return the streaming loader of a dataset whose metadata has been read.

    Args:
        source: where its files are.
        folder: its metadata.
        schedule: which records come when; a full shuffle becomes one of blocks.
        make: makes batches; its `cut` is not used.
        reason: why it is streamed.
        window: blocks that are mixed at a time.
        verify: what is compared when.
    """
    check_verify(verify)
    refuse_to_stream(folder.manifest)
    mixed = mix_blocks(schedule, folder, window)
    live = sorted(block_sizes(folder))[-(window if schedule.shuffle else 1) - 2 :]
    size = sum(live) * (prod(folder.layout.shape) + _label_bytes(folder))
    placement = Placement("streaming", str(make.device), size, reason)
    return StreamingLoader(source, folder, replace(make, cut=None), mixed, placement, verify)


def read_metadata_from(source: Source) -> Folder:
    """Read a dataset's metadata from a source, checked as that of a folder is.

    Raises:
        UsageError: there is no dataset.
        DatasetError: its metadata is missing or malformed.
        SourceError: it cannot be reached.
    """
    if isinstance(source, LocalSource):
        folder = read_metadata(source.path)
        _raise(check_list(folder))
        return folder
    with tempfile.TemporaryDirectory(prefix="ladd-stream-") as name:
        copy = Path(name)
        for path in (MANIFEST_PATH, SHARDS_PATH):
            content = source.read_all(path)
            if content is None and path == MANIFEST_PATH:
                raise UsageError(f"{source.name}: not a ladd dataset (no {MANIFEST_PATH} there).")
            if content is not None:
                (copy / path).parent.mkdir(exist_ok=True)
                (copy / path).write_bytes(content[: MAX_JSON_BYTES + 1])
        folder = read_metadata(copy)
        _raise(check_list(folder))
    return replace(folder, path=Path(source.name))


class StreamingLoader(Loader):
    """Reads blocks ahead in one thread, makes batches in another, decodes pictures in a few more."""

    def __init__(
        self,
        source: Source,
        folder: Folder,
        make: BatchMaker,
        schedule: Schedule,
        placement: Placement,
        verify: Verify = "pages",
    ) -> None:
        """Read nothing yet; see `open_stream`."""
        super().__init__(schedule, folder.manifest.digest, placement)
        self.manifest: Manifest = folder.manifest
        self._source, self._folder, self._make, self._verify = source, folder, make, verify
        self._cut = _ViewCutter(folder.manifest, make.device)
        self._memory = Buffers((), np.dtype(np.uint8), keep=16)
        self._buffers: dict[str, Buffers] = {}
        self._verified: set[Any] = set()

    def _batches(self, steps: Iterator[Slots]) -> Generator[Batch, None, None]:
        self._source.stop.clear()
        plan = list(steps)
        with _Pass(self._folder, plan, self._open) as records:
            yield from make_ahead(partial(self._gather, records), iter(plan), stop=self._source.stop.set)

    def _open(self, index: int) -> ShardBlocks:
        return open_blocks(self._source, self._folder, index, self._verify, self._memory, self._verified)

    def _gather(self, records: _Pass, slots: Slots) -> Batch:
        blocks = records.hold(slots.index)
        arrays: dict[str, Array] = {}
        for block, places, rows in blocks:
            for name, values in {"label": block.labels, **block.columns}.items():
                if name not in arrays:
                    arrays[name] = self._lend(name, values, len(slots.index))
                _copy_rows(values, rows, arrays[name], places)
        image = self._pictures(records, blocks, len(slots.index))
        records.release(slots.index)
        boxes = {name: torch.from_numpy(arrays[name].astype(kind)) for name, kind in _PLAIN.items() if name in arrays}
        stored = to_tensors(pick(arrays, KEPT), self._make.device, copy=False)
        label = torch.from_numpy(arrays["label"]).to(self._make.device)
        if self._make.device.type != "cpu":
            image = image.to(self._make.device).contiguous()
        make = replace(self._make, cut=self._cut.of(boxes)) if self._make.labels else self._make
        return make.make(slots, image, label, stored)

    def _pictures(self, records: _Pass, blocks: list[_Part], count: int) -> Tensor:
        channels, height, width = self._folder.layout.shape
        if isinstance(blocks[0][0].images, PixelImages):
            pixels = self._lend("image", np.empty((0, channels, height, width), np.uint8), count)
            for block, places, rows in blocks:
                if isinstance(block.images, PixelImages):
                    pixels[places] = block.images.pixels[rows]
            return torch.from_numpy(pixels)
        rows_first: U8 = self._lend("image", np.empty((0, height, width, channels), np.uint8), count)
        sources = [(block, row) for block, _, rows in blocks for row in rows.tolist()]
        order = np.argsort(np.concatenate([places for _, places, _ in blocks])).tolist()
        sources = [sources[number] for number in order]
        files = [block.images[row] for block, row in sources]
        try:
            records.decoder.fill(files, rows_first)
        except PictureError as error:
            block, row = sources[error.place]
            raise block.blame(row, str(error)) from error
        return torch.from_numpy(rows_first).permute(0, 3, 1, 2)

    def _lend(self, name: str, like: Array, rows: int) -> Array:
        if name not in self._buffers:
            self._buffers[name] = Buffers(like.shape[1:], like.dtype)
        return self._buffers[name].lend(rows)


_Part = tuple[Block, Array, Array]
"""A block, places in the batch, and the rows of the block that belong there."""


class _Pass:
    """The blocks that one pass through the data holds, each dropped with its last record."""

    def __init__(self, folder: Folder, plan: list[Slots], open_shard: Any) -> None:
        self._folder, self._plan, self._open = folder, plan, open_shard
        self._ends = np.cumsum([shard.rows for shard in folder.shards])
        self._due = np.sort(np.concatenate([slots.index for slots in plan] or [np.empty(0, np.int64)]))
        self._shards: dict[int, ShardBlocks] = {}
        self._held: list[Block] = []
        self._left: dict[int, int] = {}
        starts = [0, *self._ends.tolist()]
        self._shard_left = [self._count(*span) for span in pairwise(starts)]
        self._step = 0
        self._coming: Future[Block] | None = None
        self._reader = ThreadPoolExecutor(1, "ladd-read")
        self.decoder = PictureDecoder(folder.layout.shape, png=folder.layout.png is not None)

    def __enter__(self) -> _Pass:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self.decoder.close()
        self._held.clear()
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()

    def hold(self, index: Array) -> list[_Part]:
        """Return the blocks of the next step's records, read where they are not there yet; the next one is begun."""
        while (missing := self._missing(index)) is not None:
            self._coming = coming = self._coming or self._reader.submit(self._read, missing)
            self._add(coming.result())  # one that failed stays: the step that was begun ahead fails as well, at once
            self._coming = None
        self._look_ahead()
        self._step += 1
        numbers = np.searchsorted([block.first for block in self._held], index, side="right") - 1
        parts = []
        for number in np.unique(numbers).tolist():
            block, places = self._held[number], np.flatnonzero(numbers == number)
            parts.append((block, places, index[places] - block.first))
        return parts

    def release(self, index: Array) -> None:
        """Count records as done, and drop blocks and shards of which none is due any more."""
        kept = []
        for block in self._held:
            done = int(((index >= block.first) & (index < block.stop)).sum())
            self._left[block.first] -= done
            number = self._shard_of(block.first)
            self._shard_left[number] -= done
            if self._left[block.first] > 0:
                kept.append(block)
            if self._shard_left[number] == 0 and number in self._shards:
                self._shards.pop(number).close()
        self._held = kept

    def _look_ahead(self) -> None:
        if self._coming is not None:
            return
        for slots in self._plan[self._step + 1 : self._step + 1 + _AHEAD]:
            if (missing := self._missing(slots.index)) is not None:
                self._coming = self._reader.submit(self._read, missing)
                return

    def _missing(self, index: Array) -> int | None:
        """Return the first record that no block holds."""
        if not self._held:
            return int(index[0])
        firsts, stops = np.array([(block.first, block.stop) for block in self._held]).T
        places = np.searchsorted(firsts, index, side="right") - 1
        gone = (places < 0) | (index >= stops[places])
        return int(index[gone.argmax()]) if gone.any() else None

    def _read(self, record: int) -> Block:
        number = self._shard_of(record)
        if number not in self._shards:
            self._shards[number] = self._open(number)
        return self._shards[number].find(record)

    def _add(self, block: Block) -> None:
        self._held = sorted([*self._held, block], key=lambda held: held.first)
        self._left[block.first] = self._count(block.first, block.stop)

    def _count(self, first: int, stop: int) -> int:
        """Return how many of the pass's records lie in a range."""
        low, high = np.searchsorted(self._due, [first, stop])
        return int(high - low)

    def _shard_of(self, record: int) -> int:
        return int(np.searchsorted(self._ends, record, side="right"))


class _ViewCutter:
    """Cuts views as `Dataset.views` does, with boxes at hand batch by batch."""

    def __init__(self, manifest: Manifest, device: torch.device) -> None:
        self._manifest, self._device = manifest, device
        self._maker: ViewMaker | None = None

    def of(self, boxes: dict[str, Tensor]) -> CutViews:
        """Return what cuts the views of a batch; `boxes`: its columns view_box and view_flip."""
        return partial(self._cut, boxes)

    def _cut(
        self,
        boxes: dict[str, Tensor],
        images: Tensor,
        numbers: Sequence[int],
        index: Tensor,
        pixels: Pixels | None = None,
    ) -> Tensor:
        labels, stored = self._manifest.labels, self._manifest.images
        if labels is None:
            raise UsageError('this dataset has no dense labels, so it has no views. Run "ladd label" first.')
        if self._maker is None:
            self._maker = ViewMaker(labels.views, stored.height, stored.width, self._device)
        given = {name: values.to(images.device) for name, values in boxes.items()}
        cut = self._maker(images, numbers, view_box=given.get("view_box"), view_flip=given.get("view_flip"))
        return apply_affine(stored.affine, cut)


def _copy_rows(values: Array, rows: Array, target: Array, places: Array) -> None:
    if values[:1].nbytes < _ROW_BYTES:
        target[places] = values[rows]
        return
    for place, row in zip(places.tolist(), rows.tolist(), strict=True):  # no copy in between
        target[place] = values[row]


def _label_bytes(folder: Folder) -> int:
    return 8 + sum(prod(shape) * TYPE_BYTES[kind] for shape, kind in folder.layout.dense.values())


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise DatasetError(problems)
