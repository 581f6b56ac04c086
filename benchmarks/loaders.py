"""The same records through our loaders and through others, with the limit that memory sets, in one run.

    python benchmarks/loaders.py --results rows.json --markdown docs/loaders-benchmark.md    the whole page
    python benchmarks/loaders.py --results rows.json --markdown ... --minutes 12             as much as fits
    python benchmarks/loaders.py --records 2000 --classes 10 --only ladd                     a part of it

Each form (benchmarks/loader_cases.py) is written once and read in processes of its own, `--rounds` times; the better
round is shown. What `--results` has is not measured again: a run that was stopped goes on where it was. Peers that are
not installed are named. Two are in no extra, as mosaicml-streaming pins older versions than ours, which it does without
in this use: in an environment of its own, `pip install litdata boto3 transformers`, then `pip install --no-deps
mosaicml-streaming zstd brotli python-snappy cramjam catalogue`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from meter import Peak, cpu_seconds, touch_memory

PACKAGES = ("torch", "numpy", "pyarrow", "pillow", "datasets", "webdataset", "mosaicml-streaming", "litdata")
Row = dict[str, Any]
CACHING = ("ladd cached", "ladd to_torch", "datasets map")
STREAMED = (
    "limit: np.take from memmaps",
    "ladd resident",
    "ladd cached",
    "ladd streaming, stored PNG",
    "datasets streaming, stored PNG",
    "WebDataset, stored PNG",
)
"""Forms that are measured at sizes that take gigabytes in each."""
PLAN = ((10, 20_000, None), (1000, 20_000, STREAMED), (10, 2_000, None), (10, 100_000, STREAMED), (1000, 2_000, None))
"""(classes, records, forms; None: all of them), the most telling first. One form at a time is on the disk, beside the
arrays that the limit is measured on: at 100,000 records 16 GB with the cache."""


class Results:
    """Rows that have been measured, kept in a file from one run to the next."""

    def __init__(self, path: Path | None, minutes: float | None) -> None:
        """Read the file, if there is one; after `minutes` nothing new is begun."""
        self._path, self._end = path, None if minutes is None else time.monotonic() + 60 * minutes
        self.rows: dict[str, Row] = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def __setitem__(self, key: str, row: Row) -> None:
        self.rows[key] = row
        if self._path is not None:
            self._path.write_text(json.dumps(self.rows, indent=1))

    @property
    def over(self) -> bool:
        """Tell whether time is over."""
        return self._end is not None and time.monotonic() > self._end


def measure(name: str, folder: Path, arrays: Path, batch: int, seconds: float) -> Row:
    """Read a form in this process: the first batch, the rest of the first pass, later passes; then the limit."""
    from loader_cases import CASES

    from ladd_data.errors import UsageError

    case = next(case for case in CASES if case.name == name)
    more = ("datasets",) if name.startswith("datasets") else ()
    for package in ("ladd_data.dataset", "webdataset", *case.needs, *more):
        importlib.import_module(package)
    touch_memory()
    peak, began = Peak(), time.perf_counter()
    try:
        epochs = case.read(folder, batch)
    except UsageError as error:
        return {"absent": str(error)}
    opened = time.perf_counter() - began
    row: Row = {}
    row["pass"], ended, first = rate(epochs(0), seconds)
    row["first"] = opened + first
    if ended:
        row["later"], *_ = rate((item for number in itertools.count(1) for item in epochs(number)), seconds)
    row["mb"] = peak.end()
    row["limit"] = measure_limit(arrays, batch)
    return row


def measure_limit(arrays: Path, batch: int) -> float:
    """Return samples a CPU-second of a gather from memory now: the best of a few passes of this thread."""
    from loader_cases import read_arrays

    epochs, rates = read_arrays(arrays, batch, 20_000), []
    for number in range(4):
        began = time.thread_time()
        samples = sum(len(batches[0]) for batches in epochs(number))
        rates.append(samples / (time.thread_time() - began))
    return max(rates)


def rate(batches: Any, seconds: float) -> tuple[list[float], bool, float]:
    """Return (samples a CPU-second, samples a second), whether batches ended, and the seconds until the first.

    At most `seconds` are measured after the first batch.
    """
    cpu, wall, samples, first, ended = cpu_seconds(), time.perf_counter(), 0, 0.0, True
    for batch in batches:
        one = next(iter(batch.values())) if isinstance(batch, dict) else batch if hasattr(batch, "cutter") else batch[0]
        samples += len(one)
        del batch, one
        gone = time.perf_counter() - wall
        first = first or gone
        if gone > first + seconds:
            ended = False
            break
    rates = [samples / max(cpu_seconds() - cpu, 1e-9), samples / (time.perf_counter() - wall)]
    return rates, ended, first


def run_case(options: argparse.Namespace, name: str, folder: Path) -> Row:
    """Measure a form in a process of its own."""
    arrays = str(folder.parent / "arrays")
    command = [sys.executable, __file__, "--step", name, str(folder), arrays, "--batch", str(options.batch)]
    caches = {"LADD_CACHE": str(folder / "ladd-cache"), "HF_DATASETS_CACHE": str(folder / "hf-cache")}
    environment = os.environ | caches | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--seconds", str(options.seconds)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {"absent": f"failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:160]}"}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def run_all(
    options: argparse.Namespace, results: Results, count: int, classes: int, names: Sequence[str] | None
) -> None:
    """Write and measure forms of one size that have no row yet: those of these names, or all."""
    from loader_cases import CASES, WRITERS, Base

    base = Base(count, classes, options.size)
    wanted = [case for case in CASES if key_of(options, count, classes, case.name) not in results.rows]
    wanted = [case for case in wanted if names is None or case.name in names]
    wanted = [case for case in wanted if options.only is None or options.only in case.name or case.form == "arrays"]
    with tempfile.TemporaryDirectory(dir=options.work) as home:
        for form, cases in itertools.groupby(wanted, lambda case: case.form):
            chosen, failure = list(cases), ""
            if results.over:
                return
            for name, needed in (("arrays", WRITERS["arrays"]), (form, WRITERS[form])):
                folder = Path(home) / name.replace(" ", "-")
                if not folder.exists():
                    folder.mkdir()
                    try:
                        needed(base, folder)
                    except ImportError as error:  # a peer that is not installed, or without what it needs
                        failure = f"failed: {error}"
            for case in chosen:
                missing = [package for package in case.needs if importlib.util.find_spec(package) is None]
                absent = f"{missing[0]} is not installed" if missing else failure
                row = {"absent": absent} if absent else measure_rounds(options, case.name, folder)
                results[key_of(options, count, classes, case.name)] = row
                print(f"{count:>7} {classes:>5} {case.name:36}{json.dumps(row)}", file=sys.stderr, flush=True)
            if form != "arrays":
                shutil.rmtree(folder)


def key_of(options: argparse.Namespace, count: int, classes: int, name: str) -> str:
    """Return what a row is kept under."""
    return f"{classes} classes, {count} records, {options.size} px, {options.batch} a batch: {name}"


def measure_rounds(options: argparse.Namespace, name: str, folder: Path) -> Row:
    """Measure a form some times, after an opening that fills its cache, if it has one; keep the best numbers."""
    opened: Row = {}
    if name.startswith(CACHING):
        opened = run_case(argparse.Namespace(**{**vars(options), "seconds": 0.2}), name, folder)
    found = [opened if "absent" in opened else run_case(options, name, folder) for _ in range(options.rounds)]
    if absent := [row for row in found if "absent" in row]:
        return absent[0]
    best: Row = {"mb": min(row["mb"] for row in found), "first": min(row["first"] for row in found)}
    best["limit"] = statistics.median(row["limit"] for row in found)
    for key in ("pass", "later"):
        given = [row[key] for row in found if key in row]
        if given:
            best[key] = [max(values) for values in zip(*given, strict=True)]
    best["opening"], best["disk"] = (opened or found[0])["first"], disk_bytes(folder) / 1e6
    for cache in ("ladd-cache", "hf-cache"):
        shutil.rmtree(folder / cache, ignore_errors=True)
    return best


def disk_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write_table(rows: dict[str, Row], count: int, classes: int) -> list[str]:
    """Return a table, as Markdown; of forms by name, those measured in whatever order."""
    from loader_cases import CASES

    lines = [f"## {count:,} records, {classes} classes", ""]
    lines += [
        "| form | samples a CPU-second: first pass | later passes | limit then | limit / this | samples a second "
    ]
    lines[-1] += "| first batch s | first opening ever s | memory MB | disk MB |"
    lines.append("|---|" + "---:|" * 9)
    for name in (case.name for case in CASES if case.name in rows):
        row = rows[name]
        if "absent" in row:
            lines.append(f"| {name} | {row['absent']} | | | | | | | | |")
            continue
        last = row["later"] if "later" in row else row["pass"]
        later = f"{row['later'][0]:,.0f}" if "later" in row else ""
        ratios = " / ".join(say_ratio(row["limit"] / row[key][0]) for key in ("pass", "later") if key in row)
        lines.append(
            f"| {name} | {row['pass'][0]:,.0f} | {later} | {row['limit']:,.0f} | {ratios} | {last[1]:,.0f} "
            f"| {row['first']:.2f} | {row['opening']:.2f} | {row['mb']:,.0f} | {row['disk']:,.0f} |"
        )
    return [*lines, ""]


def say_ratio(value: float) -> str:
    """Return a ratio with two digits that count."""
    return f"{value:.{2 if value < 2 else 1 if value < 10 else 0}f}"


NOTES = """\
Shared machines make single numbers unsure: believe differences above a factor of two, and read ratios, not numbers.

