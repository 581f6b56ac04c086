"""A batch that is being filled: memory for its images, and where the rest of it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ladd_data.loaders.reading.blocks import Block, Lend
from ladd_data.loaders.reading.picture_files import PictureDecoder, PictureError
from ladd_data.loaders.reading.stored_pngs import FileBytes, StoredForm, find_form
from ladd_data.shards.layout import Layout
from ladd_data.types import I64, U8, Array

_EARLY = 8
"""A batch takes its memory when one in so many of its images is there."""
_ROW_BYTES = 4096
"""From which on rows of labels are copied one by one."""


@dataclass(frozen=True, slots=True)
class ImageMemory:
    """How the images of a batch lie in memory.

    shape: of a record; pixels: [channels, height, width], as the container holds them, else [height, width, channels].
    form: files lie there instead, whose pixels are a view.
    """

    shape: tuple[int, ...]
    pixels: bool
    form: StoredForm | None = None

    def view(self, memory: U8) -> U8:
        """Return the images in memory, [batch, *shape]."""
        return memory if self.form is None else self.form.pixels(memory)

    def to_tensor(self, memory: U8, device: torch.device) -> Tensor:
        """Return the images on a device, uint8 [batch, channels, height, width]; on the CPU, a view of the memory."""
        there = torch.from_numpy(memory).to(device)
        if self.form is not None:
            there = self.form.tensor(there)
        elif not self.pixels:
            there = there.permute(0, 3, 1, 2)
        return there if device.type == "cpu" else there.contiguous()


def plan_memory(layout: Layout, *, pixels: bool) -> ImageMemory:
    """Return how images of a dataset lie in batches; `pixels`: the container holds pixels, not files."""
    channels, height, width = layout.shape
    if pixels:
        return ImageMemory(layout.shape, pixels)
    form = find_form(layout.shape) if layout.png == "stored" else None
    return ImageMemory((height, width, channels), pixels, form)


class _Images:
    """Memory of some images: as it is, as pixels, [images, ...], and as slots where lengths and files of a form go."""

    def __init__(self, plan: ImageMemory, lend: Lend, name: str, count: int) -> None:
        shape = (plan.form.slot_bytes,) if plan.form else plan.shape
        self.memory: U8 = lend(name, shape, np.dtype(np.uint8), count)
        self.pixels = plan.view(self.memory)
        self.slots = plan.form.slots(self.memory) if plan.form else []


class Draft:
    """A batch that is being filled.

    Its memory is taken when an eighth of its images are there: the few that come early, because others of their page
    are due, wait in as little, and are copied once. files: images still to be decoded, for these places, which wait as
    they are; parts: blocks that it has records of: their rows, and places.
    """

    def __init__(self, count: int, lend: Lend, plan: ImageMemory) -> None:
        """Begin a batch of `count` records without any."""
        self.count, self._lend, self._plan = count, lend, plan
        self.files: list[bytes] = []
        self.places: list[int] = []
        self.parts: list[tuple[Block, I64, I64]] = []
        self._long: dict[str, Array] = {}
        self._few, self._early = count // _EARLY, dict[int, int]()
        self._waiting: _Images | None = None

    @cached_property
    def _all(self) -> _Images:
        """Of all its images; what waits for it is copied."""
        images = _Images(self._plan, self._lend, "image", self.count)
        if self._waiting is not None:
            images.memory[list(self._early)] = self._waiting.memory[: len(self._early)]
            self._waiting = None
        return images

    def _seat(self, place: int) -> tuple[_Images, int]:
        """Return in what memory the image of a place is, and where there."""
        if "_all" in self.__dict__ or (place not in self._early and len(self._early) >= self._few):
            return self._all, place
        self._waiting = self._waiting or _Images(self._plan, self._lend, "early image", self._few)
        return self._waiting, self._early.setdefault(place, len(self._early))

    @property
    def image(self) -> U8:
        """Its pixels, [batch, height, width, channels], or as the container holds them: a view of the memory."""
        return self._all.pixels

    def pixels(self, place: int) -> U8:
        """Return where the pixels of a place go now: until the next such call."""
        images, at = self._seat(place)
        pixels: U8 = images.pixels[at]
        return pixels

    def slot(self, place: int) -> memoryview:
        """Return where length and file of a place go now: until the next such call."""
        images, at = self._seat(place)
        return images.slots[at]

    def slots(self, places: list[int]) -> Sequence[memoryview] | Mapping[int, memoryview]:
        """Return, by place, where lengths and files of several go now, all at the same time."""
        if "_all" in self.__dict__ or len(self._early) + len(places) > self._few:
            return self._all.slots
        return {place: self.slot(place) for place in places}

    def put_file(self, place: int, file: FileBytes) -> None:
        """Keep a file: in its place if it may be of the form, else until the batch is due."""
        form = self._plan.form
        if form is not None and len(file) == form.file_bytes:
            self.slot(place)[-len(file) :] = file
        else:
            self.files.append(bytes(file))
            self.places.append(place)

    def put_labels(self, place: int, name: str, values: Array) -> None:
        """Copy a record's row of a column that is not kept with blocks."""
        if name not in self._long:
            self._long[name] = self._lend(name, values.shape, values.dtype, self.count)
        self._long[name][place] = values

    def decode(self, decoder: PictureDecoder) -> None:
        """Decode what is not there as pixels.

        Raises:
            DatasetError: an image is damaged; names the record.
        """
        form = self._plan.form
        if form is not None and len(self.files) < self.count:
            others = set(form.find_others(self._all.memory)).difference(self.places)
            self.files += [form.file(self._all.memory, place) for place in others]
            self.places += others
        try:
            decoder.fill(self.files, self.image, self.places)
        except PictureError as error:
            block, row = self._find(self.places[error.place])
            raise block.blame(row, str(error)) from error

    def to_tensor(self, device: torch.device) -> Tensor:
        """Return its images on a device, uint8 [batch, channels, height, width]."""
        return self._plan.to_tensor(self._all.memory, device)

    def gather(self) -> dict[str, Array]:
        """Return its columns but images, [batch, ...]; so long, blocks keep those that were not put here."""
        first = self.parts[0][0]
        arrays = {
            name: self._lend(name, values.shape[1:], values.dtype, self.count)
            for name, values in {"label": first.labels, **first.columns}.items()
        }
        for block, rows, places in self.parts:
            for name, values in {"label": block.labels, **block.columns}.items():
                _copy_rows(values, rows, arrays[name], places)
        return arrays | self._long

    def _find(self, place: int) -> tuple[Block, int]:
        """Return where the record of a place is from."""
        return next((block, int(rows[places == place][0])) for block, rows, places in self.parts if place in places)


def _copy_rows(values: Array, rows: I64, target: Array, places: I64) -> None:
    if values[:1].nbytes < _ROW_BYTES:
        target[places] = values[rows]
        return
    for place, row in zip(places.tolist(), rows.tolist(), strict=True):  # no copy in between
        target[place] = values[row]
