"""Views a second: ours against torchvision's, and against the limit of writing an output of that size.

    python benchmarks/views.py [--device cuda]

Every contestant makes the 25 views of the 5/8 grid from the same uint8 images, as float32. "limit" copies
an array of the output's size once, which no way of making views can beat.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
import torchvision.transforms.v2.functional as vision
from torch import Tensor

from ladd_data.views.device import ViewMaker
from ladd_data.views.geometry import boxes, grid

GRID = grid(5, "5/8")
Way = Callable[[Tensor], Tensor]


def per_image_and_view(images: Tensor) -> Tensor:
    """Algorithm 1 as written: one image, one crop, one resize."""
    size = images.shape[-1]
    rows = [[_crop(image[None], number, size) for number in range(25)] for image in images]
    return torch.stack([torch.cat(row) for row in rows])


def per_view(images: Tensor) -> Tensor:
    """One torchvision resize per view for the whole batch."""
    size = images.shape[-1]
    return torch.stack([_crop(images, number, size) for number in range(25)], 1)


def _crop(images: Tensor, number: int, size: int) -> Tensor:
    box = boxes(GRID, size, size)[number]
    crop = images[:, :, box.y : box.y + box.height, box.x : box.x + box.width].float()
    resized: Tensor = vision.resize(crop, [size, size], antialias=False)
    return resized


def time_one(way: Way, images: Tensor, seconds: float) -> float:
    """Return images per second of wall time."""
    way(images)
    passes, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        way(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        passes += 1
    return passes * len(images) / (time.perf_counter() - began)


def main() -> None:
    """Print one table per image size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.processor() or "CPU"
    print(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for size, batch in ((32, 64), (128, 8), (224, 4)):
        images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=options.device)
        output = torch.empty(batch, 25, 3, size, size, device=options.device)
        maker = ViewMaker(GRID, size, size, options.device)
        ways: dict[str, Way] = {
            "one image, one view (Algorithm 1)": per_image_and_view,
            "torchvision, batched per view": per_view,
            "ours": maker,
            "limit: write the output": lambda _, output=output: output.clone(),  # type: ignore[misc]
        }
        equal = torch.equal(maker(images), per_view(images))
        speeds = {name: time_one(way, images, options.seconds) for name, way in ways.items()}
        limit = speeds["limit: write the output"]
        print(f"\n{size} px, batch {batch}; ours equals torchvision bit for bit: {equal}")
        for name, speed in speeds.items():
            print(f"  {name:36}{speed:>10.0f} images/s   {speed / limit:6.3f} of the limit")


if __name__ == "__main__":
    main()