- **limit**: `np.take` of random rows from three memory-mapped arrays into fresh memory, a batch at a time. Loaders that
  use their memory again, as ours do, can be faster than it.
- One torch thread for all: with two, on two cores that others use too, whatever calls torch to copy waits for its own
  threads, and takes a tenth of the rate (seen with `index_select`, `stack` and TensorDataset).
- All are shuffled: fully, or where a form cannot, by its own buffer of 1,000. Batches of 256; files are in the
  page cache.
- Ours decode labels to float32 probabilities; the others hand out what is stored, float16 log-probabilities (`datasets`
  widens them to float32). With many classes that is most of what ours cost.
- **First pass**: of a fresh process, the first batch included, but not what opening took (where ours fill memory or
  the cache); at most `--seconds` from the first batch on. Ours compare checksums in it.
  **Later passes** are had only by what finished the first in time. **Limit then**: measured in the same process,
  right after, on 20,000 records at most. **Limit / this**: first pass / later passes, both against that.
- In tables of 100,000 records, and of 20,000 with 1000 classes, only what could change with the number is measured: the
  others cost the same for each record (compare rows at 2,000 and 20,000), and would take gigabytes each to write.
- **First batch**: from opening to the first batch, imports not counted. **First opening ever**: the same before
  any cache (ours, or that of `datasets`) was filled.
