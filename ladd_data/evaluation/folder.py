"""The folder of an evaluation: begun, found again, or begun anew; never one that is something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from ladd_data.errors import UsageError
from ladd_data.files import canonical_json, parse_json_strictly, read_limited, write_atomically

SETTINGS = "evaluation.json"
"""Marks the folder, and keeps what a later call goes on with."""


def open_folder(folder: Path, threads: int | None, device: torch.device, *, overwrite: bool) -> int | None:
    """Make the folder, or take an earlier evaluation's over, and return the threads of each student.

    Args:
        folder: to write.
        threads: what was asked for; None for what the earlier evaluation had, else torch's choice.
        device: where students are trained; on a GPU the number of threads decides nothing and is None.
        overwrite: forget an earlier evaluation.

    Raises:
        UsageError: the folder holds something else, or cannot be written.
    """
    if folder.exists() and not _is_ours(folder):
        raise UsageError(f"{folder}: exists and holds no evaluation. Choose another -o.")
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror or error}). Choose another -o.") from error
    chosen = threads or _recorded(folder) or torch.get_num_threads()
    if not (folder / SETTINGS).is_file():
        write_atomically(folder / SETTINGS, canonical_json({"written_by": "ladd evaluate", "threads": chosen}))
    return chosen if device.type == "cpu" else None


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and ((folder / SETTINGS).is_file() or not any(folder.iterdir()))


def _recorded(folder: Path) -> int | None:
    try:
        threads = parse_json_strictly(read_limited(folder / SETTINGS))["threads"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return threads if isinstance(threads, int) and threads > 0 else None
