"""What benchmarks/study.py says beside accuracies: of the labelers, the labels' bytes and errors, and the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study_cells import BASE, CODINGS, Cell
from study_sets import LABELER_EPOCHS, Labelling, Sets

from ladd_data.dataset import load
from ladd_data.labeling.labeler import load_labeler
from ladd_data.models.arithmetic import library_versions


def gather_facts(sets: Sets, cells: list[Cell]) -> dict[str, Any]:
    """Return facts for the sections that are wanted."""
    sections = {cell.section for cell in cells}
    facts: dict[str, Any] = {"libraries": library_versions(), "machine": name_machine()}
    if "labeler" in sections:
        facts["labelers"] = [describe_labeler(sets, epoch) for epoch in LABELER_EPOCHS]
    if "encodings" in sections:
        facts["encodings"] = [describe_coding(sets, coding) for coding in CODINGS]
    return facts


def describe_labeler(sets: Sets, epoch: int) -> dict[str, float]:
    """Return a labeler's accuracy on test digits, and how sure it is of the distilled views."""
    dataset = load(sets.labelled(*BASE, Labelling(epoch=epoch)))
    dense = next(iter(dataset.loader(len(dataset)))).dense
    assert dense is not None
    entropy = -(dense * dense.clamp_min(1e-30).log()).sum(-1)
    accuracy = load_labeler(sets.labeler(epoch)).description.accuracy or 0.0
    return {
        "epoch": epoch,
        "accuracy": accuracy,
        "top": float(dense.max(-1).values.mean()),
        "entropy": float(entropy.mean()),
    }


def describe_coding(sets: Sets, coding: str) -> dict[str, Any]:
    """Return what a coding costs, and how far its labels are from float32's."""
    dataset = load(sets.labelled(*BASE, Labelling(coding=coding)))
    labels = dataset.manifest.labels
    assert labels is not None
    views = len(dataset) * labels.count
    stored = sum(values.nbytes for name, values in dataset.arrays.dense.items() if name.startswith("dense_"))
    return {
        "coding": coding,
        "bytes_per_view": stored / views,
        "mean_tv": float(np.float64(labels.certificate.mean_tv)),
    }


def name_machine() -> str:
    """Return the processor's name and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}"
