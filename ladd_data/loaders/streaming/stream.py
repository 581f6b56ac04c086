"""The streaming loader: blocks of records on their way through bounded memory, from a folder or from afar."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ladd_data.errors import DatasetError, Problem, UsageError
from ladd_data.files import MAX_JSON_BYTES
from ladd_data.loaders.batches import KEPT, BatchMaker, CutViews
from ladd_data.loaders.buffers import Buffers, Scratch
from ladd_data.loaders.decode import to_tensors
from ladd_data.loaders.loader import Loader, Placement
from ladd_data.loaders.prefetch import make_ahead
from ladd_data.loaders.ranks import find_rank
from ladd_data.loaders.reading.blocks import LONG_BYTES, Block, Known, LabelRows, Memory, Pages, ShardBlocks, row_bytes
from ladd_data.loaders.reading.open_shard import Verify, check_verify, open_blocks
from ladd_data.loaders.reading.picture_files import PictureDecoder
from ladd_data.loaders.reading.remote import Patience, open_source
from ladd_data.loaders.reading.source import LocalSource, Source
from ladd_data.loaders.schedule import Last, Schedule, Slots
from ladd_data.loaders.streaming.block_order import WINDOW, block_sizes, mix_blocks
from ladd_data.loaders.streaming.draft import Draft
from ladd_data.loaders.streaming.filling import Filling
from ladd_data.manifest import MANIFEST_PATH, Manifest, Mix
from ladd_data.shards.folder import SHARDS_PATH, Folder, check_list, read_metadata
from ladd_data.shards.layout import pick
from ladd_data.types import Array, Batch, DenseSpace
from ladd_data.views.device import ViewMaker, apply_affine
from ladd_data.views.mixing import Pixels

_AHEAD = 2
"""Steps that are read ahead of the one that is made, where reading is waiting for others."""
_KEPT = 32
"""Batches whose memory is used again: those being filled, and those that are looked at."""
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

    Args:
        place: a folder; http(s)://; hf://datasets/USER/NAME[@REVISION]; or any address that fsspec knows (s3://, ...).
        batch_size: records per step, of each rank.
        shuffle: blocks in another order each epoch, a few side by side, their records mixed; else file order.
        seed: of the order and of drawn views, 0 .. 2**32 - 1.
        device: where batches are; on a CPU, images are a view of what was read, with channels last.
        last: the records that do not fill a batch of all ranks, as in `Dataset.loader`.
        space: what dense labels become; always float32.
        rank: this process; by default what torchrun says, as of `world`.
        world: how many share the records.
        window: blocks that are mixed at a time; more mix better and take more memory.
        verify: "pages": what is read with its Parquet page's CRC-32, or else its shard's SHA-256; "shards": with both.
        patience: attempts and time-outs of what is read from afar.

    Raises:
        UsageError: there is no dataset, or a value is out of range.
        DatasetError: metadata is missing or malformed, or, while iterating, a shard damaged or another one.
        SourceError: it cannot be reached; while iterating, after a bounded number of attempts.
    """
    rank, world = find_rank(rank, world)
    source = open_source(place, patience or Patience())
    folder = read_metadata_from(source)
    manifest, target = folder.manifest, torch.device(device)
    order = Schedule(manifest.images.count, batch_size, shuffle=shuffle, seed=seed, last=last, rank=rank, world=world)
    maker = BatchMaker(manifest.labels, len(manifest.classes.names), space, seed, None, target)
    return open_stream(source, folder, order, maker, "as asked", window=window, verify=verify)


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
    placement = Placement("streaming", str(make.device), _held_bytes(source, folder, mixed, window), reason)
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
        self._groups = Buffers((), np.dtype(np.uint8), keep=_KEPT)
        self._buffers: dict[str, Buffers] = {}
        self._known = Known()

    def model_input(self, images: Tensor) -> Tensor:
        """Turn stored pixels, uint8 [..., channels, height, width], into model input, float32, as a Dataset does."""
        return apply_affine(self.manifest.images.affine, images)

    def _batches(self, steps: Iterator[Slots]) -> Generator[Batch, None, None]:
        self._source.stop.clear()
        plan = list(steps)
        filling = Filling(plan, self._folder.layout, self._lend, pixels=self._folder.container.HOLDS_PIXELS)
        memory = Memory(Scratch(), self._groups, self._lend, filling, self._make.wants)
        ahead = 0 if isinstance(self._source, LocalSource) else _AHEAD
        with _Pass(self._folder, filling, partial(self._open, memory), ahead) as reading:
            make = partial(self._make_batch, reading)
            yield from make_ahead(make, enumerate(plan), stop=self._source.stop.set)

    def _open(self, memory: Memory, index: int) -> ShardBlocks:
        return open_blocks(self._source, self._folder, index, self._verify, memory, self._known)

    def _make_batch(self, reading: _Pass, step: tuple[int, Slots]) -> Batch:
        draft, slots = reading.take(step[0]), step[1]
        arrays, device = draft.gather(), self._make.device
        image = draft.to_tensor(device)
        boxes = {name: torch.from_numpy(arrays[name].astype(kind)) for name, kind in _PLAIN.items() if name in arrays}
        stored = to_tensors(pick(arrays, KEPT), device, copy=False)
        label = torch.from_numpy(arrays["label"]).to(device)
        return self._make.make(slots, image, label, stored, self._cut.of(boxes) if self._make.labels else None)

    def _lend(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], rows: int) -> Array:
        if name not in self._buffers:
            self._buffers[name] = Buffers(shape, dtype, keep=_KEPT)
        return self._buffers[name].lend(rows)


