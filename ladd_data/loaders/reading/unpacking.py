"""All records of a folder, decoded block by block: what is kept in memory or in the cache is read by this, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from ladd_data.loaders.buffers import Buffers, Scratch
from ladd_data.loaders.reading.blocks import Block, Known, LabelRows, Landed, Memory, Part
from ladd_data.loaders.reading.open_shard import open_blocks
from ladd_data.loaders.reading.picture_files import PictureDecoder, PictureError
from ladd_data.loaders.reading.source import LocalSource
from ladd_data.shards.folder import Folder
from ladd_data.shards.images import PixelImages
from ladd_data.shards.layout import Records
from ladd_data.types import U8, Array


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
    memory = Memory(Scratch(), Buffers((), np.dtype(np.uint8)), _new)
    with closing(PictureDecoder(folder.layout.shape, png=folder.layout.png is not None)) as decoder:
        first = 0
        for index, shard in enumerate(folder.shards):
            stop = first + shard.rows
            with closing(open_blocks(LocalSource(folder.path), folder, index, "pages", memory, Known())) as blocks:
                while first < stop:
                    block, pages = blocks.read(first)
                    unpacked = _Unpacked(folder, decoder, block, out)
                    for row, pictures in pages:
                        unpacked.put(row, pictures)
                    yield block.first, unpacked.records(), unpacked.pixels
                    first = block.stop


def _new(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], rows: int) -> Array:
    return np.empty((rows, *shape), dtype)


class _Unpacked:
    """A block as it is read."""

    def __init__(self, folder: Folder, decoder: PictureDecoder, block: Block, out: U8 | None) -> None:
        """Make room for its pixels."""
        self._layout, self._decoder, self._block = folder.layout, decoder, block
        self._rows_first = not folder.container.HOLDS_PIXELS
        self._files: list[bytes] = []
        if out is not None:
            self.pixels = out[block.first : block.stop]
        else:
            self.pixels = np.empty((len(block.labels), *self._layout.shape), np.uint8)

    def put(self, row: int, pictures: Part) -> None:
        """Take the pictures from a row on."""
        assert not isinstance(pictures, Landed | LabelRows)  # nobody was told where to
        pixels = self.pixels[row : row + len(pictures)]
        rows = pixels.transpose(0, 2, 3, 1) if self._rows_first else pixels
        if not isinstance(pictures, list):
            pictures.copy(slice(0, len(pictures)), rows)
            return
        try:
            self._decoder.fill(pictures, rows)
        except PictureError as error:
            raise self._block.blame(row + error.place, str(error)) from error
        if self._layout.png is None:
            self._files += map(bytes, pictures)

    def records(self) -> Records:
        """Return the block's records."""
        block, source = self._block, self._layout.png or self._files
        return Records(block.read_ids(), block.labels, PixelImages(self.pixels, source), dict(block.columns))
