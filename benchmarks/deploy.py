"""A training step with LADD's loss against the model's own forward and backward, and what a whole run takes.

    python benchmarks/deploy.py [--size 32] [--batch 64] [--width 128] [--steps 3] [--device cuda] [--full]

"model" runs the network forward and backward on tensors that are ready: full images and views cut beforehand, in
the passes that `ladd train` makes of them, each answered by a fixed gradient. "step" does the same from the loader on:
gather the batch, turn it into model input, cut the views, decode the labels, compute Eq. 5. "rest" is all of a step but
the network: what loader, views and loss cost; "views" and "batch" are parts of it. The optimiser is left out. They
take turns, so that what else the machine does falls on all; on a CPU, time is this process's own. A minute with one
thread.

The run is 1,000 epochs over IPC 10 (100 images, 10 classes). Its time is that of the measured steps times their
number, and the output says so; with --full it is also trained to its end, by `train_students` with SGD.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ladd_data.convert import convert, prepare
from ladd_data.converter import Distilled
from ladd_data.dataset import Dataset, load
from ladd_data.deploy.losses import LADD
from ladd_data.deploy.options import Options
from ladd_data.deploy.passes import settle
from ladd_data.deploy.resolve import find_recipe, override
from ladd_data.deploy.student import AugmentedStudent
from ladd_data.deploy.train import train_students
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.label import LabelPlan, label_dataset
from ladd_data.labeling.labeler import LabelerDescription, load_labeler, save_labeler
from ladd_data.manifest import Classes, Network, Normalization
from ladd_data.models import build_network
from ladd_data.sources import ImageSet
from ladd_data.types import Batch
from ladd_data.views.geometry import grid

CLASSES = Classes(names=tuple(f"class-{number}" for number in range(10)))
NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
EPOCHS, IPC = 1000, 10


def make_dataset(home: Path, size: int) -> Dataset:
    """Write and open 100 images of noise with 25 dense labels each, of an untrained labeler."""
    count = IPC * len(CLASSES.names)
    images = np.random.default_rng(0).normal(0, 1, (count, 3, size, size)).astype(np.float32)
    distilled = Distilled(
        method="noise",
        repository="https://example.org",
        images=images,
        labels=np.arange(count, dtype=np.int64) % len(CLASSES.names),
        classes=CLASSES,
        normalization=NORMALIZATION,
        whitening="none",
        files=(),
    )
    convert(prepare(distilled, "noise"), home / "noise")
    network = Network(name="convnet-d3", width=32, classes=len(CLASSES.names), channels=3, size=size)
    described = LabelerDescription(
        network=network, classes=CLASSES, normalization=NORMALIZATION, epochs_done=0, accuracy=0.1
    )
    save_labeler(home / "labeler.safetensors", build_network(network), described)
    labeler = load_labeler(home / "labeler.safetensors")
    plan = LabelPlan(labeler, grid(5, "5/8"), ENCODINGS["float16"], torch.device("cpu"))
    label_dataset(load(home / "noise"), plan, home / "labelled")
    return load(home / "labelled")


class Bench:
    """One network and one loader, and the two contestants."""

    def __init__(self, dataset: Dataset, args: argparse.Namespace) -> None:
        """Build network and loader, and cut the views of one batch for the contestant that gets them ready."""
        self.dataset, self.device = dataset, torch.device(args.device)
        torch.manual_seed(0)
        self.spec = Network(name="convnet-d3", width=args.width, classes=10, channels=3, size=args.size)
        self.network: nn.Module = build_network(self.spec).to(self.device).train()
        changes = [
            "augmentation=none",
            "ema=none",
            "optimizer.lr=0.001",
            f"epochs={EPOCHS}",
            f"batch_size={args.batch}",
        ]
        self.recipe = override(find_recipe("ladd"), changes)
        given = Options(views_per_pass=args.views_per_pass)
        self.options = settle(given, dataset.manifest, self.recipe, self.spec, self.device)
        self.loss = LADD(views_per_pass=self.options.views_per_pass)
        self.student = AugmentedStudent(self.network, None, self.options, 0, self.device)
        self.loader = dataset.loader(args.batch, shuffle=True, device=self.device, last="drop")
        self._batches = self._endless()
        batch = self.next_batch()
        self.ready = [dataset.model_input(batch.image)]
        self.ready += [views.pixels.flatten(0, 1) for views in batch.view_chunks(None, self.options.views_per_pass)]
        self.gradients = [torch.randn(len(pictures), 10, device=self.device) for pictures in self.ready]

    def _endless(self) -> Iterator[Batch]:
        while True:
            yield from self.loader

    def next_batch(self) -> Batch:
        """Return the next batch."""
        return next(self._batches)

    def warm_up(self) -> None:
        """Fill caches: one pass of each size through the network, all of the rest."""
        for pictures in {len(pictures): pictures for pictures in self.ready}.values():
            self.network(pictures).sum().backward()
        self.rest()

    def model(self) -> None:
        """Run the network alone."""
        self.network.zero_grad(set_to_none=True)
        for pictures, gradient in zip(self.ready, self.gradients, strict=True):
            torch.autograd.backward(self.network(pictures), gradient)

    def step(self) -> None:
        """Run the network within a step."""
        self.network.zero_grad(set_to_none=True)
        self.student.begin(0)
        for part in self.loss.parts(self.student, self.next_batch(), self.dataset, self.student.takes):
            torch.autograd.backward(part)

    def data(self) -> None:
        """Gather a batch and make its model input."""
        self.dataset.model_input(self.next_batch().image)

    def cut(self) -> None:
        """Cut all views of a batch."""
        for _ in self.next_batch().view_chunks(None, self.options.views_per_pass):
            pass

    def rest(self) -> None:
        """Do all of a step but the network: batch, model input, views, labels, loss, and its gradient at the logits."""
        logits = iter([torch.zeros_like(gradient, requires_grad=True) for gradient in self.gradients])
        for part in self.loss.parts(lambda pictures: next(logits), self.next_batch(), self.dataset):
            torch.autograd.backward(part)

    def run(self) -> float:
        """Train a student to the end, and return the seconds."""
        val = ImageSet("black", np.zeros((10, 3, self.spec.size, self.spec.size), np.uint8), np.arange(10), None)
        began = clock(self.device)
        train_students(self.dataset, self.spec, self.recipe, val, 1, options=self.options, device=self.device)
        return clock(self.device) - began


def clock(device: torch.device) -> float:
    """Return seconds: of this process on a CPU, of the wall behind all kernels on a GPU."""
    if device.type != "cpu":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def measure(ways: list[Callable[[], None]], steps: int, device: torch.device) -> list[list[float]]:
    """Return the seconds of each way, step by step; the ways take turns."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(steps):
        for way, taken in zip(ways, seconds, strict=True):
            began = clock(device)
            way()
            taken.append(clock(device) - began)
    return seconds


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--views-per-pass", type=int, help="as of ladd train, and with its default")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--full", action="store_true", help="also train the 1,000 epochs")
    return parser.parse_args()


