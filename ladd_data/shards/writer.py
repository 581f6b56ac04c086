"""A dataset folder, written: records in, then manifest, shard list and card, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ladd_data.digests import DigestMeter, Digests, digest_pixels
from ladd_data.files import new_folder, sha256_file, write_synced
from ladd_data.manifest import MANIFEST_PATH, SPEC_VERSION, Classes, Manifest
from ladd_data.manifest_json import dump_manifest
from ladd_data.shards.card import CARD_PATH, write_card
from ladd_data.shards.folder import SHARDS_PATH, Shard, dump_shard_list
from ladd_data.shards.layout import Layout, Records
from ladd_data.shards.parquet import ParquetWriter, plan_shards, read_footer
from ladd_data.types import U8


class DatasetWriter:
    """Collects records, and writes what the finished dataset says of itself. Made by `new_dataset`."""

    def __init__(self, folder: Path, classes: Classes, layout: Layout, count: int, record_bytes: int) -> None:
        """Plan the shards inside an empty folder."""
        for name in ("data", "meta"):
            (folder / name).mkdir()
        self._folder = folder
        self._digests = DigestMeter(classes)
        self._bytes = 0
        self.shards = ParquetWriter(folder, layout, plan_shards(count, record_bytes))

    def add(self, records: Records, pixels: U8) -> None:
        """Append records.

        Args:
            records: as they go to disk.
            pixels: uint8 [n, channels, height, width], what `records.images` decode to.
        """
        for row, (name, label) in enumerate(zip(records.ids, records.labels.tolist(), strict=True)):
            self._digests.add(name, label, digest_pixels(pixels[row]), records.dense, row)
        self._bytes += sum(map(len, records.images)) + sum(values.nbytes for values in records.dense.values())
        self.shards.add(records)

    def finish(self, describe: Callable[[Digests], Manifest]) -> Manifest:
        """Write footers, meta/ and the card; `describe` turns the digests into the manifest."""
        manifest = describe(self._digests.result())
        content = dump_manifest(manifest)
        shards = [self._describe(path) for path in self.shards.close(content)]
        write_synced(self._folder / MANIFEST_PATH, content)
        write_synced(self._folder / SHARDS_PATH, dump_shard_list(SPEC_VERSION, shards))
        card = write_card(manifest, self._bytes, sum(shard.bytes for shard in shards))
        write_synced(self._folder / CARD_PATH, card.encode())
        return manifest

    def _describe(self, path: str) -> Shard:
        file = self._folder / path
        rows = read_footer(file)[1]
        return Shard(path=path, bytes=file.stat().st_size, sha256=sha256_file(file), rows=rows)


@contextmanager
def new_dataset(
    target: Path, classes: Classes, layout: Layout, count: int, record_bytes: int, *, overwrite: bool = False
) -> Iterator[DatasetWriter]:
    """Open a writer for a dataset folder that appears at `target` when the block ends well.

    Args:
        target: the folder; must not exist, or hold a dataset when `overwrite` is set.
        classes: bound into the dataset's digest.
        layout: the columns.
        count: records that will be added, exactly.
        record_bytes: about how large one is; decides the cut into shards.
        overwrite: replace what is there.

    Raises:
        UsageError: the target exists, or another run is writing it.
    """
    with new_folder(target, overwrite=overwrite) as folder:
        writer = DatasetWriter(folder, classes, layout, count, record_bytes)
        try:
            yield writer
        except BaseException:
            writer.shards.abort()
            raise
