"""Labeling against its limit and against Algorithm 1: images and views a second, and how time and memory grow.

    python benchmarks/labeling.py [--device cuda] [--repeats 5] [--only "convnet-d3 32"]
    python benchmarks/labeling.py --records 20000
    python benchmarks/labeling.py --records 100000

Each of 25 views (5x5, sides 5/8) of uint8 images gets its logits. "limit" is the labeler alone on tensors
that are ready, in passes of the same shape and by the same threads; "plain" the same as one calls it,
with torch's own threads. "Algorithm 1" takes one image, one crop, one forward pass at a time.
"torchvision" resizes each view for the whole batch and makes passes of the same size. The ways take turns
within each repeat; ratios are of medians. `--records` labels synthetic images of 32 px with a tiny
labeler, from dataset to dataset, and prints seconds and the largest resident memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torchvision
import torchvision.transforms.v2.functional as vision
from torch import Tensor, nn

from ladd_data.labeling.pipeline import Chunk, Computing, LabelPipeline, Member
from ladd_data.labeling.runlog import name_device
from ladd_data.manifest import Affine, Network
from ladd_data.models import build_network
from ladd_data.models.arithmetic import full_float32
from ladd_data.shards import writer
from ladd_data.shards.layout import Records
from ladd_data.shards.plan import plan_shards
from ladd_data.types import U8
from ladd_data.views.device import ViewMaker, apply_affine
from ladd_data.views.geometry import boxes, grid

GRID = grid(5, "5/8")
AFFINE = Affine(scale=(0.017, 0.017, 0.017), offset=(-2.1, -2.0, -1.8))
CASES = {
    "convnet-d3 32": (32, 36, 2048),
    "convnet-d5 128": (128, 4, 128),
    "resnet18 32": (32, 120, 2048),
    "resnet18 224": (224, 2, 64),
}
"""Side in pixels, and how many images a CPU and a GPU label in each repeat."""
SHARD_BYTES = 8_000_000
"""With --records: small, so that there are many shards."""

Way = Callable[[U8], object]


def build(name: str, size: int, device: torch.device) -> tuple[nn.Module, Network]:
    """Return a labeler of 10 classes and its description."""
    torch.manual_seed(0)
    if name == "resnet18":
        network: nn.Module = torchvision.models.resnet18(num_classes=10)
        spec = Network(name="torchvision:resnet18", width=64, classes=10, channels=3, size=size)
    else:
        spec = Network(name=name, width=128, classes=10, channels=3, size=size)
        network = build_network(spec)
    return network.to(device).eval(), spec


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ours(pipeline: LabelPipeline, images: U8) -> int:
    """Label all images; returns how many logits there are."""
    step = pipeline.images_at_once
    none = Records([], np.zeros(0, np.int64), [], {})
    chunks = (Chunk(none, images[at : at + step]) for at in range(0, len(images), step))
    return sum(logits.size for _, logits in pipeline.stream(chunks))


def limit(pipeline: LabelPipeline, network: nn.Module, ready: list[Tensor]) -> None:
    """Run the labeler alone on ready passes, as many at a time as the pipeline does."""

    def one(views: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(views)
            return logits

    if pipeline.computing.device.type == "cuda" or pipeline._pool is None:
        for views in ready:
            one(views)
    else:
        list(pipeline._pool.map(one, ready))


def algorithm_1(network: nn.Module, device: torch.device, images: U8) -> None:
    """One image, one crop, one forward pass."""
    size = images.shape[-1]
    with torch.inference_mode():
        for image in images:
            picture = torch.from_numpy(image).to(device)
            for box in boxes(GRID, size, size):
                crop = vision.resized_crop(picture, box.y, box.x, box.height, box.width, [size, size], antialias=True)
                network(apply_affine(AFFINE, crop[None])).cpu()


def torchvision_batched(network: nn.Module, device: torch.device, batch: int, images: U8) -> None:
    """Every view resized for all images at once, then passes of the same size."""
    size = images.shape[-1]
    with torch.inference_mode():
        for some in torch.split(torch.from_numpy(images).to(device), max(1, batch // 25)):
            views = [
                vision.resized_crop(some, box.y, box.x, box.height, box.width, [size, size], antialias=True)
                for box in boxes(GRID, size, size)
            ]
            for part in torch.split(torch.stack(views, 1).flatten(0, 1), batch):
                network(apply_affine(AFFINE, part)).cpu()


def compare(case: str, device: torch.device, repeats: int) -> None:
    """Time the ways in turns and print a table."""
    size, *counts = CASES[case]
    count = counts[device.type == "cuda"]
    network, spec = build(case.split()[0], size, device)
    pipeline = LabelPipeline([Member(network, spec, AFFINE)], GRID, Computing(device))
    images = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8)
    few = images[: max(1, count // 8)]
    views = ViewMaker(GRID, size, size)(torch.from_numpy(images)).flatten(0, 1)
    ready = [part.contiguous() for part in torch.split(apply_affine(AFFINE, views).to(device), pipeline.batch)]
    threads = torch.get_num_threads()
    ways: dict[str, tuple[int, Way]] = {
        "limit: the labeler alone": (count, lambda _: limit(pipeline, network, ready)),
        "ladd label": (count, lambda given: ours(pipeline, given)),
        "plain: the labeler alone": (count, lambda _: [plain(network, part) for part in ready]),
        "Algorithm 1": (len(few), lambda given: algorithm_1(network, device, given)),
        "torchvision, batched": (count, lambda given: torchvision_batched(network, device, pipeline.batch, given)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):  # the first is for warming up
        for number, (name, (labelled, way)) in enumerate(ways.items()):
            if number < 2:
                with pipeline:
                    seconds = clock(way, images[:labelled], device)
            else:
                torch.set_num_threads(threads)
                with full_float32():
                    seconds = clock(way, images[:labelled], device)
            if repeat:
                times[name].append(seconds / labelled)
    report(case, pipeline, {name: 1 / statistics.median(taken) for name, taken in times.items()})


def plain(network: nn.Module, views: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = network(views)
        return logits


def clock(way: Way, images: U8, device: torch.device) -> float:
    """Return the seconds that a way takes."""
    sync(device)
    began = time.perf_counter()
    way(images)
    sync(device)
    return time.perf_counter() - began


def report(case: str, pipeline: LabelPipeline, speeds: dict[str, float]) -> None:
    best = speeds["limit: the labeler alone"]
    print(f"\n{case} px: {pipeline.batch} views a pass, {pipeline.images_at_once} images at once")
    print(f"  {'':28}{'images/s':>10}{'views/s':>10}{'of limit':>10}{'x Algorithm 1':>15}")
    for name, speed in speeds.items():
        ratios = f"{speed / best:>10.2f}{speed / speeds['Algorithm 1']:>15.2f}"
        print(f"  {name:28}{speed:>10.1f}{25 * speed:>10.0f}{ratios}", flush=True)


def grow(records: int, device: torch.device) -> None:
    """Label a synthetic dataset from disk to disk; print seconds and memory."""
    from ladd_data.dataset import load
    from ladd_data.encodings.profiles import ENCODINGS
    from ladd_data.labeling.label import LabelPlan, Reports, label_dataset
    from ladd_data.labeling.labeler import LabelerDescription, load_labeler, save_labeler
    from ladd_data.manifest import Classes, Normalization

    with tempfile.TemporaryDirectory() as home:
        classes, half = Classes(names=tuple("0123456789")), Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
        spec = Network(name="convnet-d3", width=1, classes=10, channels=3, size=32)
        description = LabelerDescription(network=spec, classes=classes, normalization=half, epochs_done=0)
        save_labeler(Path(home) / "tiny.safetensors", build_network(spec), description)
        source = Path(home) / "plain"
        maker = get_context("spawn").Process(target=write_synthetic, args=(source, records, classes, half))
        maker.start()  # in a process of its own, so that its memory is not counted here
        maker.join()
        vars(writer)["plan_shards"] = partial(plan_shards, shard_bytes=SHARD_BYTES)
        dataset = load(source)
        plan = LabelPlan(load_labeler(Path(home) / "tiny.safetensors", device), GRID, ENCODINGS["float16"], device)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        marks: list[tuple[int, float]] = []
        began = time.perf_counter()
        note = Reports(lambda done, total: marks.append((done, time.perf_counter() - began)))
        label_dataset(dataset, plan, Path(home) / "labelled", reports=note)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        shards = len(list((Path(home) / "labelled" / "data").iterdir()))
    middle = next(taken for done, taken in marks if done >= records / 2)
    print(
        f"{records} records into {shards} shards: {seconds:.1f} s, {records / seconds:.0f} images/s from disk to disk;"
    )
    print(
        f"first half labelled in {middle:.1f} s, second in {marks[-1][1] - middle:.1f} s, shards written in the rest;"
    )
    print(f"largest resident memory {before:.0f} MiB before, {after:.0f} MiB after")


def write_synthetic(target: Path, records: int, classes: object, normalization: object) -> None:
    """Write random images of 32 px a few thousand at a time, so that making them takes no memory either."""
    from ladd_data.convert import convert, prepare
    from ladd_data.converter import Distilled
    from ladd_data.dataset import load
    from ladd_data.shards.images import PixelImages
    from ladd_data.shards.layout import layout_of
    from ladd_data.writer import new_dataset

    generator = np.random.default_rng(0)
    images = generator.normal(0, 0.5, (20, 3, 32, 32)).astype(np.float32)
    labels = np.arange(20) % 10
    made = Distilled("synthetic", "", images, labels, classes, normalization, "none", ())  # type: ignore[arg-type]
    seed = target.with_name("seed")
    convert(prepare(made, "synthetic"), seed)
    manifest = load(seed).manifest
    with new_dataset(target, manifest.classes, layout_of(manifest), records) as open_set:
        for first in range(0, records, 2000):
            count = min(2000, records - first)
            pixels = generator.integers(0, 256, (count, 3, 32, 32), np.uint8)
            ids = [f"{number:06d}" for number in range(first, first + count)]
            open_set.add(Records(ids, np.arange(count) % 10, PixelImages(pixels, "stored"), {}), pixels)
        counted = manifest.images.model_copy(update={"count": records})
        open_set.finish(
            lambda digests: manifest.model_copy(
                update={
                    "images": counted.model_copy(update={"digest": digests.images}),
                    "digest": digests.dataset,
                    "distillation": manifest.distillation.model_copy(update={"ipc": None}),
                }
            )
        )


def main() -> None:
    """Print one table per case, or how labeling grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--records", type=int)
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"{name_device(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if options.records:
        grow(options.records, device)
        return
    for case in [options.only] if options.only else CASES:
        compare(case, device, options.repeats)


if __name__ == "__main__":
    main()
