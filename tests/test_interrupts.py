"""Ctrl-C while records are read: a real signal to a real process, which ends at once and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server, serve

# Each says "begun" in the middle of its work, and would never end by itself.
STREAMING = """
while True:
    for batch in ladd.stream(place, 2, shuffle=True):
        print("begun", flush=True)
"""
HUNG = """
print("begun", flush=True)
for batch in ladd.stream(place, 2, patience=ladd.Patience(timeout=3600)):
    pass
"""
OPENING = """
from ladd_data import dataset
unpack = dataset.unpack
def unpack_slowly(*given):
    for item in unpack(*given):
        yield item
        print("begun", flush=True)
        signal.pause()
dataset.unpack = unpack_slowly
ladd.load(place).loader(2, placement={placement!r})
"""


@pytest.fixture
def server(labelled: Path) -> Iterator[Server]:
    with serve(labelled) as running:
        yield running


@pytest.mark.parametrize("work", ["streaming", "hung", "cached", "resident"])
def test_an_interrupt_ends_the_process_and_leaves_nothing(
    work: str, labelled: Path, server: Server, tmp_path: Path
) -> None:
    asked = threading.Event()

    def hang(path: str, before: int) -> str | None:
        if "data/" not in path:
            return None
        asked.set()
        return "hang"

    server.fault = hang
    place = server.address if work == "hung" else str(labelled)
    code = {"streaming": STREAMING, "hung": HUNG}.get(work, OPENING.format(placement=work))
    code = f"import signal, ladd_data as ladd\nplace = {place!r}\n{code}"
    homes = {name: tmp_path / name for name in ("LADD_CACHE", "TMPDIR", "HOME")}
    for home in homes.values():
        home.mkdir()

    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {name: str(home) for name, home in homes.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        if work == "hung":
            asked.wait()
        shared = re.findall(r"/dev/shm/\S+", Path(f"/proc/{process.pid}/maps").read_text())
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()  # one that does not end is ended by pytest-timeout

    assert process.returncode in (130, -signal.SIGINT), error
    assert error.rstrip().endswith("KeyboardInterrupt"), error
    assert [path for home in homes.values() for path in home.rglob("*") if path.is_file()] == []
    assert [name for name in shared if Path(name).exists()] == []
