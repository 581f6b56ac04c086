"""A dataset folder, written: records in, then manifest, shard list and card, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ladd_data.digests import DigestMeter, Digests
from ladd_data.files import new_folder, write_synced
from ladd_data.manifest import MANIFEST_PATH, Classes, Manifest
from ladd_data.manifest_json import dump_manifest
from ladd_data.shards.card import CARD_PATH, write_card
from ladd_data.shards.container import ShardWriter
from ladd_data.shards.editions import find_container
from ladd_data.shards.folder import SHARDS_PATH, Shard, dump_shard_list
from ladd_data.shards.images import PixelImages, decode_image, digest_image
from ladd_data.shards.layout import Layout, Records
from ladd_data.shards.plan import plan_shards
from ladd_data.types import U8, Edition


class DatasetWriter:
    """Collects records, and writes what the finished dataset says of itself. Made by `new_dataset`."""

    def __init__(self, folder: Path, classes: Classes, layout: Layout, count: int, edition: Edition) -> None:
        """Plan the shards inside an empty folder."""
        for name in ("data", "meta"):
            (folder / name).mkdir()
        self._folder, self._layout, self._edition = folder, layout, edition
        self._container = find_container(edition)
        self._digests = DigestMeter(classes)
        self._bytes = 0
        self.shards: ShardWriter = self._container.open_writer(folder, layout, plan_shards(count, layout.record_bytes))

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
        for row, (name, label) in enumerate(zip(records.ids, records.labels.tolist(), strict=True)):
            known = digests[row] if digests else None
            image = known or digest_image(images, row, None if pixels is None else pixels[row], layout)
            self._digests.add(name, label, image, records.dense, row)
        if self._container.HOLDS_PIXELS and pixels is not None:
            images = PixelImages(pixels, layout.png or list(images))
            self._bytes += pixels.nbytes + (0 if layout.png else sum(map(len, images)))
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
        shards = [self._describe(index, path) for index, path in enumerate(self.shards.close(content))]
        write_synced(self._folder / MANIFEST_PATH, content)
        write_synced(self._folder / SHARDS_PATH, dump_shard_list(manifest.spec_version, self._edition, shards))
        card = write_card(manifest, self._edition, self._bytes, sum(shard.bytes for shard in shards))
        write_synced(self._folder / CARD_PATH, card.encode())

    def _describe(self, index: int, path: str) -> Shard:
        file = self._folder / path
        rows = self._container.read_footer(file).rows
        return Shard(path=path, bytes=file.stat().st_size, sha256=self.shards.digest(index), rows=rows)


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
