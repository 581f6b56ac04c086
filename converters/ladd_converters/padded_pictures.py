"""Picture files of several sizes, as original data sets have them, on one canvas each: black to the right and below.

No pixel of a picture is changed or lost, so that crops of it are what they were; the canvas is as large as the largest
sides. Pictures of one size are kept as they are.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ladd_converters.imagefolder import NotedPictures
from ladd_data import ConvertError, UsageError, open_pictures

MOST_PIXELS = 2**24
"""Of one canvas, as of any image in the format."""
Give = Callable[[int], bytes]


class PaddedPictures:
    """Picture files of several sizes. Made by `open_any`.

    sizes: int64 [n, 2], height and width of each picture, which lies in the upper left of its canvas.
    """

    encoding: Literal["jpeg", "png"] = "png"

    def __init__(self, files: Sequence[str], sizes: NDArray[np.int64], give: Give) -> None:
        """Keep what was found."""
        self._files, self.sizes, self._give = files, sizes, give
        self._height, self._width = (int(side) for side in sizes.max(0))
        used = float(sizes.prod(1).mean()) / (self._height * self._width)
        self.notes: tuple[str, ...] = (
            f"Pictures are of {len(np.unique(sizes, axis=0))} sizes: each is kept pixel for pixel as PNG, on a canvas "
            f"of {self._width}x{self._height}, black to the right and below; {1 - used:.0%} of it is black.",
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Pictures, channels, height and width."""
        return len(self._files), 3, self._height, self._width

    def file(self, number: int) -> str:
        """Return the path of picture `number`."""
        return self._files[number]

    def read(self, number: int) -> bytes:
        """Return the bytes of picture `number`."""
        try:
            return self._give(number)
        except (OSError, KeyError) as error:
            raise ConvertError(f"{self._files[number]}: cannot be read ({error}).") from error

    def decode(self, number: int, data: bytes) -> NDArray[np.uint8]:
        """Return picture `number` on its canvas, uint8 [3, height, width], as torchvision's loader decodes it."""
        with _opened(self._files[number], data) as picture:
            pixels = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        height, width = self.sizes[number]
        if pixels.shape[1:] != (height, width):
            raise ConvertError(f"{self._files[number]}: found another size than at first sight: the file has changed.")
        canvas = np.zeros(self.shape[1:], np.uint8)
        canvas[:, :height, :width] = pixels
        return canvas


def open_any(files: Sequence[str], give: Give | None = None) -> NotedPictures:
    """Look at picture files: of one size they are kept as `open_pictures` keeps them, of several they are padded.

    Args:
        files: in record order.
        give: returns the bytes of picture `number`, where they lie in no file of their own.

    Raises:
        ConvertError: one is damaged, or together they need a canvas of more than `MOST_PIXELS`.
    """

    def read_file(number: int) -> bytes:
        return Path(files[number]).read_bytes()

    if not files:
        raise UsageError("no picture files were found.")
    found = give or read_file
    sizes = np.zeros((len(files), 2), np.int64)
    for number, name in enumerate(files):
        with _opened(name, found(number)) as picture:
            sizes[number] = picture.height, picture.width
    if (sizes == sizes[0]).all():
        return open_pictures(files, give)
    if int(sizes.max(0).prod()) > MOST_PIXELS:
        height, width = sizes.max(0).tolist()
        raise ConvertError(
            f"{files[int(sizes.prod(1).argmax())]}: found pictures that need a canvas of {width}x{height}; expected at "
            f"most {MOST_PIXELS} pixels. Leave the largest out, with their labels."
        )
    return PaddedPictures(files, sizes, found)


def sizes_of(pictures: object, count: int, height: int, width: int) -> NDArray[np.int64]:
    """Return height and width of each picture, int64 [n, 2]: its own where it was padded."""
    if isinstance(pictures, PaddedPictures):
        return pictures.sizes
    return np.tile(np.array([[height, width]], np.int64), (count, 1))


def _opened(name: str, data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
            picture.load()
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        reason = (str(error).splitlines() or ["?"])[0][:100]
        raise ConvertError(
            f"{name}: found no picture that can be decoded ({reason}). Leave it out, or fetch it again."
        ) from error
    return picture
