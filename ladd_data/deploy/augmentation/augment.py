"""A recipe's augmentation, put together: what happens to pictures between the dataset and the network.

Order: patch shuffle, random resized crop, crop with padding, flip, DSA, then CutMix or MixUp. It starts from model
input: views are cut first, from stored pixels, bit-equal to what the labeler saw, and each is then augmented as any
other picture. (LADD says that it uses DSA and not whether before or after cutting views.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ladd_data.deploy.augmentation import crops, dsa
from ladd_data.deploy.augmentation.draws import Draws
from ladd_data.deploy.augmentation.mixing import cut_box, cutmix, is_mixed, mixup
from ladd_data.errors import UsageError, nearest
from ladd_data.recipe import Augmentation


@dataclass(frozen=True, slots=True)
class Mixing:
    """How the pictures of a pass were mixed: partner int64 [n], and the share of each row's own picture."""

    partner: Tensor
    share: float


class Augmenter:
    """Does what a recipe's augmentation says, on the pictures' device."""

    def __init__(self, augmentation: Augmentation, black: tuple[float, ...]) -> None:
        """Read the recipe.

        Args:
            augmentation: what to do.
            black: model input of a black pixel per channel, which padding is made of.

        Raises:
            UsageError: DSA's strategy names an operation that is not known, or both mixes are asked for.
        """
        self.augmentation, self.black = augmentation, black
        self.operations = tuple(augmentation.dsa.split("_")) if augmentation.dsa else ()
        for name in self.operations:
            if name not in dsa.OPERATIONS:
                raise UsageError(f'DSA operation "{name}" is not known. {nearest(name, dsa.OPERATIONS)}')
        if augmentation.cutmix is not None and augmentation.mixup is not None:
            raise UsageError("augmentation has both cutmix and mixup: a batch is mixed one way. Set one to none.")

    def __call__(self, pictures: Tensor, draws: Draws) -> tuple[Tensor, Mixing | None]:
        """Return (pictures float32 [n, channels, height, width], how they were mixed)."""
        pictures = self._crop(pictures, draws)
        if self.operations:
            pictures = self._dsa(pictures, draws)
        return self._mix(pictures, draws)

    def _crop(self, pictures: Tensor, draws: Draws) -> Tensor:
        wanted = self.augmentation
        height, width = pictures.shape[2:]
        if wanted.patch_shuffle is not None and wanted.patch_shuffle > 1:
            u = draws.per_row("shuffle", 2 * wanted.patch_shuffle).reshape(len(pictures), 2, -1)
            orders = np.argsort(u, axis=2, kind="stable").astype(np.int64)
            pictures = crops.shuffle_strips(pictures, orders[:, 0], orders[:, 1])
        if wanted.crop_scale is not None:
            boxes = crops.draw_boxes(draws.per_row("box", 4 * crops.TRIES), height, width, wanted.crop_scale)
            pictures = crops.resize_boxes(pictures, draws.to_device(boxes))
        if wanted.crop_padding:
            shifts = np.floor(draws.per_row("pad", 2) * (2 * wanted.crop_padding + 1)) - wanted.crop_padding
            rows, columns = draws.to_device(shifts, torch.int64).unbind(1)
            pictures = crops.shift(pictures, rows, columns, pictures.new_tensor(self.black))
        return dsa.flip(pictures, draws.to_device(draws.per_row("mirror"))) if wanted.flip else pictures

    def _dsa(self, pictures: Tensor, draws: Draws) -> Tensor:
        fixed = set(self.operations) if self.augmentation.dsa_always else set()
        always: list[str] = [name for name in ("flip", "color") if name in fixed]
        last: list[str] = [name for name in ("cutout",) if name in fixed]
        choices = [name for name in self.operations if name not in (*always, *last)]
        for name in always:
            pictures = dsa.apply(name, pictures, self._numbers(name, draws))
        if choices and self.augmentation.dsa_per_image:
            pictures = self._dsa_per_image(pictures, draws, choices)
        elif choices:
            name = choices[int(draws.per_step("choice")[0] * len(choices))]
            pictures = dsa.apply(name, pictures, self._numbers(name, draws))
        for name in last:
            pictures = dsa.apply(name, pictures, self._numbers(name, draws))
        return pictures

    def _dsa_per_image(self, pictures: Tensor, draws: Draws, choices: list[str]) -> Tensor:
        """Do another operation to each picture; which, is known on the host, so nothing waits for the device."""
        drawn = (draws.per_row("choice")[:, 0] * len(choices)).astype(np.int64)
        result = pictures.clone()
        for number, name in enumerate(choices):
            rows = np.flatnonzero(drawn == number)
            if len(rows):
                at = draws.to_device(rows, torch.int64)
                numbers = self._numbers(name, draws).index_select(0, at)
                result.index_copy_(0, at, dsa.apply(name, pictures.index_select(0, at), numbers))
        return result

    def _numbers(self, name: str, draws: Draws) -> Tensor:
        return draws.to_device(draws.per_row(name, dsa.NUMBERS[name]))

    def _mix(self, pictures: Tensor, draws: Draws) -> tuple[Tensor, Mixing | None]:
        wanted = self.augmentation
        alpha = wanted.cutmix if wanted.cutmix is not None else wanted.mixup
        if alpha is None or not is_mixed(draws, wanted.mix_share):
            return pictures, None
        partner, share = draws.to_device(draws.order("partner"), torch.int64), draws.beta("mix", alpha)
        if wanted.cutmix is None:
            return mixup(pictures, partner, share), Mixing(partner, share)
        height, width = pictures.shape[2:]
        centre = draws.per_step("box", 2).tolist()
        pictures, share = cutmix(pictures, partner, cut_box(height, width, share, (centre[0], centre[1])))
        return pictures, Mixing(partner, share)
