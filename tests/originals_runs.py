"""Label files of FKD's own program and of TinyViT's, written as their sources do, for the tests of their converters."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from fkd_runs import MEAN, STD, make_teacher
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361")


def write_pictures(folder: Path, sizes: tuple[tuple[int, int], ...] = ((40, 56), (60, 33), (90, 41))) -> list[Path]:
    """Write JPEG pictures of several sizes, (width, height), and return them in order."""
    draws = np.random.default_rng(0)
    for wnid in WNIDS:
        (folder / wnid).mkdir(parents=True)
        for number, size in enumerate(sizes):
            small = Image.fromarray(draws.integers(0, 256, (5, 5, 3), dtype=np.uint8))
            small.resize(size, Image.Resampling.BICUBIC).save(folder / wnid / f"{wnid}_{number}.JPEG", quality=95)
    return sorted(folder.rglob("*.JPEG"))


@dataclass
class FkdImages:
    """A run of FKD's generate_soft_label.py; `write` writes its pictures and its labels."""

    kind: Literal["hard", "smoothing", "marginal"] = "marginal"
    half: bool = False
    crops: int = 4
    kept: int = 3
    side: int = 24
    sizes: tuple[tuple[int, int], ...] = ((40, 56), (60, 33), (90, 41))

    def write(self, home: Path) -> tuple[Path, Path]:
        """Return the folder of pictures and the folder of labels."""
        pictures, labels = home / "imagenet/train", home / "FKD_soft_label/imagenet/train"
        torch.manual_seed(5)
        for file in write_pictures(pictures, self.sizes):
            place = labels / file.parent.name / (file.name.split(".")[0] + ".tar")
            place.parent.mkdir(parents=True, exist_ok=True)
            torch.save(self._label(file), place)
        return pictures.parent, home / "FKD_soft_label"

    def _label(self, file: Path) -> list[Any]:
        image = Image.open(file).convert("RGB")
        coords, flips, views = [], [], []
        for _ in range(self.crops):
            i, j, h, w = RandomResizedCrop.get_params(image, [0.08, 0.936], [3 / 4, 4 / 3])
            coords.append([i / image.height, j / image.width, h / image.height, w / image.width])
            cut = F.resized_crop(image, i, j, h, w, [self.side] * 2, InterpolationMode.BICUBIC)
            flips.append(bool(torch.rand(1) < 0.5))
            views.append(F.normalize(F.to_tensor(F.hflip(cut) if flips[-1] else cut), MEAN, STD))
        with torch.no_grad():
            probs = torch.softmax(make_teacher(4)(torch.stack(views)), 1)
        float_type = np.float16 if self.half else np.float32
        return [np.array(coords, float_type), np.array(flips), self._keep(probs, float_type)]

    def _keep(self, probs: torch.Tensor, float_type: type[np.floating[Any]]) -> Any:
        values, ids = probs.topk(self.kept if self.kind == "marginal" else 1, 1)
        if self.kind == "hard":
            kept = ids[:, 0].numpy()
            return kept.astype(float_type) if self.half else kept
        both = torch.stack([ids.float(), values], 1)
        return (both if self.kind == "marginal" else both[..., 0]).numpy().astype(float_type)


@dataclass
class SavedLogits:
    """A run of TinyViT's save_logits.py: keys are names (ImageNet-22k) or numbers (1k)."""

    numbered: bool = False
    kept: int = 2
    epochs: int = 2
    zipped: bool = False

    def write(self, home: Path) -> tuple[Path, Path]:
        """Return the folder of pictures and the folder of labels."""
        pictures, labels = home / "pictures", home / "teacher_logits"
        files = write_pictures(pictures)
        draws = np.random.default_rng(1)
        for epoch in range(self.epochs):
            folder = labels / f"logits_top{self.kept}_epoch{epoch}"
            folder.mkdir(parents=True)
            order = draws.permutation(len(files))
            keys = [str(number) if self.numbered else files[number].stem for number in order]
            (folder / "rank0-keys.txt").write_text("".join(f"{key}\n" for key in keys))
            (folder / "rank0-values.bin").write_bytes(b"".join(self.record(number, epoch) for number in order))
        if self.zipped:
            self._zip(pictures)
        return pictures, labels

    def record(self, number: int, epoch: int) -> bytes:
        """Return the record of a picture, made of its number so that a test can tell it."""
        ids = [(number + epoch + step) % 4 for step in range(self.kept)]
        values = [0.5 + number / 64] + [0.25 / self.kept] * (self.kept - 1)
        return struct.pack(f"<i{self.kept}h{self.kept}e", 7, *ids, *values)

    def _zip(self, pictures: Path) -> None:
        for folder in sorted(pictures.iterdir()):
            with zipfile.ZipFile(pictures / f"{folder.name}.zip", "w") as archive:
                for file in sorted(folder.iterdir()):
                    archive.write(file, file.name)
                    file.unlink()
            folder.rmdir()