- Before each form its process writes to half a gigabyte of memory and gives it back: on a virtual machine, memory that
  the host has not given yet costs up to 4 ms for 2 MB, whoever touches it first.
- **Memory**: peak of anonymous and shared memory of all processes, above what there was after the
  imports. **Disk**: with caches.
"""


def describe_machine() -> list[str]:
    """Return what was measured on, and with."""
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    cores = f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GB"
    return [f"{cores}, Linux {platform.release()}; Python {platform.python_version()}, {', '.join(versions)}."]


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", help="in place of the page's sizes")
    parser.add_argument("--classes", type=int, nargs="+", help="in place of the page's sizes")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2, help="the most that a pass is measured")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", help="measure the limit, and forms with this in their names")
    parser.add_argument("--work", type=Path, help="a folder with room for the forms: 12 times the raw bytes")
    parser.add_argument("--markdown", type=Path, help="the page to write")
    parser.add_argument("--results", type=Path, help="a file of rows: those in it are not measured again")
    parser.add_argument("--minutes", type=float, help="after which nothing new is begun")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, folder, arrays = options.step
        print(json.dumps(measure(name, Path(folder), Path(arrays), options.batch, options.seconds)), flush=True)
        os._exit(0)  # a stream of datasets that is left half read may abort at exit
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    results = Results(options.results, options.minutes)
    loads = [os.getloadavg()[0]]
    plan: Sequence[tuple[int, int, Sequence[str] | None]] = PLAN
    if options.records or options.classes:
        plan = [(classes, count, None) for classes in options.classes or [10] for count in options.records or [20_000]]
    for classes, count, names in plan:
        run_all(options, results, count, classes, names)
        loads.append(os.getloadavg()[0])
        if options.markdown:  # after each size, so that a run that is stopped leaves a page
            options.markdown.write_text(write_page(options, loads, write_tables(options, results, plan)))
    print(write_page(options, loads, write_tables(options, results, plan)))


def write_tables(
    options: argparse.Namespace, results: Results, plan: Sequence[tuple[int, int, Sequence[str] | None]]
) -> list[str]:
    """Return the tables of what has been measured, by classes and records."""
    lines: list[str] = []
    for classes, count, _ in sorted(plan, key=lambda size: size[:2]):
        before = key_of(options, count, classes, "")
        rows = {key.removeprefix(before): row for key, row in results.rows.items() if key.startswith(before)}
        lines += write_table(rows, count, classes) if rows else []
    return lines


def write_page(options: argparse.Namespace, loads: list[float], tables: list[str]) -> str:
    """Return the page with the tables so far."""
    hidden = (
        "--work",
        str(options.work),
        "--results",
        str(options.results),
        "--minutes",
        f"{options.minutes:g}" if options.minutes else "",
    )
    words = [word for word in sys.argv[1:] if word not in hidden]
    command = " ".join(["python benchmarks/loaders.py", *words])
    page = ["# Loaders, measured", "", f"Written by `{command}` on {date.today()}.", "", *describe_machine()]
    page += [f"Load before, between and after: {', '.join(f'{load:.1f}' for load in loads)}.", "", NOTES, *tables]
    return "\n".join(page).rstrip() + "\n"


if __name__ == "__main__":
    main()
