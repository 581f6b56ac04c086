"""Labels whose views nobody can cut again: kept, checked and shown; views are refused everywhere, with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import ladd_data as ladd
from ladd_data.cli import app
from ladd_data.deploy.losses.capability import check_view_labels
from ladd_data.errors import LaddError, UsageError
from ladd_data.labeling.store import GivenLabels, store_labels
from ladd_data.manifest import Boxes, Coding, Opaque, Resample
from ladd_data.recipe import Recipe
from ladd_data.report.page import write_report
from ladd_data.views.device import ViewMaker
from ladd_data.views.geometry import random_box
from ladd_data.views.reference import RecordBox, reference_view

HIDDEN = Opaque(count=3, reason="only seeds were kept")


@pytest.fixture
def hidden(unlabelled: Path, tmp_path: Path) -> Path:
    """Return a dataset with a label set of views that cannot be cut."""
    folder = Path(shutil.copytree(unlabelled, tmp_path / "set"))
    dataset = ladd.load(folder)
    shape = (len(dataset), 3, len(dataset.classes))
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    given = GivenLabels(views=HIDDEN, values=lambda first, stop: values[first:stop], recipe=Recipe(loss="soft-ce"))
    store_labels(dataset, "hidden", given, Coding(space="logits", dtype="float32"))
    return folder


def test_a_label_set_without_views_is_valid_and_has_no_golden_view(hidden: Path) -> None:
    dataset = ladd.load(hidden, labels="hidden")

    assert ladd.validate(hidden).valid
    assert dataset.manifest.labels is not None and dataset.manifest.labels.golden == ()
    assert dataset.view_spec == HIDDEN
    assert next(iter(dataset.loader(2, space="logits"))).dense is not None


def test_its_views_are_refused_with_the_reason(hidden: Path) -> None:
    dataset = ladd.load(hidden, labels="hidden")

    with pytest.raises(UsageError, match="cannot be cut again: only seeds were kept"):
        dataset.views(dataset[0].image, index=[0])
    with pytest.raises(UsageError, match="cannot be cut again: only seeds were kept"):
        next(iter(dataset.loader(2))).views()
    with pytest.raises(UsageError, match="those that these labels are of cannot be cut again: only seeds were kept"):
        check_view_labels(dataset.manifest, None)
    with pytest.raises(LaddError, match="these views cannot be cut: only seeds were kept"):
        reference_view(HIDDEN, np.zeros((3, 4, 4), np.uint8), 0)


def test_commands_and_the_report_say_why(hidden: Path, tmp_path: Path) -> None:
    for command in (["labels", str(hidden)], ["info", str(hidden), "--labels", "hidden"]):
        shown = CliRunner().invoke(app, command)
        assert shown.exit_code == 0 and "only seeds were kept" in shown.output

    write_report(hidden, tmp_path / "report.html", "hidden")
    assert (tmp_path / "report.html").stat().st_size > 1000


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(1, 60),
    st.sampled_from(["bilinear", "pillow-bilinear", "pillow-bicubic", "pillow13-bicubic"]),
)
def test_views_of_a_size_of_their_own_are_the_same_everywhere(
    seed: int, shape: tuple[int, int], size: int, way: Resample
) -> None:
    import torch

    height, width = shape
    image = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
    boxes = [random_box(seed, 0, view, height, width, 0.02)[0] for view in range(4)]
    spec = Boxes(count=4, size=size, resample=way)
    stated = torch.tensor([[[box.y, box.x, box.height, box.width] for box in boxes]])

    cut = ViewMaker(spec, height, width)(torch.from_numpy(image)[None], view_box=stated)[0].numpy()

    for view, box in enumerate(boxes):
        assert np.array_equal(cut[view], reference_view(spec, image, view, RecordBox(box, False)))


@pytest.mark.parametrize("size", [7, 24, 60, 112])
@pytest.mark.parametrize("way", ["pillow-bilinear", "pillow-bicubic", "pillow13-bicubic"])
def test_crops_are_resized_as_pillow_does_whatever_their_size(size: int, way: Resample) -> None:
    image = np.random.default_rng(size).integers(0, 256, (3, 90, 71), np.uint8)
    kind = Image.Resampling.BILINEAR if way == "pillow-bilinear" else Image.Resampling.BICUBIC
    for number in range(30):
        box, _ = random_box(3, number, 0, 90, 71, 0.05)
        crop = Image.fromarray(image.transpose(1, 2, 0)).crop((box.x, box.y, box.x + box.width, box.y + box.height))
        tall = way == "pillow13-bicubic" and box.height > size and box.height - size > 2 * (box.width - size)
        between = (box.width, size) if tall else (size, box.height)  # one axis at a time, whatever Pillow is installed
        expected = np.asarray(crop.resize(between, kind).resize((size, size), kind)).transpose(2, 0, 1)

        view = reference_view(Boxes(count=1, size=size, resample=way), image, 0, RecordBox(box, False))

        assert np.array_equal(view, expected)
