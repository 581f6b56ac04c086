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
from torchvision.transforms.functional import resized_crop, to_tensor

import ladd_data as ladd
from ladd_data import Answers, Classes, Normalization
from ladd_data.labeling.labeler import LabelerDescription, LoadedLabeler
from ladd_data.manifest import Network

Mixing = Literal["none", "cutmix", "mixup"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FED = Normalization(mean=MEAN, std=STD)
CLASSES = Classes(names=("a", "b", "c", "d"))


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
    edc: bool = False
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
                if self.with_index or self.edc:
                    content.append(torch.from_numpy(index))
                if self.edc:
                    content.append(torch.zeros(len(index), 2, 2, dtype=torch.int32))
                if self.keep is None or (epoch, number) in self.keep:
                    torch.save(content, labels / f"epoch_{epoch}" / f"batch_{number}.tar")
        if self.json:
            said = {str(epoch): order.tolist() for epoch, order in enumerate(orders)}
            (labels / "sampler_indices_epoch.json").write_text(json.dumps(said))
        return pictures, labels

    def write_flat(self, home: Path, kept: int | None = None, ratio: float = 0.0) -> tuple[Path, Path]:
        """Return the same two folders of an LPQLD run: one folder of batches, with the `kept` largest logits only."""
        pictures, labels = home / "images", home / "labels"
        labels.mkdir(parents=True)
        images = self._write_pictures(pictures)
        teacher, draws = make_teacher(self.outputs or self.classes), np.random.default_rng(self.seed)
        each = len(images) // self.batch if ratio else -(-len(images) // self.batch)  # the short one is dropped
        steps, counter = int(self.epochs * each * (1 - ratio)), 0
        said = {}
        for order in sampled_orders(len(images), steps // each + 1, self.seed):
            for number in range(each):
                index = order[number * self.batch : (number + 1) * self.batch]
                content = self._label(draws, [images[place] for place in index], teacher)
                torch.save(_as_lpqld(content, kept), labels / f"batch_{counter}.tar")
                said[str(counter)] = index.tolist()
                counter += 1
                if counter == steps:
                    break
            steps -= 1
        (labels / "sampler_indices_batch.json").write_text(json.dumps(said))
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
            coords.append([top / self.size, left / self.size, height / self.size, width / self.size])
            flips.append(flip)
            if self.edc:  # crops the tensor, with antialiasing, and rounds nothing
                whole = to_tensor(image)
                cut = resized_crop(whole, top, left, height, width, [self.size, self.size], antialias=True)
                views.append((cut.flip(2) if flip else cut) * 255)
                continue
            crop = image.crop((left, top, left + width, top + height))
            pixels = np.asarray(crop.resize((self.size, self.size), Image.Resampling.BILINEAR))
            views.append(torch.from_numpy(pixels[:, ::-1].copy() if flip else pixels.copy()).permute(2, 0, 1))
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


def _as_lpqld(content: list[Any], kept: int | None) -> list[Any]:
    """Return SRe2L's six fields as LPQLD narrows them."""
    coords, flips, partner, lam, box, output = content
    narrow = None if partner is None else partner.to(torch.uint8)
    corners = None if box is None else [torch.tensor(int(edge), dtype=torch.uint8) for edge in box]
    if kept is None:
        return [coords.half(), flips, narrow, lam, corners, output]
    top = torch.topk(output, kept, dim=1)
    return [coords.half(), flips, narrow, lam, corners, top.values, top.indices.short()]


def answers(pictures: Path, **more: Any) -> Answers:
    return Answers(images=pictures, classes=CLASSES, normalization=FED, **more)


def largest_difference(folder: Path, networks: list[torch.nn.Module], batch: int = 7) -> float:
    """Return how far labels are from what networks say on average of the views, both as a loader yields them."""
    dataset = ladd.load(folder, labels="fkd")
    worst, seen = 0.0, 0
    for part in dataset.loader(batch, shuffle=True, seed=1, space="logits"):
        views = part.views()
        with torch.no_grad():
            said = torch.stack([network(views.pixels.flatten(0, 1)) for network in networks]).mean(0)
        off = (said.reshape(views.dense.shape) - views.dense).abs()
        there = part.present if part.present is not None else torch.ones(off.shape[:2], dtype=torch.bool)
        worst, seen = max(worst, float(off[there].max())), seen + int(there.sum())
    assert seen > 0
    return worst


def as_teacher(network: torch.nn.Module) -> LoadedLabeler:
    described = Network(name="module:teacher", classes=4, channels=3, size=32)
    return LoadedLabeler(
        network, LabelerDescription(network=described, classes=CLASSES, normalization=FED, epochs_done=0), "0" * 64
    )


def genuine_teacher(path: Path) -> nn.Module:
    """Return the small teacher whose weights lie beside a genuine run, as its NOTE.txt describes it."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 10))
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()
