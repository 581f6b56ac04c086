"""FKD-style relabel runs made by hand, as SRe2L's program writes them, for the tests of their converter."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ladd_converters.fkd_order import sampled_orders
from PIL import Image
from torch import Tensor, nn

Mixing = Literal["none", "cutmix", "mixup"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_teacher(classes: int, seed: int = 3) -> nn.Module:
    """Return a small network with fixed random weights."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, classes)
    )
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) * 0.3)
    return network.eval()


def genuine_teacher(path: Path) -> nn.Module:
    """Return the small teacher whose weights lie beside a genuine run, as its NOTE.txt describes it."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 10))
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


@dataclass
class FkdRun:
    """How a run was made; `write` writes its pictures and its labels as upstream's program does."""

    classes: int = 4
    per_class: int = 3
    size: int = 32
    epochs: int = 2
    batch: int = 5
    mixing: Mixing = "cutmix"
    half: bool = False
    with_index: bool = False
    json: bool = False
    seed: int = 42
    keep: Sequence[tuple[int, int]] | None = None
    outputs: int | None = None
    names: list[str] = field(default_factory=list)

    def write(self, home: Path) -> tuple[Path, Path]:
        """Return the folder of pictures and the folder of labels."""
        pictures, labels = home / "images", home / "labels"
        images = self._write_pictures(pictures)
        teacher = make_teacher(self.outputs or self.classes)
        draws = np.random.default_rng(self.seed)
        orders = sampled_orders(len(images), self.epochs, self.seed)
        for epoch, order in enumerate(orders):
            (labels / f"epoch_{epoch}").mkdir(parents=True)
            for number in range(-(-len(order) // self.batch)):
                index = order[number * self.batch : (number + 1) * self.batch]
                content = self._label(draws, [images[place] for place in index], teacher)
                if self.with_index:
                    content.append(torch.from_numpy(index))
                if self.keep is None or (epoch, number) in self.keep:
                    torch.save(content, labels / f"epoch_{epoch}" / f"batch_{number}.tar")
        if self.json:
            said = {str(epoch): order.tolist() for epoch, order in enumerate(orders)}
            (labels / "sampler_indices_epoch.json").write_text(json.dumps(said))
        return pictures, labels

    def _write_pictures(self, folder: Path) -> list[Image.Image]:
        draws = np.random.default_rng(0)
        self.names = []
        images = []
        for number in range(self.classes):
            (folder / f"new{number:03d}").mkdir(parents=True)
            for place in range(self.per_class):
                name = f"new{number:03d}/class{number:03d}_id{place:03d}.jpg"
                small = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(small).resize((self.size, self.size)).save(folder / name)
                self.names.append(name)
                images.append(Image.open(io.BytesIO((folder / name).read_bytes())).convert("RGB"))
        return images

    def _label(self, draws: np.random.Generator, images: list[Image.Image], teacher: nn.Module) -> list[Any]:
        views, coords, flips = [], [], []
        for image in images:
            height, width = (int(draws.integers(self.size // 4, self.size + 1)) for _ in range(2))
            top, left = int(draws.integers(0, self.size - height + 1)), int(draws.integers(0, self.size - width + 1))
            flip = bool(draws.integers(2))
            crop = image.crop((left, top, left + width, top + height))
            pixels = np.asarray(crop.resize((self.size, self.size), Image.Resampling.BILINEAR))
            views.append(torch.from_numpy(pixels[:, ::-1].copy() if flip else pixels.copy()).permute(2, 0, 1))
            coords.append([top / self.size, left / self.size, height / self.size, width / self.size])
            flips.append(flip)
        batch = (
            torch.stack(views)
            .float()
            .div(255)
            .sub(torch.tensor(MEAN)[:, None, None])
            .div(torch.tensor(STD)[:, None, None])
        )
        partner, lam, box, mixed = self._mix(draws, batch)
        with torch.no_grad():
            output = teacher(mixed)
        return [torch.tensor(coords), torch.tensor(flips), partner, lam, box, output.half() if self.half else output]

    def _mix(self, draws: np.random.Generator, batch: Tensor) -> tuple[Tensor | None, float | None, Any, Tensor]:
        if self.mixing == "none":
            return None, None, None, batch
        partner, lam = torch.from_numpy(draws.permutation(len(batch))), float(draws.random())
        if self.mixing == "mixup":
            return partner, lam, None, batch * lam + batch[partner] * (1 - lam)
        x1, y1 = (int(draws.integers(0, self.size // 2)) for _ in range(2))
        x2, y2 = (int(draws.integers(self.size // 2, self.size + 1)) for _ in range(2))
        mixed = batch.clone()
        mixed[:, :, x1:x2, y1:y2] = batch[partner][:, :, x1:x2, y1:y2]
        return partner, lam, [np.int64(edge) for edge in (x1, y1, x2, y2)], mixed
