"""What converting a folder of JPEG files costs, beside reading and hashing them: `python benchmarks/convert.py`.

Makes the files in a temporary folder, so they are in the page cache for both. Reading and hashing is one
loop over the files; converting looks at them, reads, hashes, writes the dataset and waits for the disk.
Peak memory is of a process of its own that does nothing else, so it includes Python and the libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
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
    """Do what a converter of such a folder does."""
    files = sorted(folder.rglob("*.jpg"))
    distilled = ladd.Distilled(
        method="benchmark",
        repository=None,
        images=ladd.open_pictures(files),
        labels=np.array([int(file.parent.name) for file in files], np.int64),
        classes=ladd.Classes(names=tuple(f"class {number}" for number in range(CLASSES))),
        normalization=ladd.Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        whitening="none",
        files=(folder,),
    )
    del files
    convert(prepare(distilled, "benchmark"), target, overwrite=True)


def run_one(what: str, folder: Path, target: Path) -> dict[str, float]:
    """Do one of the two, and return wall and CPU seconds and peak memory in MB."""
    wall, cpu = time.perf_counter(), time.process_time()
    if what == "read":
        read_and_hash(folder)
    else:
        convert_folder(folder, target)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak}


def main() -> None:
    """Measure both at each count, in turn, each in a process of its own, and print the best of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "FOLDER", "TARGET"))
    options = parser.parse_args()
    if options.one:
        what, folder, target = options.one
        print(json.dumps(run_one(what, Path(folder), Path(target))))
        return
    print("files    what      wall s   CPU s   peak MB   wall / read and hash")
    for count in options.counts:
        with tempfile.TemporaryDirectory() as temporary:
            source, target = Path(temporary, "source"), Path(temporary, "set")
            source.mkdir()
            make_files(source, count)
            runs: dict[str, list[dict[str, float]]] = {"read": [], "convert": []}
            for _ in range(options.repeat):
                for what, found in runs.items():
                    command = [sys.executable, __file__, "--one", what, str(source), str(target)]
                    found.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
            best = {what: min(found, key=lambda run: run["wall"]) for what, found in runs.items()}
            for what, run in best.items():
                ratio = run["wall"] / best["read"]["wall"]
                print(f"{count:<8} {what:<8} {run['wall']:>7.2f} {run['cpu']:>7.2f} {run['peak']:>9.0f}   {ratio:.2f}")


if __name__ == "__main__":
    main()
