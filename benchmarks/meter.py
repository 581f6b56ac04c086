"""What a process and its children take: CPU seconds, memory at its peak; and memory touched before time is taken."""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

CLOCK = os.sysconf("SC_CLK_TCK")


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


def touch_memory(size: int = 512 * 2**20) -> None:
    """Write to memory and give it back, so that the host of a virtual machine has given it before time is taken."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)  # as numpy asks for its large arrays
        for start in range(0, size, mmap.PAGESIZE):
            memory[start] = 1
