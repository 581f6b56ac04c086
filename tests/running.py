"""Labeling in real processes, alone or under torchrun, with shards so small that a few records make several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN_LOG = "meta/run.json"

SMALL_SHARDS = """
import os, sys
from functools import partial
import ladd_data.shards.plan as plan
import ladd_data.label_writer as label_writer
import ladd_data.writer as writer
from ladd_data.cli import main

writer.plan_shards = partial(plan.plan_shards, shard_bytes=10_000)
label_writer.plan_shards = partial(plan.plan_shards, shard_bytes=2_000)
plan.ROW_GROUP_BYTES = 4_000
"""

DIE_AT = """
import signal
from ladd_data.labeling.journal import Progress
from ladd_data.labeling import label

moment, number, rank, once = {moment!r}, {number}, {rank!r}, {once!r}
steps = 0

def dying(real):
    def step(*args, **options):
        global steps
        steps += 1
        mine = rank is None or os.environ.get("RANK") == rank
        if steps == number and mine and not (once and os.path.exists(once)):
            if once:
                open(once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return step

owner, name = {{
    "pass": (__import__("ladd_data.labeling.pipeline", fromlist=["x"]).LabelPipeline, "_forward"),
    "part": (Progress, "save"),
    "shard": (__import__("ladd_data.labeling.assemble", fromlist=["x"]), "write_shard"),
    "seal": (label, "seal_folder"),
}}[moment]
setattr(owner, name, dying(getattr(owner, name)))
"""


def write_script(path: Path, *, moment: str = "", number: int = 0, rank: str | None = None, once: str = "") -> Path:
    """Write a program that is `ladd` with small shards.

    Args:
        path: the file.
        moment: where the process kills itself with -9: at a forward "pass", before a "part" is noted, before a
            "shard" is written, before the folder is "seal"ed; empty for never.
        number: at which of these, from 1.
        rank: only the rank of this number dies.
        once: a file by which all processes know that it has happened.
    """
    dying = DIE_AT.format(moment=moment, number=number, rank=rank, once=once) if moment else ""
    path.write_text(f"{SMALL_SHARDS}{dying}\nif __name__ == '__main__':\n    main()\n")
    return path


def run_alone(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program in one process."""
    return _run(sys.executable, script, *arguments)


def run_ranks(script: Path, *arguments: object, ranks: int = 2, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the program under torchrun."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
    return _run(sys.executable, *torchrun, f"--max-restarts={restarts}", script, *arguments)


def _run(*line: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run([*map(str, line)], capture_output=True, text=True, check=False, env=environment)


def content(folder: Path) -> dict[str, bytes]:
    """Return every file of a dataset but the log of the run, which no two runs have in common."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != RUN_LOG}
