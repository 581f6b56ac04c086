"""The random numbers of pictures on their way into a network: a pure function of (seed, step, place in the step).

They are drawn on the host and never read back from the device, so nothing waits for it; no generator of torch or
numpy is involved, so they are the same on every device and release.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from ladd_data.loaders.order import draw_uniform
from ladd_data.types import F64, I64

_STREAMS = (
    "choice",
    "color",
    "crop",
    "cutout",
    "flip",
    "scale",
    "rotate",
    "box",
    "pad",
    "shuffle",
    "mix",
    "partner",
    "mirror",
)
_TRIES = 64


@dataclass(frozen=True, slots=True)
class Draws:
    """What is drawn for one pass, which may hold several pictures of each image, its first view, its second, ...

    Each of them draws as if it were a pass of its own, so how many views share a pass changes nothing.

    seed: of the student; step: of its training, from 0.
    number: of the pass's first picture of each image, among all that the step has of it, from 0.
    rows: pictures in the pass, image by image; device: where they are.
    each: pictures of each image.
    """

    seed: int
    step: int
    number: int
    rows: int
    device: torch.device
    each: int = 1

    def per_row(self, stream: str, columns: int = 1) -> F64:
        """Return numbers from [0, 1), float64 [rows, columns], of their own for each name of a stream."""
        return np.stack(self._by_picture(stream, columns), axis=1).reshape(self.rows, columns)

    def per_step(self, stream: str, columns: int = 1) -> F64:
        """Return numbers from [0, 1), float64 [columns], the same for the whole step."""
        return draw_uniform(columns, self.seed, self.step, 0, _STREAMS.index(stream))

    def order(self, stream: str) -> I64:
        """Return a permutation of the rows, int64 [rows]; each picture of an image goes to one of the same number."""
        drawn = [np.argsort(u[:, 0], kind="stable") * self.each + at for at, u in enumerate(self._by_picture(stream))]
        return np.stack(drawn, axis=1).reshape(self.rows).astype(np.int64)

    def beta(self, stream: str, alpha: float) -> float:
        """Return a draw of Beta(alpha, alpha), the same for the whole step.

        Source: M. D. Jöhnk 1964: x^(1/a) / (x^(1/a) + y^(1/a)) of uniform x, y, where that sum is at most 1.
        """
        if alpha == 1:
            return float(self.per_step(stream, 2)[1])
        for attempt in count():
            pairs = draw_uniform(2 * _TRIES, self.seed, self.step, 0, _STREAMS.index(stream), attempt)
            first, second = np.split((1 - pairs) ** (1 / alpha), 2)  # 1 - u is never 0
            fits = np.flatnonzero(first + second <= 1)
            if len(fits):
                return float(first[fits[0]] / (first[fits[0]] + second[fits[0]]))
        raise AssertionError("unreachable: the attempts do not end")

    def _by_picture(self, stream: str, columns: int = 1) -> list[F64]:
        """Return, for each of an image's pictures, numbers [rows / each, columns] of their own."""
        images = self.rows // self.each
        keys = [(self.seed, self.step, self.number + 1 + at, _STREAMS.index(stream)) for at in range(self.each)]
        return [draw_uniform(images * columns, *key).reshape(images, columns) for key in keys]

    def to_device(self, values: F64 | I64, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return host numbers as a tensor on the pictures' device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(dtype).to(self.device, non_blocking=True)