class _Pass:
    """Reads what a pass needs page by page, in the order in which records are due; from afar, in a thread, ahead."""

    def __init__(self, folder: Folder, filling: Filling, open_shard: Callable[[int], ShardBlocks], ahead: int) -> None:
        self._filling, self._open, self._ahead = filling, open_shard, ahead
        self._ends = np.cumsum([shard.rows for shard in folder.shards])
        self._shards: dict[int, ShardBlocks] = {}
        self._left = [filling.count(*span) for span in pairwise([0, *self._ends.tolist()])]
        self._begun: list[_Strand] = []
        self._coming: deque[Future[None]] = deque()
        self._asked, self._failed = 0, False
        self._reader = ThreadPoolExecutor(1, "ladd-read")
        self._decoder = PictureDecoder(folder.layout.shape, png=folder.layout.png is not None)

    def __enter__(self) -> _Pass:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._decoder.close()
        for strand in self._begun:
            strand.pages.close()
        for shard in self._shards.values():
            shard.close()
        self._begun.clear()
        self._shards.clear()

    def take(self, step: int) -> Draft:
        """Return the batch of a step, read and decoded; the next is begun. Steps are taken in order."""
        if not self._ahead:
            self._read(step + 1)
        else:
            while self._asked <= step + self._ahead:
                self._asked += 1
                self._coming.append(self._reader.submit(self._read, self._asked))
            self._coming.popleft().result()
        draft = self._filling.take(step)
        draft.decode(self._decoder)
        return draft

    def _read(self, steps: int) -> None:
        """Read what the first steps still miss."""
        if self._failed:  # what was begun ahead ends at once
            raise CancelledError
        try:
            while (record := self._filling.missing(steps)) is not None:
                self._advance(record)
        except BaseException:
            self._failed = True
            raise

    def _advance(self, record: int) -> None:
        """Read on in a record's block until it is there."""
        for strand in self._begun:
            if strand.first <= record < strand.stop:
                break
        else:
            strand = self._begin(record)
        block, put = strand.block, self._filling.put
        for row, part in strand.pages:
            put(block, row, part)
            done = strand.first + row + len(part)
            if not isinstance(part, LabelRows) and record < done < strand.stop:
                return
        self._begun.remove(strand)
        number = self._shard_of(record)
        self._left[number] -= self._filling.end(strand.block)
        if self._left[number] == 0:
            self._shards.pop(number).close()

    def _begin(self, record: int) -> _Strand:
        number = self._shard_of(record)
        if number not in self._shards:
            self._shards[number] = self._open(number)
        block, pages = self._shards[number].read(record)
        self._filling.begin(block)
        strand = _Strand(block, pages, block.first, block.stop)
        self._begun.append(strand)
        return strand

    def _shard_of(self, record: int) -> int:
        return int(np.searchsorted(self._ends, record, side="right"))


@dataclass(frozen=True, slots=True, eq=False)
class _Strand:
    """A block that has been begun, its pages to come, and its records: the first, and that behind the last."""

    block: Block
    pages: Pages
    first: int
    stop: int


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


def _held_bytes(source: Source, folder: Folder, schedule: Schedule, window: int) -> int:
    """Return about how many bytes of records a stream holds: batches that are filled or used, and blocks begun."""
    sizes = [row_bytes(name, folder.layout) for name in folder.layout.dense]
    image, block, abreast = prod(folder.layout.shape), max(block_sizes(folder)), window + 1 if schedule.shuffle else 1
    batches = 4 * schedule.batch_size + (block * window // 4 if schedule.shuffle else 0)
    paged = folder.edition == "parquet" and isinstance(source, LocalSource)
    kept = [size for size in sizes if size < LONG_BYTES] if paged else [image, *sizes]
    return min(schedule.count, batches) * (image + 8 + sum(sizes)) + abreast * block * (8 + sum(kept))


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise DatasetError(problems)