def main() -> None:
    """Print the times of a step, its overhead, and the time of a run."""
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(make_dataset(Path(home), args.size), args)
        print(f"{platform.processor() or platform.machine()}, {args.device}, torch {torch.__version__}, ", end="")
        print(f"{torch.get_num_threads()} threads; ConvNetD3 width {args.width}, {args.size} px, batch {args.batch}, ")
        print(f"25 views, {bench.options.views_per_pass} a pass; median (best) of {args.steps} steps")
        ways = {"model": bench.model, "step": bench.step, "rest": bench.rest, "views": bench.cut, "batch": bench.data}
        bench.warm_up()
        found = dict(zip(ways, measure(list(ways.values()), args.steps, bench.device), strict=True))
        for name, taken in found.items():
            print(f"{name:6} {1e3 * statistics.median(taken):9.2f} ms  ({1e3 * min(taken):.2f})")
        medians, best = ({name: of(taken) for name, taken in found.items()} for of in (statistics.median, min))
        print(f"overhead: rest / model {medians['rest'] / medians['model']:.1%}; ", end="")
        ratios = [one["step"] / one["model"] - 1 for one in (medians, best)]
        print(f"step / model - 1 {ratios[0]:.1%}, of the best {ratios[1]:.1%}")
        steps = EPOCHS * len(bench.dataset) / args.batch
        print(f"{EPOCHS} epochs of IPC {IPC}: {steps * medians['step']:.0f} s, ", end="")
        print(f"computed: {steps:,.0f} steps' worth of pictures times the median", flush=True)
        if args.full:
            print(f"{EPOCHS} epochs of IPC {IPC}: {bench.run():.0f} s, measured, with SGD, initialisation and all")


if __name__ == "__main__":
    main()
