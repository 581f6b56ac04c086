"""Change single bytes of small datasets and see that each change is reported, or has no effect.

    python benchmarks/fuzz.py [--edition parquet webdataset arrow] [--changes 2000] [--seed 0]

In two ways, so many changes each: an accident changes a byte of a shard or of meta/, and the checksums know;
malice changes a byte of a shard and states its new checksum in the shard list, so that the change reaches the
readers. Every change is judged by `validate` at level full, in a process whose address space is limited and that
is started again where a change ends it. Prints a table and the peaks of memory; exit code 1 if a change
passed that alters a decoded value, ended the process or took half a minute, raised anything, or if a peak
reached a gibibyte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from ladd_data.errors import LaddError
from ladd_data.shards.folder import read_metadata
from ladd_data.shards.images import decode_image
from ladd_data.types import Edition
from ladd_data.validation import validate

SHARDS = "meta/shards.json"
META = ("meta/ladd.json", SHARDS)
CORPUS = Path(__file__).parents[1] / "spec" / "examples" / "valid"
SOURCES = ("labels-float16", "labels-q4", "labels-topk", "several-shards", "several-row-groups")
WAYS = ("accident", "malice")
SECONDS = 30
ADDRESS_SPACE = 8 * 2**30
"""A claim of more is a MemoryError; what is used stays far below."""
PEAK_MIB = 1024


class Change(NamedTuple):
    """One byte of one file, and what it is combined with by exclusive or; `sealed` under a right checksum."""

    folder: Path
    name: str
    position: int
    value: int
    sealed: bool

    def __str__(self) -> str:
        return f"{self.folder.name}/{self.name}, byte {self.position} ^ {self.value}"


def fingerprint(folder: Path) -> str:
    """Return a digest of every value that a reader gets: ids, labels, pixels, soft labels, in file order."""
    state = hashlib.sha256()
    found = read_metadata(folder)
    for _, _, records in found.records():
        state.update(repr(records.ids).encode() + records.labels.tobytes())
        for row in range(len(records)):
            state.update(decode_image(records.images, row, found.layout).tobytes())
        for name, values in records.dense.items():
            state.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return state.hexdigest()


def seal(folder: Path, name: str) -> None:
    """State the size and checksum that a shard now has in the shard list."""
    document = json.loads((folder / SHARDS).read_bytes())
    data = (folder / name).read_bytes()
    for shard in document["shards"]:
        if shard["path"] == name:
            shard.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (folder / SHARDS).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def try_change(change: Change, truth: str) -> tuple[str, str]:
    """Change one byte, judge the folder, put everything back, and return what became of it, with details."""
    file, shards = change.folder / change.name, change.folder / SHARDS
    before, listed = file.read_bytes(), shards.read_bytes()
    changed = bytearray(before)
    changed[change.position] ^= change.value
    file.write_bytes(changed)
    try:
        if change.sealed:
            seal(change.folder, change.name)
        report = validate(change.folder)
        if not report.valid:
            named = any(change.name in str(problem) for problem in report.problems)
            # content that contradicts the manifest's digests is a fault of either
            return ("reported", "") if named or change.sealed else ("missed", "reported, but the file is not named")
        return ("no effect", "") if fingerprint(change.folder) == truth else ("missed", "other values")
    except LaddError as error:
        return "missed", f"valid, but unreadable: {error}"
    except Exception as error:
        return "crashed", repr(error)
    finally:
        file.write_bytes(before)
        shards.write_bytes(listed)


def list_changes(folders: list[Path], way: str, count: int, seed: int) -> list[Change]:
    """Return random changes, spread evenly over the datasets."""
    choose = random.Random(seed)
    changes = []
    for number in range(count):
        folder, sealed = folders[number % len(folders)], way == "malice"
        shards = sorted(str(path.relative_to(folder)) for path in (folder / "data").iterdir())
        name = choose.choice(shards if sealed else [*shards, *META])
        position = choose.randrange((folder / name).stat().st_size)
        changes.append(Change(folder, name, position, choose.randrange(1, 256), sealed))
    return changes


def work(changes: list[Change], first: int) -> None:
    """Try the changes from number `first` on; print a line for each as soon as it is judged, and the peak at last."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    truths = {folder: fingerprint(folder) for folder in {change.folder for change in changes}}
    for change in changes[first:]:
        signal.alarm(SECONDS)  # ends this process, whatever it is caught in
        print(json.dumps(try_change(change, truths[change.folder])), flush=True)
    signal.alarm(0)
    status = Path("/proc/self/status").read_text()  # getrusage would count the process that started this one
    print(json.dumps(int(status.split("VmHWM:")[1].split()[0]) // 1024))


def judge(edition: Edition, home: Path, way: str, options: argparse.Namespace) -> bool:
    """Have all changes of one way tried, print what became of them, and return whether all is well."""
    folders = sorted((home / edition).iterdir())
    changes = list_changes(folders, way, options.changes, options.seed)
    outcomes: list[tuple[str, str]] = []
    peak = 0
    while len(outcomes) < len(changes):
        arguments = ["--changes", options.changes, "--seed", options.seed, "--edition", edition, "--work", home, way]
        command = [sys.executable, __file__, *map(str, arguments), "--first", str(len(outcomes))]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        outcomes += [(outcome, detail) for outcome, detail in lines[: len(changes) - len(outcomes)]]
        if result.returncode > 0:
            raise SystemExit(f"the process that tries changes ended with {result.returncode}")
        if result.returncode:
            outcomes.append(
                ("hung" if result.returncode == -signal.SIGALRM else "crashed", f"signal {-result.returncode}")
            )
            shutil.copytree(home / "untouched" / edition, home / edition, dirs_exist_ok=True)
        else:
            peak = lines[-1]
    counts = Counter(outcome for outcome, _ in outcomes)
    told = ", ".join(f"{counts[name]} {name}" for name in ("reported", "no effect", "missed", "crashed", "hung"))
    print(f"{edition:10s} {way:8s} {len(changes)} changes: {told}; peak memory {peak} MiB", flush=True)
    for change, (outcome, detail) in zip(changes, outcomes, strict=True):
        if outcome not in ("reported", "no effect"):
            print(f"  {outcome}: {change}: {detail}")
    return counts["reported"] + counts["no effect"] == len(changes) and peak < PEAK_MIB


def make(edition: Edition, home: Path) -> None:
    """Put the sources into `home`, as datasets of an edition."""
    from ladd_data.dataset import load
    from ladd_data.export import export_dataset

    (home / edition).mkdir()
    for name in SOURCES:
        export_dataset(load(CORPUS / name / "set"), edition, home / edition / name)
    shutil.copytree(home / edition, home / "untouched" / edition)


def main() -> int:
    """Fuzz datasets of several encodings in each edition and print what became of the changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edition", choices=get_args(Edition), nargs="+", default=get_args(Edition))
    parser.add_argument("--changes", type=int, default=2000, help="for each edition and way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        folders = sorted((Path(options.work[0]) / options.edition[0]).iterdir())
        work(list_changes(folders, options.work[1], options.changes, options.seed), options.first)
        return 0
    with tempfile.TemporaryDirectory() as home:
        for edition in options.edition:
            make(edition, Path(home))
        well = [judge(edition, Path(home), way, options) for edition in options.edition for way in WAYS]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
