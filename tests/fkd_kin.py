"""Runs of LPQLD, EDC and SRe2L with an ImageNet teacher, written by torch's own sampler and torchvision's transforms.

Nothing of our converters takes part: what stands here follows the upstream programs' sources.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from fkd_runs import MEAN, STD, FkdRun, make_teacher
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F


@dataclass
class KinRun:
    """How a run was made; `write` writes its pictures and its labels."""

    method: Literal["sre2l", "edc", "lpqld"] = "lpqld"
    mix: Literal["none", "cutmix", "mixup"] = "cutmix"
    outputs: int = 4
    top: int | None = None
    half: bool = False
    epochs: int = 3
    batch: int = 5
    prune: float = 0.0
    size: int = 32
    rand_augment: bool = False
    classes: int = 4

    def write(self, home: Path) -> tuple[Path, Path]:
        """Return the folder of pictures and the folder of labels."""
        pictures, labels = home / "images", home / "labels"
        FkdRun(size=self.size, classes=self.classes)._write_pictures(pictures)
        files = sorted(pictures.rglob("*.jpg"))
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        sampler = RandomSampler(files, generator=torch.Generator().manual_seed(42))
        drop = self.method == "lpqld" and self.prune > 0
        batches = BatchSampler(sampler, self.batch, drop_last=drop)
        labels.mkdir(parents=True)
        if self.method == "lpqld":
            self._write_flat(labels, files, batches)
            return pictures, labels
        for epoch in range(self.epochs):
            (labels / f"epoch_{epoch}").mkdir()
            for number, index in enumerate(batches):
                content = [*self.label([files[place] for place in index])]
                if self.method == "edc":
                    content += [torch.tensor(index), torch.zeros(len(index), 2, 2, dtype=torch.int32)]
                torch.save(content, labels / f"epoch_{epoch}" / f"batch_{number}.tar")
        return pictures, labels

    def _write_flat(self, labels: Path, files: list[Path], batches: BatchSampler) -> None:
        """Write as LPQLD does, whose limit falls by one after each epoch."""
        said: dict[str, list[int]] = {}
        each = len(batches)
        steps = int(self.epochs * each * (1 - self.prune))
        counter = 0
        for _ in range(steps // each + 1):
            for index in batches:
                coords, flips, partner, lam, box, output = self.label([files[place] for place in index])
                output, ids = (output, None) if self.top is None else torch.topk(output, self.top, dim=1)
                operations = [[[torch.zeros(len(index)), torch.ones(len(index)), torch.full((len(index),), -99.0)]]]
                content = [
                    coords.half(),
                    flips,
                    *(operations if self.rand_augment else []),
                    None if partner is None else partner.to(torch.uint8),
                    lam,
                    None if box is None else [torch.tensor(edge, dtype=torch.uint8) for edge in box],
                    output.half() if self.half else output,
                    *([] if ids is None else [ids.short()]),
                ]
                torch.save(content, labels / f"batch_{counter}.tar")
                said[str(counter)] = list(index)
                counter += 1
                if counter == steps:
                    break
            steps -= 1
        (labels / "sampler_indices_batch.json").write_text(json.dumps(said))

    def label(self, files: list[Path]) -> tuple[Tensor, Tensor, Tensor | None, float | None, Any, Tensor]:
        """Return the six fields of a batch."""
        views, coords, flips = [], [], []
        for file in files:
            image: Any = Image.open(file).convert("RGB")
            image = F.to_tensor(image) if self.method == "edc" else image
            i, j, h, w = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
            coords.append([i / self.size, j / self.size, h / self.size, w / self.size])
            cut = F.resized_crop(image, i, j, h, w, [self.size] * 2, InterpolationMode.BILINEAR, antialias=True)
            flips.append(bool(torch.rand(1) < 0.5))
            cut = F.hflip(cut) if flips[-1] else cut
            views.append(F.normalize(cut if isinstance(cut, Tensor) else F.to_tensor(cut), MEAN, STD))
        images, partner, lam, box = self._mix(torch.stack(views))
        with torch.no_grad():
            output = torch.stack([teacher(images) for teacher in self.teachers()]).mean(0)
        half = self.half and self.method != "lpqld"
        return torch.tensor(coords), torch.tensor(flips), partner, lam, box, output.half() if half else output

    def teachers(self) -> list[torch.nn.Module]:
        """Return those that made the labels, on average."""
        return [make_teacher(self.outputs, seed) for seed in ((3, 4) if self.method == "edc" else (3,))]

    def _mix(self, images: Tensor) -> tuple[Tensor, Tensor | None, float | None, Any]:
        if self.mix == "none":
            return images, None, None, None
        partner, lam = torch.randperm(len(images)), float(np.random.beta(1.0, 1.0))
        if self.mix == "mixup":
            return lam * images + (1 - lam) * images[partner], partner, lam, None
        side = int(self.size * np.sqrt(1.0 - lam))
        row, column = np.random.randint(self.size), np.random.randint(self.size)
        top, bottom = (np.clip(row + step, 0, self.size) for step in (-(side // 2), side // 2))
        left, right = (np.clip(column + step, 0, self.size) for step in (-(side // 2), side // 2))
        images[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        return images, partner, lam, [top, left, bottom, right]
