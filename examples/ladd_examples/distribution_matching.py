"""A small dataset distiller: distribution matching (DM, Zhao and Bilen 2023) on real handwritten digits.

    python -m ladd_examples.distribution_matching OUT --ipc 1

For each class it moves a few synthetic images until, under many randomly initialised ConvNets, their mean
feature equals that of the real images. It stands for the programs whose output ladd-data converts, so it
writes what MTT's program would: OUT/logged_files/digits/dm-ipcN/{images,labels}_best.pt, bare tensors of
normalised, unclamped pixels, with nothing that says which normalisation or classes they have.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from ladd_data.sources import load_images

CLASSES = 10
SIZE = 32
MEAN, STD = 0.5, 0.5
WIDTH = 32
REAL_PER_CLASS = 64


def random_features(width: int = WIDTH) -> nn.Sequential:
    """Return a freshly initialised ConvNet of depth 3 without its classifier: [n,3,32,32] -> [n, width*16]."""
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(3):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.GroupNorm(width, width),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
        channels = width
    return nn.Sequential(*layers, nn.Flatten()).requires_grad_(False)


def load_real(seed: int) -> tuple[Tensor, Tensor]:
    """Return the digits' training split, normalised: float32 [n,3,32,32] and int64 [n]."""
    digits = load_images("digits:train", SIZE, 3)
    order = torch.randperm(len(digits.labels), generator=torch.Generator().manual_seed(seed))
    pixels = (torch.from_numpy(digits.images).float() / 255 - MEAN) / STD
    return pixels[order], torch.from_numpy(digits.labels)[order]


def distill(real: Tensor, labels: Tensor, ipc: int, iterations: int, lr: float) -> Tensor:
    """Return the synthetic images, float32 [classes * ipc, 3, 32, 32], class by class.

    Args:
        real: float32 [n, 3, 32, 32], normalised.
        labels: int64 [n], their classes.
        ipc: images per class.
        iterations: random networks to match under, one step each.
        lr: step size on the pixels.
    """
    by_class = [real[labels == label] for label in range(CLASSES)]
    synthetic = torch.cat([images[:ipc] for images in by_class]).clone().requires_grad_(True)
    optimizer = torch.optim.SGD([synthetic], lr, momentum=0.5)
    for step in range(iterations):
        features = random_features()
        start = step * REAL_PER_CLASS
        batch = torch.cat([_cyclic(images, start) for images in by_class])
        target = features(batch).unflatten(0, (CLASSES, REAL_PER_CLASS)).mean(1)  # [classes, features]
        mean = features(synthetic).unflatten(0, (CLASSES, ipc)).mean(1)
        loss = (target - mean).square().sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        _show(step + 1, iterations, float(loss.detach()))
    return synthetic.detach()


def _cyclic(images: Tensor, start: int) -> Tensor:
    """Return the next real images of a class, going round."""
    return images[torch.arange(start, start + REAL_PER_CLASS) % len(images)]


def _show(step: int, steps: int, loss: float) -> None:
    if sys.stderr.isatty():
        print(
            f"\rdistilling {step}/{steps}, loss {loss:.2f} ",
            end="\n" if step == steps else "",
            file=sys.stderr,
        )


def main() -> None:
    """Distill the digits and write the run folder."""
    parser = argparse.ArgumentParser(description="Distribution matching on handwritten digits.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--ipc", type=int, default=1, help="images per class, 1 to 10")
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images = distill(*load_real(options.seed), options.ipc, options.iterations, options.lr)
    run = options.out / "logged_files" / "digits" / f"dm-ipc{options.ipc}"
    run.mkdir(parents=True, exist_ok=True)
    torch.save(images, run / "images_best.pt")
    torch.save(torch.arange(CLASSES).repeat_interleave(options.ipc), run / "labels_best.pt")
    print(f"wrote {run}: {len(images)} images, values {images.min():.2f} to {images.max():.2f}")


if __name__ == "__main__":
    main()
