"""Ways to harm a dataset, and to cut short the runs that write one, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from making import make_labeler

from ladd_data.cli import main
from ladd_data.dataset import load
from ladd_data.digests import Digests
from ladd_data.manifest import Manifest
from ladd_data.shards.layout import Records
from ladd_data.writer import new_dataset

AT_EVERY_STEP = """
import errno, gc, json, os, shutil, signal, sys, traceback
import pandas, pyarrow as pa, pyarrow.parquet as pq, torch._dynamo  # imported by runs: once, before the forks
import ladd_converters.mtt, ladd_data.export, ladd_data.labeling.label, ladd_data.reencode, PIL.PngImagePlugin
from ladd_data.cli import main
from ladd_data.shards import arrow, parquet, webdataset

steps = 0

def announce(owner, name):
    real = getattr(owner, name)
    setattr(owner, name, lambda *args, **options: (sys.audit("step"), real(*args, **options))[1])

def run(fatal, parent, mode, arguments):
    def step(event, values):
        global steps
        inside = bool(values) and parent in str(values[0])
        moves = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "step") and (inside or steps)
        if moves or (event == "open" and inside and steps):
            steps += 1
            if steps == fatal and mode == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if steps == fatal:
                raise OSError(errno.ENOSPC, "No space left on device", *map(str, values[:1]))
    os.dup2(os.open(parent + "../stderr" + str(fatal), os.O_CREAT | os.O_WRONLY), 2)
    os.dup2(2, 1)
    sys.addaudithook(step)
    sys.argv = ["ladd", *(argument.replace("TARGET", parent + "set") for argument in arguments)]
    try:
        main()
    except SystemExit as stop:
        return stop.code if steps >= fatal else 99
    except BaseException:
        traceback.print_exc()
    return 70

def cut_short(base, old, mode, arguments):
    codes = []
    while 99 not in codes:
        parent = f"{base}/{len(codes) + 1}/"
        os.mkdir(parent)
        if old:
            shutil.copytree(old, parent + "set")
        child = os.fork() or os._exit(run(len(codes) + 1, parent, mode, arguments))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return codes[:-1]

announce(os, "fsync")
announce(webdataset, "write_meta")
for writer in (pq.ParquetWriter, pa.ipc.RecordBatchStreamWriter, pa.ipc.RecordBatchFileWriter):
    announce(writer, "write_table" if writer is pq.ParquetWriter else "write_batch")
    announce(writer, "close")
gc.freeze()  # else each fork copies every object that its collector touches
print(json.dumps([cut_short(*series) for series in json.loads(sys.argv[1])]))
"""
"""Runs commands once for each step they take on the disk, in a fork that is killed, or told that the disk
is full, just before that step. The first run that ends before its step is the last."""


class Series(NamedTuple):
    """A command line to be cut short at each step it takes on the disk.

    `base` is an empty folder; `old` the dataset that each run finds at its target, None for no target;
    TARGET in `arguments` stands for the target. "kill" kills with -9 before the step; "full" makes the step
    fail because the disk is full.
    """

    base: Path
    old: Path | None
    mode: Literal["kill", "full"]
    arguments: list[str]


class CutShort(NamedTuple):
    """A run that did not get past one step: the folder its target is in, its exit code, its stderr."""

    parent: Path
    code: int
    error: str


def cut_short(series: list[Series]) -> list[list[CutShort]]:
    """Run each command line once for each step it takes on the disk, and stop it there; all in one process."""
    lines = [(str(one.base), str(one.old or ""), one.mode, one.arguments) for one in series]
    process = spawn("-c", AT_EVERY_STEP, json.dumps(lines))
    out, error = process.communicate()
    assert process.returncode == 0, error

    def read(base: Path, codes: list[int]) -> list[CutShort]:
        numbered = enumerate(codes, 1)
        return [CutShort(base / str(number), code, (base / f"stderr{number}").read_text()) for number, code in numbered]

    return [read(one.base, codes) for one, codes in zip(series, json.loads(out.splitlines()[-1]), strict=True)]


def call(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["ladd", *map(str, arguments)])
        main()
    return int(stop.value.code or 0)


def spawn(*line: object) -> subprocess.Popen[str]:
    """Start Python in a process of its own, with one thread, so that several share the machine."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *map(str, line)], stdout=pipe, stderr=pipe, text=True, env=environment)


