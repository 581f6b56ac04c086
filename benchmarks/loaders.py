"""The same records through our loaders and through others, with the limit that memory sets, in one run.

    python benchmarks/loaders.py --markdown docs/loaders-benchmark.md          the whole page, about 12 minutes
    python benchmarks/loaders.py --records 2000 --classes 10 --only ladd       a part of it

Each form (benchmarks/loader_cases.py) is written once and read in processes of its own, `--rounds` times; the better
round is shown. Peers that are not installed are named. Two are in no extra, as mosaicml-streaming pins older versions
than ours, which it does without in this use: in an environment of its own, `pip install litdata boto3 transformers`,
then `pip install --no-deps mosaicml-streaming zstd brotli python-snappy cramjam catalogue`.
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
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "pyarrow", "pillow", "datasets", "webdataset", "mosaicml-streaming", "litdata")
CLOCK = os.sysconf("SC_CLK_TCK")
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
PLAN = ((10, 2_000, None), (10, 20_000, None), (10, 100_000, STREAMED), (1000, 2_000, None), (1000, 20_000, STREAMED))
"""(classes, records, forms; None: all of them)."""


def tree() -> list[int]:
    """Return this process and all that descend from it."""
    found = [os.getpid()]
    for pid in found:
        for entry in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += map(int, entry.read_text().split())
            except OSError:
                continue  # it has just ended
    return found


def cpu_seconds() -> float:
    """Return the CPU seconds of the process tree so far, those of workers that have ended included."""
    ended = os.times()
    total = time.process_time() + ended.children_user + ended.children_system
    for pid in tree()[1:]:
        try:
            times = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]
        except OSError:
            continue
        total += sum(map(int, times)) / CLOCK  # in ticks of 10 ms
    return total


def anonymous_mb() -> float:
    """Return the memory of the process tree that is no file's: anonymous and shared, in MB."""
    total = 0
    for pid in tree():
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return total / 1e3


class Peak:
    """Looks at memory ten times a second; what that costs is the same for all."""

    def __init__(self) -> None:
        """Begin."""
        self.base = self.high = anonymous_mb()
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self.high = max(self.high, anonymous_mb())

    def end(self) -> float:
        """Return the peak, in MB above what there was at the beginning."""
        self._ended.set()
        self.high = max(self.high, anonymous_mb())
        return self.high - self.base


def measure(name: str, folder: Path, batch: int, seconds: float) -> Row:
    """Read a form in this process: the first batch, the rest of the first pass, and later passes."""
    from loader_cases import CASES

    from ladd_data.errors import UsageError

    case = next(case for case in CASES if case.name == name)
    more = ("datasets",) if name.startswith("datasets") else ()
    for package in ("ladd_data.dataset", "webdataset", *case.needs, *more):
        importlib.import_module(package)
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
    return row


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
    command = [sys.executable, __file__, "--step", name, str(folder), "--batch", str(options.batch)]
    caches = {"LADD_CACHE": str(folder / "ladd-cache"), "HF_DATASETS_CACHE": str(folder / "hf-cache")}
    environment = os.environ | caches | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--seconds", str(options.seconds)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {"absent": f"failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:160]}"}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def run_all(options: argparse.Namespace, count: int, classes: int, names: Sequence[str] | None) -> dict[str, Row]:
    """Write and measure forms of one size: those of these names, or all."""
    from loader_cases import CASES, WRITERS, Base

    base, rows = Base(count, classes, options.size), {}
    with tempfile.TemporaryDirectory(dir=options.work) as home:
        for form, cases in itertools.groupby(CASES, lambda case: case.form):
            folder = Path(home) / "form"
            chosen = [case for case in cases if names is None or case.name in names]
            chosen = [case for case in chosen if options.only is None or options.only in case.name or form == "arrays"]
            for case in chosen:
                if missing := [name for name in case.needs if importlib.util.find_spec(name) is None]:
                    rows[case.name] = {"absent": f"{missing[0]} is not installed"}
            chosen = [case for case in chosen if case.name not in rows]
            if not chosen:
                continue
            folder.mkdir()
            try:
                WRITERS[form](base, folder)
            except ImportError as error:  # a peer that is installed without what it needs
                rows |= {case.name: {"absent": f"failed: {error}"} for case in chosen}
                chosen = []
            for case in chosen:
                rows[case.name] = measure_rounds(options, case.name, folder)
                print(
                    f"{count:>7} {classes:>5} {case.name:36}{json.dumps(rows[case.name])}", file=sys.stderr, flush=True
                )
            shutil.rmtree(folder)
    return rows


