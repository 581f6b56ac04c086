"""What a first streamed pass costs against a gather from memory, in one run.

    python benchmarks/stream.py [--records 20000] [--size 128] [--png stored] [--place DIR]

Noise-like images with 25 views of 10 classes as float16, written by benchmarks/format.py; batches of 256; one torch
thread. The limit is numpy's take of random rows of pixels and labels from memory into new arrays. Each pass runs in a
process of its own; memory is what the process holds at its peak beyond what it held after its imports.
"""

from __future__ import annotations

import argparse
import json
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 256
ROUNDS = 3


def measure_limit(records: int, size: int) -> float:
    """Return samples a CPU-second of a gather from memory."""
    generator = np.random.default_rng(0)
    count = min(records, 20_000, int(4e9) // (size * size * 3))
    images = np.ones((count, 3, size, size), np.uint8)
    dense, labels = np.ones((count, 25, 10), np.float16), np.ones(count, np.int64)
    order = generator.permutation(count)
    began = time.process_time()
    for start in range(0, count, BATCH):
        index = order[start : start + BATCH]
        for values in (images, dense, labels):
            np.take(values, index, axis=0)
    return count / (time.process_time() - began)


def measure_pass(place: str, shuffle: bool) -> dict[str, float]:
    """Return the figures of a first pass."""
    import torch
    from meter import touch_memory

    import ladd_data as ladd

    torch.set_num_threads(1)
    _ = ladd.stream, ladd.load
    touch_memory()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, began, spent = memory(), time.perf_counter(), time.process_time()
    loader = ladd.stream(place, BATCH, shuffle=shuffle)
    count, first = 0, 0.0
    for batch in loader:
        first = first or time.perf_counter() - began
        count += len(batch)
    cpu, wall = time.process_time() - spent, time.perf_counter() - began
    return {"per_cpu_s": count / cpu, "per_s": count / wall, "first_s": first, "added_mib": memory("VmHWM") - before}


def memory(what: str = "VmRSS") -> float:
    """Return this process's memory in MiB."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


def run(*arguments: str) -> Any:
    """Return what this file prints with other arguments, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--png", choices=["stored", "small"], default="stored")
    parser.add_argument("--place", help="a dataset that is there already")
    parser.add_argument("--pass", dest="order", choices=["file", "shuffled", "limit"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.order == "limit":
        print(json.dumps(measure_limit(options.records, options.size)))
    elif options.order:
        print(json.dumps(measure_pass(options.place, options.order == "shuffled")))
    else:
        with tempfile.TemporaryDirectory() as folder:
            report(options, options.place or write(Path(folder) / "set", options))


def write(target: Path, options: argparse.Namespace) -> str:
    """Write the dataset."""
    module = runpy.run_path(str(Path(__file__).with_name("format.py")))
    module["write"](target, options.records, options.size, options.png)
    return str(target)


def report(options: argparse.Namespace, place: str) -> None:
    """Print the passes' figures, best of a few rounds that take turns with the limit."""
    best: dict[str, dict[str, float]] = {}
    limit = 0.0
    same = ["--records", str(options.records), "--size", str(options.size)]
    for _ in range(ROUNDS):
        limit = max(limit, run("--pass", "limit", *same))
        for order in ("file", "shuffled"):
            found = run("--pass", order, "--place", place)
            if found["per_cpu_s"] > best.get(order, {"per_cpu_s": 0})["per_cpu_s"]:
                best[order] = found
    print(f"gather from memory: {limit:,.0f} samples a CPU-second")
    for order, found in best.items():
        print(
            f"streamed, {order}: {found['per_cpu_s']:,.0f} ({found['per_cpu_s'] / limit:.2f} of it); "
            f"{found['per_s']:,.0f} a second; first batch {found['first_s']:.2f} s; {found['added_mib']:.0f} MiB added"
        )


if __name__ == "__main__":
    main()
