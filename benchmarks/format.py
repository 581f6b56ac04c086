"""What writing and fully validating a dataset costs, how it grows, and where the time goes.

    python benchmarks/format.py [--records 20000 100000] [--size 128] [--png stored]

Synthetic noise-like images with 25 views of 10 classes. Writing and validating run in processes of
their own, so that each peak of memory is its own. The shares of PNG, hashing and zstd are timed apart on the same data.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from ladd_data.digests import Digests, digest_pixels
from ladd_data.encodings.coding import column_types, encode_labels
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.manifest import Classes
from ladd_data.png import PngKind, decode_png, encode_png
from ladd_data.shards.layout import Layout, Records
from ladd_data.types import U8
from ladd_data.validation import validate
from ladd_data.views.geometry import grid
from ladd_data.views.golden import digest_view, top_of
from ladd_data.views.reference import reference_view
from ladd_data.writer import new_dataset

CODING = ENCODINGS["float16"]
CLASSES = Classes(names=tuple("abcdefghij"))
BLOCK = 500


def make_block(start: int, size: int, png: PngKind) -> tuple[Records, U8]:
    """Return BLOCK records: one block of noise, shifted, so that making it costs next to nothing."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (BLOCK, 3, size, size), np.uint8) + np.uint8(start // BLOCK % 256)
    logits = generator.normal(0, 3, (BLOCK, 25, 10)).astype(np.float32)
    ids = [f"{number:07d}" for number in range(start, start + BLOCK)]
    images = [encode_png(image, png) for image in pixels]
    return Records(ids, np.arange(start, start + BLOCK) % 10, images, encode_labels(logits, CODING)), pixels


def describe(count: int, size: int, png: PngKind, first: tuple[Records, U8], digests: Digests) -> dict[str, object]:
    """Return a manifest's content for the synthetic set."""
    records, pixels = first
    spec = grid(5, "5/8")
    label = np.exp(records.dense["dense_log_probs"][0, 0].astype(np.float32))
    top, prob = top_of(label / label.sum())
    view = digest_view(reference_view(spec, pixels[0], 0))
    error = {"rmse": 0.0, "max_abs": 0.0, "clipped_share": 0.0}
    return {
        "spec_version": "1.0",
        "name": "benchmark",
        "classes": CLASSES.model_dump(mode="json"),
        "images": {
            "count": count,
            "height": size,
            "width": size,
            "channels": 3,
            "png": png,
            "whitening": "none",
            "affine": {"scale": [1 / 255] * 3, "offset": [0.0] * 3},
            "quantization": {"mode": "none", "error": error},
            "digest": digests.images,
        },
        "distillation": {"method": "noise", "read": {}, "asserted": {}, "files": []},
        "labels": {
            "views": spec.model_dump(mode="json"),
            "coding": CODING.model_dump(mode="json"),
            "certificate": dict.fromkeys(("mean_tv", "max_tv", "mean_kl", "max_kl"), 0.0) | {"top1_agreement": 1.0},
            "labeler": None,
            "golden": [{"id": records.ids[0], "view": 0, "pixels": view, "top_class": top, "top_prob": prob}],
            "digest": digests.labels,
        },
        "recipe": {"loss": "ladd", "view_reduction": "sum"},
        "digest": digests.dataset,
    }


def write(target: Path, count: int, size: int, png: PngKind) -> dict[str, float]:
    """Write a dataset; return CPU seconds of making PNG files and of the rest, and peak memory."""
    from ladd_data.files import canonical_json
    from ladd_data.manifest_json import parse_manifest

    making, began = 0.0, time.process_time()
    first = make_block(0, size, png)
    layout = Layout(CLASSES.names, column_types(CODING, 25, 10), (3, size, size), png)
    with new_dataset(target, CLASSES, layout, count) as writer:
        for start in range(0, count, BLOCK):
            before = time.process_time()
            records, pixels = make_block(start, size, png)
            making += time.process_time() - before
            writer.add(records, pixels)
        writer.finish(lambda found: parse_manifest(canonical_json(describe(count, size, png, first, found))))
    return {"encode": making, "write": time.process_time() - began - making, "write_mib": peak_mib()}


def check(target: Path) -> dict[str, float]:
    """Validate a dataset in full; return CPU seconds and peak memory."""
    began = time.process_time()
    report = validate(target)
    if not report.valid:
        raise SystemExit("\n".join(map(str, report.problems)))
    return {"validate": time.process_time() - began, "validate_mib": peak_mib()}


def peak_mib() -> float:
    """Return this process's peak of memory; getrusage would count the one that started it."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def run_both(options: argparse.Namespace, count: int) -> dict[str, float]:
    """Write and validate a dataset, each in a process of its own."""
    common = ["--size", str(options.size), "--png", options.png]
    with tempfile.TemporaryDirectory() as home:
        target = Path(home) / "set"
        row = {"records": float(count)}
        for step in ("write", "validate"):
            command = [sys.executable, __file__, "--step", step, str(target), "--records", str(count), *common]
            row |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        row["megabytes"] = sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e6
    return row


def time_parts(size: int, png: PngKind) -> dict[str, float]:
    """Return CPU microseconds per record of each step that both directions are made of."""
    records, pixels = make_block(0, size, png)
    labels = np.concatenate([values.reshape(-1).view(np.uint8) for values in records.dense.values()])
    codec = pa.Codec("zstd")
    packed = codec.compress(labels.tobytes())
    parts: dict[str, Callable[[], object]] = {
        f"PNG encode ({png})": lambda: [encode_png(image, png) for image in pixels],
        f"PNG decode ({png})": lambda: [decode_png(data, 3, size, size) for data in records.images],
        "SHA-256 of pixels": lambda: [digest_pixels(image) for image in pixels],
        "zstd of labels, compress": lambda: codec.compress(labels.tobytes()),
        "zstd of labels, decompress": lambda: codec.decompress(packed, labels.nbytes),
    }
    result = {}
    for name, step in parts.items():
        began = time.process_time()
        step()
        result[name] = (time.process_time() - began) / BLOCK * 1e6
    return result


def main() -> None:
    """Run every count in a process of its own and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[5000, 20000])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--png", choices=["stored", "small"], default="stored")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, target = options.step[0], Path(options.step[1])
        done = check(target) if step == "validate" else write(target, options.records[0], options.size, options.png)
        print(json.dumps(done))
        return
    print(f"{options.size} px, 25 views, 10 classes, float16 log-probs + logz, PNG {options.png}; CPU seconds")
    heads = ("records", "MB", "encode", "write", "validate", "per 1000", "MiB write", "MiB valid.")
    print("".join(f"{head:>11}" for head in heads))
    for count in options.records:
        row = run_both(options, count)
        total = (row["encode"] + row["write"] + row["validate"]) / count * 1000
        print(
            f"{count:>11}{row['megabytes']:>11.0f}{row['encode']:>11.1f}{row['write']:>11.1f}{row['validate']:>11.1f}"
            f"{total:>11.2f}{row['write_mib']:>11.0f}{row['validate_mib']:>11.0f}",
            flush=True,
        )
    print("\nCPU microseconds a record, each step alone, and their share of all that the last count took a record:")
    for name, micros in time_parts(options.size, options.png).items():
        print(f"  {name:28}{micros:9.1f}{micros / total / 1000:8.1%}")


if __name__ == "__main__":
    main()