def measure_rounds(options: argparse.Namespace, name: str, folder: Path) -> Row:
    """Measure a form some times, after an opening that fills its cache, if it has one; keep the best numbers."""
    opened: Row = {}
    if name.startswith(CACHING):
        opened = run_case(argparse.Namespace(**{**vars(options), "seconds": 0.2}), name, folder)
    found = [opened if "absent" in opened else run_case(options, name, folder) for _ in range(options.rounds)]
    if absent := [row for row in found if "absent" in row]:
        return absent[0]
    best: Row = {"mb": min(row["mb"] for row in found), "first": min(row["first"] for row in found)}
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
    """Return a table, as Markdown."""
    limit: Row = next(iter(rows.values()))
    if "absent" in limit:
        return [f"## {count:,} records, {classes} classes", "", f"Not measured: {limit['absent']}", ""]
    best = (limit["later"] if "later" in limit else limit["pass"])[0]
    lines = [f"## {count:,} records, {classes} classes", ""]
    lines += [
        "| form | samples a CPU-second: first pass | later passes | limit / this | samples a second | first batch s "
    ]
    lines[-1] += "| first opening ever s | memory MB | disk MB |"
    lines.append("|---|" + "---:|" * 8)
    for name, row in rows.items():
        if "absent" in row:
            lines.append(f"| {name} | {row['absent']} | | | | | | | |")
            continue
        last = row["later"] if "later" in row else row["pass"]
        later = f"{row['later'][0]:,.0f}" if "later" in row else ""
        ratios = " / ".join(say_ratio(best / row[key][0]) for key in ("pass", "later") if key in row)
        lines.append(
            f"| {name} | {row['pass'][0]:,.0f} | {later} | {ratios} | {last[1]:,.0f} "
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
  **Later passes** are had only by what finished the first in time. **Limit / this**: first pass / later passes, both
  against the limit's later passes.
- In tables of 100,000 records, and of 20,000 with 1000 classes, only what could change with the number is measured: the
  others cost the same for each record (compare rows at 2,000 and 20,000), and would take gigabytes each to write.
- **First batch**: from opening to the first batch, imports not counted. **First opening ever**: the same before
  any cache (ours, or that of `datasets`) was filled.
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
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step[0], Path(options.step[1]), options.batch, options.seconds)), flush=True)
        os._exit(0)  # a stream of datasets that is left half read may abort at exit
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    loads = [os.getloadavg()[0]]
    tables: list[str] = []
    plan: Iterable[tuple[int, int, Sequence[str] | None]] = PLAN
    if options.records or options.classes:
        plan = [(classes, count, None) for classes in options.classes or [10] for count in options.records or [20_000]]
    for classes, count, names in plan:
        tables += write_table(run_all(options, count, classes, names), count, classes)
        loads.append(os.getloadavg()[0])
        if options.markdown:  # after each size, so that a run that is stopped leaves a page
            options.markdown.write_text(write_page(options, loads, tables))
    print(write_page(options, loads, tables))


def write_page(options: argparse.Namespace, loads: list[float], tables: list[str]) -> str:
    """Return the page with the tables so far."""
    words = [word for word in sys.argv[1:] if word not in ("--work", str(options.work))]
    command = " ".join(["python benchmarks/loaders.py", *words])
    page = ["# Loaders, measured", "", f"Written by `{command}` on {date.today()}.", "", *describe_machine()]
    page += [f"Load before, between and after: {', '.join(f'{load:.1f}' for load in loads)}.", "", NOTES, *tables]
    return "\n".join(page).rstrip() + "\n"


if __name__ == "__main__":
    main()
