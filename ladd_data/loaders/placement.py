"""Where records are kept: chosen by how many bytes they take decoded, and by what room there is."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

import torch

from ladd_data.errors import UsageError, nearest
from ladd_data.loaders.batches import KEPT
from ladd_data.loaders.caching.cache import cache_root
from ladd_data.loaders.loader import Placement, PlacementName
from ladd_data.shards.layout import Layout
from ladd_data.types import TYPE_BYTES

Choice = PlacementName | Literal["auto"]

DEVICE_SHARE = 0.5
"""Of the device's free memory that records may take; the rest is the network's."""
HOST_SHARE = 0.25
"""Of the host's available memory, over all processes of this run, since each keeps its own."""
DISK_SHARE = 0.5
"""Of the free bytes where the cache is."""


def decoded_bytes(layout: Layout, count: int) -> int:
    """Return what the pixels, classes and soft labels of `count` records take in memory, as stored."""
    columns = [column for name, column in layout.dense.items() if name.startswith(KEPT)]
    return count * (math.prod(layout.shape) + 8 + sum(math.prod(shape) * TYPE_BYTES[kind] for shape, kind in columns))


def choose_placement(choice: Choice, size: int, device: torch.device, is_cached: Callable[[], bool]) -> Placement:
    """Return where to keep `size` bytes of records for batches on a device.

    Args:
        choice: a placement that is taken as it is, or "auto".
        size: decoded bytes.
        device: where batches are to be.
        is_cached: tells whether the cache has them already; asked only where it matters.

    Raises:
        UsageError: there is no such placement.
    """
    known = [*get_args(PlacementName), "auto"]
    if choice not in known:
        raise UsageError(f'placement "{choice}" is not known. {nearest(str(choice), known)}')
    if choice != "auto":
        return Placement(choice, str(device), size, "as asked")
    host, sharing = available_memory(), max(1, _to_int(os.environ.get("LOCAL_WORLD_SIZE", "")))
    room = int(host * HOST_SHARE) // sharing
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if size <= free * DEVICE_SHARE:
            return Placement("resident", str(device), size, f"fits half of the device's free {_say(free)}")
        if size <= room:
            return Placement("pinned", str(device), size, f"more than half of the device's free {_say(free)}")
    elif size <= room:
        return Placement("resident", str(device), size, f"fits a quarter of the available {_say(host)}")
    if is_cached():
        return Placement("cached", str(device), size, "more than memory should hold; in the cache already")
    disk = free_disk(cache_root())
    if size <= disk * DISK_SHARE:
        return Placement("cached", str(device), size, f"more than memory should hold; the cache has {_say(disk)} free")
    return Placement("streaming", str(device), size, f"more than memory and the cache's free {_say(disk)} should hold")


def available_memory() -> int:
    """Return the host memory that can be had without swapping, in bytes, within this container's limit."""
    limits = []
    with suppress(OSError, ValueError, IndexError):
        line = next(row for row in Path("/proc/meminfo").read_text().splitlines() if row.startswith("MemAvailable"))
        limits.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    if not limits:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return max(0, min(limits))


def free_disk(path: Path) -> int:
    """Return the free bytes where a folder is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _to_int(text: str) -> int:
    return int(text) if text.isdecimal() else 1


def _say(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
