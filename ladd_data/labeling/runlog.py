"""What a labeling run took, in meta/run.json: for people, in no digest, different in every run."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from ladd_data.files import canonical_json, write_synced
from ladd_data.labeling.pipeline import LabelPipeline
from ladd_data.manifest import RUN_PATH, Manifest


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of labeling and of the whole run, and how many records it labelled and found labelled."""

    labeling_seconds: float
    seconds: float
    labelled: int
    found: int


def write_run(
    folder: Path, manifest: Manifest, device: torch.device, ranks: int, pipeline: LabelPipeline, work: Work
) -> None:
    """Write meta/run.json into a dataset folder.

    Args:
        folder: the dataset folder.
        manifest: with labels.
        device: where rank 0 computed.
        ranks: processes.
        pipeline: of rank 0.
        work: what was done.
    """
    labelers = manifest.labels.labelers if manifest.labels is not None else ()
    document = {
        "command": "ladd label",
        "seconds": round(work.seconds, 3),
        "labeling_seconds": round(work.labeling_seconds, 3),
        "records_labelled": work.labelled,
        "records_found_labelled": work.found,
        "views_per_second": round(work.labelled * pipeline.views / max(work.labeling_seconds, 1e-9), 1),
        "labeling_flops": sum(labeler.labeling_flops for labeler in labelers),
        "ranks": ranks,
        "threads": pipeline.threads,
        "device": device.type,
        "device_name": name_device(device),
        "libraries": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "pyarrow", "ladd-data")},
            "cuda": torch.version.cuda if device.type == "cuda" else None,
            "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,  # type: ignore[no-untyped-call]
        },
    }
    write_synced(folder / RUN_PATH, canonical_json(document))


def name_device(device: torch.device) -> str:
    """Return the name that a device goes by."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
