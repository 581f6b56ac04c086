"""What augmentation adds to a training step, beside views and labels, against the model's own work in it.

    python benchmarks/augmentation.py [--device cuda] [--model convnet-d3] [--width 128] [--size 32] [--batch 64]

"limit" is the same passes, backward passes and optimiser's step on tensors that are ready. "step" is what `ladd train`
does: gathering records, cutting views, decoding labels, augmenting, and the limit's work. Both take turns; times are
CPU seconds of this process (on a GPU, seconds with the device waited for), the least of `--repeats`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ladd_data.convert import convert, prepare
from ladd_data.converter import Distilled
from ladd_data.dataset import Dataset, load
from ladd_data.deploy.augmentation.augment import Augmenter
from ladd_data.deploy.losses import LADD
from ladd_data.deploy.options import Options
from ladd_data.deploy.student import AugmentedStudent
from ladd_data.encodings.profiles import Budget, coding_of_profile
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.labeling.labeler import LabelerDescription, load_labeler, save_labeler
from ladd_data.manifest import Classes, Normalization
from ladd_data.models import build_network, describe_network
from ladd_data.models.arithmetic import device_name
from ladd_data.recipe import Augmentation
from ladd_data.recipes import DSA
from ladd_data.types import Batch
from ladd_data.views.geometry import grid

NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CLASSES = Classes(names=tuple("0123456789"))
AUGMENTATIONS = {
    "none": None,
    "dsa": Augmentation(dsa=DSA),
    "dsa per image": Augmentation(dsa=DSA, dsa_per_image=True),
    "crop, flip, cutmix": Augmentation(crop_scale=(0.5, 1.0), flip=True, cutmix=1.0),
}


def make_dataset(folder: Path, images: int, size: int) -> Dataset:
    """Write a labelled dataset of noise."""
    generator = np.random.default_rng(0)
    pixels = generator.normal(0, 1, (images, 3, size, size)).astype(np.float32)
    labels = np.arange(images, dtype=np.int64) % 10
    distilled = Distilled("noise", "", pixels, labels, CLASSES, NORMALIZATION, "none", ())
    convert(prepare(distilled, "noise"), folder / "plain")
    network = describe_network("convnet-d3", width=8, classes=10, channels=3, size=size)
    description = LabelerDescription(network=network, classes=CLASSES, normalization=NORMALIZATION, epochs_done=1)
    save_labeler(folder / "labeler.safetensors", build_network(network), description)
    coding = coding_of_profile("default", Budget(10, 25, 3 * size * size))
    labeler = load_labeler(folder / "labeler.safetensors")
    plan = LabelPlan(labeler, grid(5, "5/8"), coding, torch.device("cpu"), "default")
    label_dataset(load(folder / "plain"), plan, folder / "labelled")
    return load(folder / "labelled")


class Case:
    """One network on one dataset, trained the two ways."""

    def __init__(
        self, dataset: Dataset, network: nn.Module, batch: int, views_per_pass: int, device: torch.device
    ) -> None:
        """Prepare both."""
        self.dataset, self.network, self.device = dataset, network.to(device).train(), device
        self.views_per_pass = views_per_pass
        self.optimizer = torch.optim.SGD(network.parameters(), 1e-4, 0.9)
        self.loss = LADD(views_per_pass=views_per_pass)
        space = self.loss.loader_space(dataset.manifest)
        self.loader = dataset.loader(batch, shuffle=True, device=device, space=space, last="drop", rank=0, world=1)
        size = dataset.manifest.images.height
        pictures = [batch] + [batch * views_per_pass] * (25 // views_per_pass)
        pictures += [batch * (25 % views_per_pass)] if 25 % views_per_pass else []
        shapes = [(count, 3, size, size) for count in pictures]
        self.ready = [(torch.randn(shape, device=device), torch.rand(shape[0], 10, device=device)) for shape in shapes]

    def limit(self) -> Iterator[None]:
        """Train on tensors that are ready."""
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            for pictures, target in self.ready:
                torch.autograd.backward(functional.cross_entropy(self.network(pictures), target))
            self.optimizer.step()
            yield

    def step(self, augmentation: Augmentation | None) -> Iterator[None]:
        """Train as `ladd train` does."""
        augmenter = Augmenter(augmentation, (0.0, 0.0, 0.0)) if augmentation is not None else None
        student = AugmentedStudent(self.network, augmenter, Options(), 0, self.device)
        for number, batch in enumerate(epochs(self.loader)):
            student.begin(number)
            self.optimizer.zero_grad(set_to_none=True)
            for part in self.loss.parts(student, batch, self.dataset, student.takes):
                torch.autograd.backward(part)
            self.optimizer.step()
            yield


def epochs(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Go through the epochs without end."""
    while True:
        yield from loader


def seconds(way: Iterator[None], steps: int, device: torch.device) -> float:
    """Return the time of a step."""
    clock: Callable[[], float] = time.process_time if device.type == "cpu" else time.perf_counter
    began = clock()
    for _ in range(steps):
        next(way)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - began) / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="convnet-d3")
    parser.add_argument("--width", type=int, default=128)
    for name, value in (("size", 32), ("batch", 64), ("images", 64), ("steps", 2), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--views-per-pass", type=int, nargs="*", default=[1, 25])
    options = parser.parse_args()
    device = torch.device(options.device)
    print(
        f"{options.model}, {options.size} px, batch {options.batch}, {device_name(device)}, torch {torch.__version__}"
    )
    print("| views per pass | augmentation | limit, ms | step, ms | added |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), options.images, options.size)
        for views_per_pass in options.views_per_pass:
            width = options.width if options.model.startswith("convnet") else None
            spec = describe_network(options.model, width=width, classes=10, channels=3, size=options.size)
            case = Case(dataset, build_network(spec), min(options.batch, options.images), views_per_pass, device)
            ways = {"limit": case.limit(), **{name: case.step(wanted) for name, wanted in AUGMENTATIONS.items()}}
            times = {name: [seconds(way, 1, device)] for name, way in ways.items()}  # to warm up
            for name, way in [pair for pair, _ in zip(cycle(ways.items()), range(len(ways) * options.repeats))]:
                times[name].append(seconds(way, options.steps, device))
            best = {name: 1000 * min(found[1:]) for name, found in times.items()}
            for name in AUGMENTATIONS:
                added = best[name] / best["limit"] - 1
                print(
                    f"| {views_per_pass} | {name} | {best['limit']:.1f} | {best[name]:.1f} | {added:+.1%} |", flush=True
                )


if __name__ == "__main__":
    main()
