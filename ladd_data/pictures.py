"""Picture files that a method wrote, read one at a time: what a converter hands over in place of a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, runtime_checkable


@runtime_checkable
class Pictures(Protocol):
    """Images of one size, as files, in record order. Nothing is held in memory.

    shape: (images, channels, height, width); channels are 1 or 3.
    encoding: "jpeg": every file is a JPEG and is kept byte for byte; "png": decoded, and stored as our PNG.
    """

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height and width."""

    @property
    def encoding(self) -> Literal["jpeg", "png"]:
        """What the files are kept as."""

    def file(self, number: int) -> Path:
        """Return where image `number` comes from, for messages and for the record of sources."""

    def read(self, number: int) -> bytes:
        """Return the bytes of image `number`: a whole JPEG or PNG file.

        Raises:
            ConvertError: it cannot be read, is damaged, or is not of the shape; names the file.
        """
