"""Relabel runs written by torch's own sampler and torchvision's transforms, as upstream's programs do: replayed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fkd_kin import KinRun
from fkd_runs import CLASSES, FED
from ladd_converters.fkd import FkdConverter

import ladd_data as ladd
from ladd_data import Answers, Classes, UsageError
from ladd_data.manifest import Opaque
from ladd_data.presets import CLASS_LISTS
from ladd_data.testing import check_converter

UPSTREAM = Path(__file__).parents[3] / "shared" / "upstream" / "lpld" / "in1k10-ipc2"
genuine = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"no genuine runs: {UPSTREAM} is absent")


def differences(folder: Path, run: KinRun) -> float:
    """Return how far stored labels are from what the teachers say of the views, as a loader yields both.

    Logits; of LPQLD's largest ones, the probabilities that they have among each other.
    """
    dataset = ladd.load(folder, labels="fkd")
    worst, seen = 0.0, 0
    for part in dataset.loader(3, shuffle=True, seed=1, space="probabilities" if run.top else "logits"):
        views = part.views()
        with torch.no_grad():
            said = [teacher(views.pixels.flatten(0, 1)) for teacher in run.teachers()]
        answers, stored = torch.stack(said).mean(0).reshape(views.dense.shape), views.dense
        there = part.present if part.present is not None else torch.ones(stored.shape[:2], dtype=torch.bool)
        answers, stored = answers[there], stored[there]
        if run.top is not None:
            kept = answers.topk(run.top, -1).indices
            answers, stored = answers.gather(1, kept).softmax(1), stored.gather(1, kept)
        worst, seen = max(worst, float((answers - stored).abs().max())), seen + len(stored)
    assert seen > 0
    return worst


@pytest.mark.parametrize(
    ("run", "tolerance"),
    [
        pytest.param(KinRun(top=2), 1e-3, id="lpqld, two of four"),
        pytest.param(KinRun(top=2, half=True, mix="mixup", prune=0.5, epochs=6), 5e-3, id="lpqld, float16, pruned"),
        pytest.param(KinRun("edc"), 1e-4, id="edc, CutMix"),
        pytest.param(KinRun("edc", mix="mixup"), 1e-4, id="edc, MixUp"),
        pytest.param(KinRun("edc", mix="none", size=45), 1e-4, id="edc, not mixed"),
        pytest.param(KinRun("sre2l", mix="mixup"), 1e-4, id="sre2l, MixUp"),
    ],
)
def test_labels_replay(tmp_path: Path, run: KinRun, tolerance: float) -> None:
    pictures, labels = run.write(tmp_path / "source")

    check_converter(FkdConverter(), labels, Answers(images=pictures, classes=CLASSES, normalization=FED), tmp_path)

    assert differences(tmp_path / "dataset", run) < tolerance


@pytest.mark.parametrize("method", ["sre2l", "edc"])
def test_a_teacher_of_imagenet_over_four_folders_replays(tmp_path: Path, method: str) -> None:
    run = KinRun(method, outputs=1000, epochs=1)  # type: ignore[arg-type]
    pictures, labels = run.write(tmp_path / "source")
    said = Answers(images=pictures, classes=CLASS_LISTS["imagenet-1k"], normalization=FED, some_classes=True)

    check_converter(FkdConverter(), labels, said, tmp_path)

    assert differences(tmp_path / "dataset", run) < 1e-4


@genuine
def test_genuine_cut_outs_are_kept_without_views(tmp_path: Path) -> None:
    labels = UPSTREAM / "relabel_and_validate/syn_label_LPLD/FKD_cutout_fp16_LPLD_in21k_ipc2"
    pictures = next(UPSTREAM.rglob("new000")).parent
    names = Classes(names=tuple(f"class {number}" for number in range(10)))

    check_converter(FkdConverter(), labels, Answers(images=pictures, classes=names, normalization=FED), tmp_path)

    dataset = ladd.load(tmp_path / "dataset", labels="fkd")
    assert isinstance(dataset.view_spec, Opaque) and dataset.manifest.labels is not None
    assert dataset.manifest.labels.coding.space == "logits"
    with pytest.raises(UsageError, match="cannot be cut again: LPLD filled a rectangle"):
        next(iter(dataset.loader(2))).views()
