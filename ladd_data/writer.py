"""A dataset folder, written: records in, then manifest, shard list and card, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ladd_data.card.write import write_face
from ladd_data.digests import DigestMeter, Digests
from ladd_data.errors import LaddError
from ladd_data.files import new_folder, write_synced
from ladd_data.joined_files import JoinedFiles
from ladd_data.manifest import MANIFEST_PATH, Classes, Manifest
from ladd_data.manifest_json import dump_manifest
from ladd_data.shards.container import ShardError, ShardWriter
from ladd_data.shards.editions import find_container
from ladd_data.shards.folder import SHARDS_PATH, Folder, Shard, dump_shard_list
from ladd_data.shards.images import PixelImages, decode_image, digest_image
from ladd_data.shards.layout import Layout, Records, layout_of
from ladd_data.shards.plan import ShardPlan, plan_shards
from ladd_data.types import U8, Edition


class DatasetWriter:
    """Collects records, and writes what the finished dataset says of itself. Made by `new_dataset`."""

    def __init__(self, folder: Path, classes: Classes, layout: Layout, count: int, edition: Edition) -> None:
        """Plan the shards inside an empty folder."""
        make_parts(folder)
        self._folder, self._layout, self._edition = folder, layout, edition
        self._container = find_container(edition)
        self.plan = plan_shards(count, layout.record_bytes)
        self._digests = DigestMeter(classes)
        self._bytes = 0
        self.shards: ShardWriter = self._container.open_writer(folder, layout, self.plan)

    @property
    def folder(self) -> Path:
        """Where the dataset is being written."""
        return self._folder

    def add(self, records: Records, pixels: U8 | None, digests: Sequence[str] | None = None) -> None:
        """Append records.

        Args:
            records: as they go to disk.
            pixels: uint8 [n, channels, height, width], what `records.images` decode to; None leaves it to this
                to decode them where they are needed.
            digests: of the images (`digest_image`), where they are known already.
        """
        layout, images = self._layout, records.images
        if pixels is None and self._container.HOLDS_PIXELS:
            pixels = np.stack([decode_image(images, row, layout) for row in range(len(records))])
        if digests is None:
            decoded = [None] * len(records) if pixels is None else pixels
            digests = [digest_image(images, row, image, layout) for row, image in enumerate(decoded)]
        self._digests.add_all(records.ids, records.labels.tolist(), digests, records.dense)
        if self._container.HOLDS_PIXELS and pixels is not None:
            images = PixelImages(pixels, layout.png or list(images))
            self._bytes += pixels.nbytes + (0 if layout.png else sum(map(len, images)))
        elif isinstance(images, JoinedFiles):
            self._bytes += images.nbytes
        else:
            images = list(images)
            self._bytes += sum(map(len, images))
        self._bytes += sum(values.nbytes for values in records.dense.values())
        self.shards.add(replace(records, images=images))

    def digests(self) -> Digests:
        """Return the digests over everything added."""
        return self._digests.result()

    def finish(self, describe: Callable[[Digests], Manifest]) -> Manifest:
        """Write footers, meta/ and the card; `describe` turns the digests into the manifest."""
        manifest = describe(self.digests())
        self.seal(manifest, dump_manifest(manifest))
        return manifest

    def seal(self, manifest: Manifest, content: bytes) -> None:
        """Write footers, meta/ and the card; `content` is the manifest as it goes to disk, byte for byte."""
        paths = self.shards.close(content)
        shards = [_describe(self._folder, self.shards, index, path, self.plan) for index, path in enumerate(paths)]
        seal_folder(self._folder, manifest, content, self._edition, shards, self._bytes)


def plan_dataset(count: int, layout: Layout) -> ShardPlan:
    """Return the one cut of `count` records of a layout into shards."""
    return plan_shards(count, layout.record_bytes)


def make_parts(folder: Path) -> None:
    """Make the folders inside an empty dataset folder."""
    for name in ("data", "meta"):
        (folder / name).mkdir()


def write_shard(
    folder: Path, edition: Edition, layout: Layout, plan: ShardPlan, records: Iterable[Records], content: bytes
) -> Shard:
    """Write one shard into a dataset folder, complete, and return its line of the shard list.

    Args:
        folder: has its `data` folder.
        edition: what the shard is.
        layout: the columns.
        plan: of this shard alone (`ShardPlan.only`).
        records: all of its records, in order, in pieces of any size.
        content: the bytes of meta/ladd.json.
    """
    container = find_container(edition)
    writer = container.open_writer(folder, layout, plan)
    try:
        for piece in records:
            writer.add(piece)
        (path,) = writer.close(content)
    except BaseException:
        writer.abort()
        raise
    return _describe(folder, writer, 0, path, plan)


def seal_folder(
    folder: Path, manifest: Manifest, content: bytes, edition: Edition, shards: list[Shard], stored_bytes: int
) -> None:
    """Write meta/, the card, its picture and Croissant metadata beside finished shards.

    Args:
        folder: the dataset folder.
        manifest: what it says of itself.
        content: the same as it goes to disk, byte for byte.
        edition: what the shards are.
        shards: their lines of the shard list, in order.
        stored_bytes: of images and label columns in memory, for the card.

    Raises:
        LaddError: a shard cannot be read back.
    """
    write_synced(folder / MANIFEST_PATH, content)
    write_synced(folder / SHARDS_PATH, dump_shard_list(manifest.spec_version, edition, shards))
    written = Folder(folder, manifest, layout_of(manifest), edition, tuple(shards), content)
    try:
        write_face(written, stored_bytes)
    except ShardError as error:  # only a failing disk gives back other bytes than it was given a moment ago
        raise LaddError(f"{folder}: a shard just written cannot be read ({error}). Is the disk failing?") from error


def _describe(folder: Path, writer: ShardWriter, index: int, path: str, plan: ShardPlan) -> Shard:
    return Shard(path=path, bytes=(folder / path).stat().st_size, sha256=writer.digest(index), rows=plan.rows(index))


@contextmanager
def new_dataset(
    target: Path,
    classes: Classes,
    layout: Layout,
    count: int,
    *,
    edition: Edition = "parquet",
    overwrite: bool = False,
) -> Iterator[DatasetWriter]:
    """Open a writer for a dataset folder that appears at `target` when the block ends well.

    Args:
        target: the folder; must not exist, or hold a dataset when `overwrite` is set.
        classes: bound into the dataset's digest.
        layout: the columns; the size of a record decides the cut into shards.
        count: records that will be added, exactly.
        edition: what the shards are.
        overwrite: replace what is there.

    Raises:
        UsageError: the target exists, or another run is writing it.
    """
    with new_folder(target, overwrite=overwrite) as folder:
        writer = DatasetWriter(folder, classes, layout, count, edition)
        try:
            yield writer
        except BaseException:
            writer.shards.abort()
            raise
