"""All records of a folder, decoded block by block: what is kept in memory or in the cache is read by this, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import numpy as np

from ladd_data.loaders.blocks import Block, Memory, Pictures, open_blocks
from ladd_data.loaders.buffers import Buffers, Scratch
from ladd_data.loaders.picture_files import PictureDecoder, PictureError
from ladd_data.loaders.remote import LocalSource
from ladd_data.shards.folder import Folder
from ladd_data.shards.images import PixelImages
from ladd_data.shards.joined import RelabelledFolder
from ladd_data.shards.layout import Records
from ladd_data.types import U8


def unpack(folder: Folder, out: U8 | None = None) -> Iterator[tuple[int, Records, U8]]:
    """Yield (first record's number, records, pixels) of each block, in file order, compared with its checksums.

    Args:
        folder: on this machine.
        out: uint8 [records, channels, height, width]: where pixels are to be; else each block's are in new memory.

    Yields:
        Pixels are uint8 [n, channels, height, width]. Records have JPEG files where the dataset has; PNG files are
        made of the pixels when they are asked for.

    Raises:
        DatasetError: a shard is damaged, or an image cannot be decoded; names the record.
        SourceError: a shard cannot be read.
    """
    if isinstance(folder, RelabelledFolder):
        for first, records, pixels in unpack(folder.plain, out):
            yield first, folder.with_labels(first, records), pixels
        return
    memory = Memory(Scratch(), Buffers((), np.dtype(np.uint8)))
    with closing(PictureDecoder(folder.layout.shape, png=folder.layout.png is not None)) as decoder:
        first = 0
        for index, shard in enumerate(folder.shards):
            stop = first + shard.rows
            with closing(open_blocks(LocalSource(folder.path), folder, index, "pages", memory, set())) as blocks:
                while first < stop:
                    unpacked = _Unpacked(folder, decoder, out)
                    block = blocks.read(first, unpacked.begin)
                    yield block.first, unpacked.records(block), unpacked.pixels
                    first = block.stop


class _Unpacked:
    """A block as it is read."""

    def __init__(self, folder: Folder, decoder: PictureDecoder, out: U8 | None) -> None:
        self._layout, self._decoder, self._out = folder.layout, decoder, out
        self._rows_first = not folder.container.HOLDS_PIXELS
        self._files: list[bytes] = []

    def begin(self, block: Block) -> Callable[[int, Pictures], None]:
        """Make room for its pixels."""
        if self._out is not None:
            self.pixels = self._out[block.first : block.stop]
        else:
            self.pixels = np.empty((len(block.labels), *self._layout.shape), np.uint8)
        return partial(self._put, block)

    def _put(self, block: Block, row: int, pictures: Pictures) -> None:
        pixels = self.pixels[row : row + len(pictures)]
        rows = pixels.transpose(0, 2, 3, 1) if self._rows_first else pixels
        if not isinstance(pictures, list):
            pictures.copy(slice(0, len(pictures)), rows)
            return
        try:
            self._decoder.fill(pictures, rows)
        except PictureError as error:
            raise block.blame(row + error.place, str(error)) from error
        if self._layout.png is None:
            self._files += map(bytes, pictures)

    def records(self, block: Block) -> Records:
        """Return the block's records."""
        ids = block.ids if isinstance(block.ids, list) else block.ids.to_pylist()
        source = self._layout.png or self._files
        return Records(ids, block.labels, PixelImages(self.pixels, source), dict(block.columns))
