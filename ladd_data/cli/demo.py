"""`ladd demo`: the whole way on real images, each step as the command a user would type."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ladd_data.errors import LaddError, UsageError

MARKER = "ladd-demo.txt"
STUDENT = "--model convnet-d3 --width 32 --val digits:test --epochs 120 --lr 0.01 --views-per-pass 1"
"""One architecture, the same images and the same number of steps for both recipes; small passes suit a CPU."""

PLAIN_CLIENT = """
import sys
sys.modules["ladd_data"] = None  # importing it is an error from here on
import datasets
datasets.disable_progress_bars()
for streaming in (False, True):
    train = datasets.load_dataset(sys.argv[1], streaming=streaming)["train"]
    if not streaming:
        train = train.with_format("numpy", columns=["dense_log_probs"], output_all_columns=True)
    record = list(train)[0]  # to the end: datasets 5.2 may abort at exit on a stream left half read
    dense = record["dense_log_probs"]
    shape = (len(dense), len(dense[0]))
    print(f"  streaming={streaming}: image {record['image'].size}, label {record['label']}, dense labels {shape}")
"""


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for everything the demo writes.")] = Path(
        "ladd-demo"
    ),
    ipc: Annotated[int, typer.Option(min=1, max=3, help="Distilled images per class.")] = 1,
    seeds: Annotated[int, typer.Option(min=2, help="Students per recipe.")] = 5,
) -> None:
    """Distill, convert, label, check and train on handwritten digits: a few minutes on a CPU."""
    began = time.perf_counter()
    _prepare(out)
    distilled, labelled, labeler = out / "digits", out / "digits-ladd", out / "labeler.safetensors"
    runs = {"hard-labels": out / "hard-labels.json", "ladd": out / "ladd.json"}
    _step("1. Distill real digits with somebody's program (here: examples/, distribution matching)")
    _run(f"python -m ladd_examples.distribution_matching {_q(out / 'run')} --ipc {ipc} --iterations 60")
    _step("2. Convert what it left on disk; what the files do not say is asserted")
    _run(
        f"ladd convert mtt {_q(out / 'run')} --classes digits --normalization half --name digits-ladd "
        f"-o {_q(distilled)}"
    )
    _step("3. Train the labeler on the real training images")
    _run(
        f"ladd train-labeler --source digits:train --val digits:test --for {_q(distilled)} --arch convnet-d3 "
        f"--width 32 --epochs 10 --lr 0.01 --momentum 0.9 --batch-size 64 -o {_q(labeler)}"
    )
    _step("4. Label every view")
    _run(f"ladd label {_q(distilled)} --labeler {_q(labeler)} -o {_q(labelled)}")
    _step("5. Check the result, then open it where ladd-data cannot be imported")
    _run(f"ladd validate {_q(labelled)}")
    _open_plainly(labelled, out / "cache")
    for number, (recipe, report) in enumerate(runs.items(), 6):
        _step(f"{number}. Train {seeds} students: {recipe}")
        _run(f"ladd train {_q(labelled)} --recipe {recipe} {STUDENT} --seeds {seeds} -o {_q(report)}")
    _step("8. What it costs, a picture, and a report to open in a browser")
    _run(f"ladd info {_q(labelled)}")
    _run(f"ladd view {_q(labelled)} -o {_q(out / 'picture.png')}")
    _run(f"ladd view {_q(labelled)} -o {_q(out / 'report.html')}")
    table = _table({name: json.loads(path.read_text()) for name, path in runs.items()})
    (out / "results.md").write_text(table + "\n", encoding="utf-8")
    _step(f"Done in {time.perf_counter() - began:.0f} s; everything is in {out}; open {out / 'report.html'}")
    typer.echo(table)


def _prepare(out: Path) -> None:
    """Make the output folder, or clear an earlier demo's."""
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / MARKER).is_file())):
        raise UsageError(f"{out}: exists and is not an earlier demo's folder. Choose another -o.")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARKER).write_text("Written by `ladd demo`, which will replace this folder when it runs again.\n")


def _step(title: str) -> None:
    typer.echo(f"\n== {title}")


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _run(command: str) -> None:
    """Print a command and run it as typed, with this Python's own `ladd` and `python`."""
    typer.echo(f"$ {command}")
    sys.stdout.flush()
    program, *arguments = shlex.split(command)
    module = ["-m", "ladd_data"] if program == "ladd" else []
    code = subprocess.run([sys.executable, *module, *arguments], check=False).returncode
    if code:
        raise LaddError(f"demo: the command above ended with exit code {code}.")


def _open_plainly(folder: Path, cache: Path) -> None:
    """Open the dataset with `datasets` alone, in a process of its own that cannot import this package."""
    typer.echo('$ python -c "import datasets; datasets.load_dataset(...)"  # without ladd_data')
    sys.stdout.flush()
    environment = {**os.environ, "HF_DATASETS_CACHE": str(cache.resolve()), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PLAIN_CLIENT, str(folder)]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise LaddError("demo: plain load_dataset could not open the dataset.")


def _table(results: dict[str, Any]) -> str:
    """Return the accuracies as a Markdown table, and one sentence that compares them."""
    lines = ["| recipe | accuracy on real test digits | seeds | steps |", "|---|---|---|---|"]
    for name, result in results.items():
        seeds = result["seeds"]
        accuracy = f"{100 * result['mean']:.1f} +- {100 * result['std']:.1f} %"
        lines.append(f"| {name} | {accuracy} | {len(seeds)} | {seeds[0]['steps']} |")
    hard, ladd = results["hard-labels"], results["ladd"]
    gain = 100 * (ladd["mean"] - hard["mean"])
    spread = 100 * max(hard["std"], ladd["std"])
    return "\n".join(
        [
            *lines,
            "",
            f"Dense labels change accuracy by {gain:+.1f} points; the larger deviation is {spread:.1f}.",
        ]
    )