class Built(NamedTuple):
    """What the tests start from.

    A run of MTT, the dataset it became, a labeler, the dataset with labels; that one as tar and as Arrow; the
    dataset with float32 labels.
    """

    run: Path
    plain: Path
    labeler: Path
    labelled: Path
    tar: Path
    arrow: Path
    parent: Path


def build(home: Path) -> Built:
    """Make what the tests start from, in an empty folder."""
    built = Built(*(home / name for name in ("run", "plain", "labeler", "labelled", "tar", "arrow", "parent")))
    built.run.mkdir()
    images = np.random.default_rng(0).normal(0, 0.5, (6, 3, 16, 16)).astype(np.float32)
    torch.save(torch.from_numpy(images), built.run / "images_best.pt")
    torch.save(torch.arange(6) // 2, built.run / "labels_best.pt")
    assert call(*command("convert", built, built.plain)) == 0
    make_labeler(built.labeler, size=16)
    assert call(*command("label", built, built.labelled)) == 0
    assert call(*command("label", built, built.parent), "--profile", "paper") == 0
    assert call(*command("to webdataset", built, built.tar)) == 0
    assert call(*command("to arrow", built, built.arrow)) == 0
    return built


def command(name: str, built: Built, target: Path | str) -> list[str]:
    """Return the arguments of a run that writes `target`; "in place" reads what is there."""
    verb, place = name.removesuffix(" in place"), name.endswith(" in place")
    if verb == "convert":
        stated = ["--classes", "ant,bee,cat", "--normalization", "half", "--name", "tiny"]
        return ["convert", "mtt", str(built.run), "-o", str(target), *stated]
    if verb == "label":
        source = target if place else built.plain
        return ["label", str(source), "--labeler", str(built.labeler), "-o", str(target), "--device", "cpu"]
    if verb == "reencode":
        return ["reencode", str(built.parent), "-o", str(target), "--encoding", "q8", "--no-logz"]
    source = target if place else built.labelled
    return ["export", str(source), "--to", verb.removeprefix("to "), "-o", str(target)]


def content(folder: Path, *, folders: bool = False) -> dict[str, bytes | None]:
    """Return every file of a folder by path; with `folders` also every folder, as None."""
    paths = [path for path in folder.rglob("*") if path.is_file() or folders]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def names(folder: Path) -> list[str]:
    """Return what a folder holds, hidden things included."""
    return sorted(path.name for path in folder.iterdir())


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return a change of a file: the first `old` becomes `new`."""
    return lambda data: data.replace(old, new, 1)


def restate(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    """Return a change of a metadata file by value, written as the writer would."""

    def restated(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    return restated


def rewrite(source: Path, target: Path, change: Callable[[Records], object], state: Callable[[Any], object]) -> None:
    """Write a labelled dataset again through the package's own writer, with right checksums.

    Args:
        source: a dataset with dense labels.
        target: the folder to write.
        change: changes the records, in place.
        state: changes the manifest's document, in place, after the digests are in.
    """
    dataset = load(source)
    old = dataset.manifest

    def describe(digests: Digests) -> Manifest:
        document = old.model_dump(mode="json")
        document["images"]["digest"], document["digest"] = digests.images, digests.dataset
        document["labels"]["digest"] = digests.labels
        state(document)
        return Manifest.model_validate_json(json.dumps(document))

    with new_dataset(target, old.classes, dataset.folder.layout, len(dataset)) as writer:
        for _, _, records, pixels in dataset.decoded():
            dense = {name: values.copy() for name, values in records.dense.items()}
            copy = Records(list(records.ids), records.labels.copy(), list(records.images), dense)
            change(copy)
            writer.add(copy, pixels)
        writer.finish(describe)
