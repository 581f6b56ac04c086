"""What converting a folder of JPEG files costs, beside reading and hashing them: `python benchmarks/convert.py`.

Makes the files in a temporary folder, so they are in the page cache for both. Reading and hashing is one
simple loop over the files; converting is what `ladd convert imagefolder` does, from the look at the folder to the
dataset on the disk: lists, looks at each file, reads, hashes, writes, waits for the disk. The two are measured in
turn, each in a process of its own, from the moment at which Python and the libraries are loaded; the process's
peak memory has these in it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet  # noqa: F401  as everything else that conversion loads on its way
import yaml  # noqa: F401
from ladd_converters.imagefolder import ImageFolderConverter
from PIL import Image

import ladd_data as ladd
from ladd_data.convert import convert, prepare

CLASSES = 1000
SIDE = 224
DIFFERENT = 200
"""Pictures really made; the others are these, each with a comment of its own before its end."""


def make_files(folder: Path, count: int) -> None:
    """Write `count` JPEG files of about 10 kB, as <class>/class<class>_id<id>.jpg."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(min(count, DIFFERENT)):
        rough = Image.fromarray(generator.integers(0, 256, (28, 28, 3), np.uint8))
        buffer = io.BytesIO()
        rough.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=75)
        made.append(buffer.getvalue())
    for number in range(count):
        label, rank = number % CLASSES, number // CLASSES
        (folder / f"{label:05d}").mkdir(exist_ok=True)
        data = made[number % len(made)]
        data = data[:-2] + b"\xff\xfe\x00\x0a" + f"{number:08d}".encode() + data[-2:]
        (folder / f"{label:05d}" / f"class{label:05d}_id{rank:05d}.jpg").write_bytes(data)


def read_and_hash(folder: Path) -> None:
    """Read every file once, and hash it."""
    for path in sorted(folder.rglob("*.jpg")):
        hashlib.sha256(path.read_bytes()).hexdigest()


def convert_folder(folder: Path, target: Path) -> None:
    """Do what `ladd convert imagefolder FOLDER --normalization imagenet -o TARGET` does."""
    normalization = ladd.Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    distilled = ImageFolderConverter().read(folder, ladd.Answers(normalization=normalization))
    convert(prepare(distilled, "benchmark"), target)


def run_one(what: str, folder: Path, target: Path) -> dict[str, float]:
    """Do one of the two, and return wall and CPU seconds and peak memory in MB."""
    wall, cpu = time.perf_counter(), time.process_time()
    if what == "read":
        read_and_hash(folder)
    else:
        convert_folder(folder, target)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak}


def measure(count: int, repeat: int) -> None:
    """Measure both on `count` files, in turn, and print the best wall and CPU time of each."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "source")
        source.mkdir()
        make_files(source, count)
        os.sync()  # what was just written is nobody's business of those measured
        runs: dict[str, list[dict[str, float]]] = {"read": [], "convert": []}
        for number in range(repeat):
            for what, found in runs.items():
                command = [sys.executable, __file__, "--one", what, str(source), f"{temporary}/{number}"]
                found.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
    best = {what: {key: min(run[key] for run in found) for key in found[0]} for what, found in runs.items()}
    for what, run in best.items():
        each = [f"{run[key] / count * 1e6:>7.1f}" for key in ("wall", "cpu")]
        ratios = [f"{run[key] / best['read'][key]:>6.2f}" for key in ("wall", "cpu")]
        print(
            f"{count:<8} {what:<8} {run['wall']:>6.2f} {each[0]} {ratios[0]}  {each[1]} {ratios[1]} {run['peak']:>8.0f}"
        )


def main() -> None:
    """Measure at each count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "FOLDER", "TARGET"))
    options = parser.parse_args()
    if options.one:
        what, folder, target = options.one
        print(json.dumps(run_one(what, Path(folder), Path(target))))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ratios are to reading and hashing")
    print("files    what     wall s us/file  ratio  CPU us  ratio  peak MB")
    for count in options.counts:
        measure(count, options.repeat)


if __name__ == "__main__":
    main()
