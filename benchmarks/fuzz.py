"""Change single bytes of a small dataset and see that each change is reported, or has no effect.

    python benchmarks/fuzz.py [--changes 2000] [--seed 0]

Half of the changes are accidents: the checksums know. The other half are malice: the shard list is written
anew with the checksum of the changed shard, so that the change reaches the Parquet reader. Prints a table and
the peak of memory; exit code 1 if a change passed that alters a decoded value, or anything but an error of
ours was raised.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from ladd_data.errors import LaddError
from ladd_data.png import decode_png
from ladd_data.shards.folder import read_metadata
from ladd_data.validation import validate

SHARDS = "meta/shards.json"
CORPUS = Path(__file__).parents[1] / "spec" / "examples" / "valid"
Outcome = tuple[str, str]
"""What became of a change (reported, no effect, missed, crashed), and the file, with what was missed or raised."""


def fingerprint(folder: Path) -> str:
    """Return a digest of every value that a reader gets: ids, labels, pixels, soft labels, in file order."""
    state = hashlib.sha256()
    found = read_metadata(folder)
    images = found.manifest.images
    for _, _, records in found.records():
        state.update(repr(records.ids).encode() + records.labels.tobytes())
        for data in records.images:
            state.update(decode_png(data, images.channels, images.height, images.width).tobytes())
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


def try_change(folder: Path, name: str, position: int, value: int, truth: str, *, sealed: bool) -> Outcome:
    """Change one byte, judge the folder, and put everything back."""
    before, listed = (folder / name).read_bytes(), (folder / SHARDS).read_bytes()
    changed = bytearray(before)
    changed[position] ^= value
    (folder / name).write_bytes(changed)
    try:
        if sealed:
            seal(folder, name)
        report = validate(folder)
        if not report.valid:
            named = any(name in str(problem) for problem in report.problems)
            # content that contradicts the manifest's digests is a fault of either
            return "reported" if named or sealed else "missed", name if named else f"{name} not named"
        return ("no effect", name) if fingerprint(folder) == truth else ("missed", f"{name}, byte {position}")
    except LaddError:
        return "reported", name
    except Exception as error:
        return "crashed", f"{name}, byte {position}: {error!r}"
    finally:
        (folder / name).write_bytes(before)
        (folder / SHARDS).write_bytes(listed)


def fuzz(source: Path, home: Path, changes: int, seed: int) -> Counter[Outcome]:
    """Return how often what became of `changes` random changes of a copy of a dataset."""
    folder = Path(shutil.copytree(source, home / source.parent.name))
    truth, choose = fingerprint(folder), random.Random(seed)
    shards = sorted(str(path.relative_to(folder)) for path in (folder / "data").iterdir())
    outcomes: Counter[Outcome] = Counter()
    for number in range(changes):
        sealed = number % 2 == 1
        name = choose.choice(shards if sealed else [*shards, "meta/ladd.json", SHARDS])
        position = choose.randrange((folder / name).stat().st_size)
        outcomes[try_change(folder, name, position, choose.randrange(1, 256), truth, sealed=sealed)] += 1
    return outcomes


def main() -> int:
    """Fuzz datasets of several encodings and print what became of the changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    names = ("labels-float16", "labels-q4", "labels-topk", "several-shards")
    outcomes: Counter[Outcome] = Counter()
    with tempfile.TemporaryDirectory() as home:
        for name in names:
            outcomes += fuzz(CORPUS / name / "set", Path(home), arguments.changes // len(names), arguments.seed)
    for (outcome, where), times in sorted(outcomes.items()):
        print(f"{times:6d}  {outcome:10s} {where}")
    status = Path("/proc/self/status").read_text()  # getrusage would count the process that started this one
    print(f"peak memory {int(status.split('VmHWM:')[1].split()[0]) // 1024} MiB")
    return 1 if any(outcome in ("missed", "crashed") for outcome, _ in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
