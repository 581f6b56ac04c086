"""Views other than a grid: the whole image, boxes record by record, and views that are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_distilled, make_labeler

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.converter import SoftValues
from ladd_data.deploy.losses import LADD
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.label import BoxDraw, LabelPlan, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.manifest import Boxes, Full, Network
from ladd_data.models import build_network
from ladd_data.reencode import Keep, reencode_dataset
from ladd_data.views.device import ViewMaker
from ladd_data.views.geometry import random_box
from ladd_data.views.reference import RecordBox, reference_view

CORPUS = Path(__file__).parents[1] / "spec" / "examples"
NETWORK = Network(name="convnet-d3", width=8, classes=3, channels=3, size=32)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images with soft labels, labelled by the whole image, by boxes with flips, and with 10 of 25 views."""
    home = tmp_path_factory.mktemp("kinds")
    soft = SoftValues(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), "logits")
    convert(prepare(replace(make_distilled(), soft=soft), "kinds"), home / "set")
    labeler = load_labeler(make_labeler(home / "labeler.safetensors"))
    cpu, coding, dataset = torch.device("cpu"), ENCODINGS["float32"], ladd.load(home / "set")
    label_dataset(dataset, LabelPlan(labeler, Full(), coding, cpu), home / "full")
    boxes = LabelPlan(labeler, Boxes(count=7, flip=True), coding, cpu, boxes=BoxDraw(seed=3, least=0.3))
    label_dataset(dataset, boxes, home / "boxes")
    label_dataset(dataset, LabelPlan(labeler, ladd.grid(5, "5/8"), coding, cpu), home / "grid")
    reencode_dataset(ladd.load(home / "grid"), ENCODINGS["float16"], home / "pruned", keep=Keep(10, seed=1))
    return home


@pytest.mark.parametrize("name", ["set", "full", "boxes", "grid", "pruned"])
def test_every_kind_is_valid_and_keeps_the_soft_labels(home: Path, name: str) -> None:
    assert ladd.validate(home / name).problems == ()
    soft = ladd.load(home / name)[4].soft
    assert soft is not None and torch.equal(soft, torch.as_tensor(ladd.load(home / "set")[4].soft))


def test_the_full_view_is_the_image_itself(home: Path) -> None:
    dataset = ladd.load(home / "full")
    record = dataset[2]

    assert record.dense_labels is not None and record.dense_labels.shape == (1, 3)
    assert torch.equal(dataset.views(record.image)[0, 0], dataset.model_input(record.image))


def test_boxes_are_cut_resized_and_flipped_by_the_reference_rule(home: Path) -> None:
    dataset = ladd.load(home / "boxes")
    columns = dataset.arrays.dense
    batch = next(iter(dataset.loader(4, shuffle=True)))

    views = dataset.views(batch.image, normalize=False, index=batch.index)

    assert 0 < columns["view_flip"].mean() < 1
    for row, index in enumerate(batch.index.tolist()):
        for view in range(7):
            box, flip = random_box(3, index, view, 32, 32, 0.3)
            assert columns["view_box"][index, view].tolist() == [box.y, box.x, box.height, box.width]
            expected = reference_view(Boxes(count=7, flip=True), batch.image[row].numpy(), view, RecordBox(box, flip))
            assert np.array_equal(views[row, view].numpy(), expected)


def test_boxes_without_the_records_numbers_are_refused(home: Path) -> None:
    dataset = ladd.load(home / "boxes")
    with pytest.raises(ladd.UsageError, match=r"index=batch\.index"):
        dataset.views(dataset[0].image)


def test_drawn_boxes_lie_inside_and_are_a_pure_function() -> None:
    for record in range(200):
        box, flip = random_box(9, record, record % 5, 20, 33, 0.1)
        assert box.height >= 2 and box.width >= 3 and box.y >= 0 and box.x >= 0
        assert box.y + box.height <= 20 and box.x + box.width <= 33
        assert (box, flip) == random_box(9, record, record % 5, 20, 33, 0.1)


def test_a_missing_view_is_marked_and_never_handed_out_as_a_label(home: Path) -> None:
    pruned, whole = ladd.load(home / "pruned"), ladd.load(home / "grid")
    for index in range(len(pruned)):
        record, parent = pruned[index], whole[index]
        assert record.present is not None and record.dense_labels is not None and parent.dense_labels is not None
        assert int(record.present.sum()) == 10
        assert torch.allclose(record.dense_labels[record.present], parent.dense_labels[record.present], atol=1e-3)
        assert not record.dense_labels[~record.present].any()
    batch = next(iter(pruned.loader(6)))
    assert batch.present is not None and batch.dense is not None and batch.dense[~batch.present].sum() == 0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_counts_the_views_that_are_there(home: Path, reduction: str) -> None:
    dataset = ladd.load(home / "pruned")
    batch = next(iter(dataset.loader(3)))
    torch.manual_seed(0)
    model = build_network(NETWORK)
    assert batch.dense is not None and batch.present is not None

    loss = LADD(reduction, 4)(model, batch, dataset)  # type: ignore[arg-type]

    expected = torch.nn.functional.cross_entropy(model(dataset.model_input(batch.image)), batch.label)
    for row in range(3):
        there = batch.present[row]
        logits = model(dataset.views(batch.image[row])[0][there])
        local = torch.nn.functional.cross_entropy(logits, batch.dense[row][there], reduction=reduction)
        expected = expected + local / 3
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_loss_takes_boxes_by_record_number(home: Path) -> None:
    dataset = ladd.load(home / "boxes")
    batch = next(iter(dataset.loader(4)))

    loss = LADD()(build_network(NETWORK), batch, dataset)

    assert torch.isfinite(loss)


def test_a_box_that_leaves_the_image_and_a_label_in_a_missing_view_are_named(home: Path) -> None:
    from ladd_data.validation.views import check_missing_views, check_view_columns

    manifest = ladd.load(home / "boxes").manifest
    box = np.zeros((2, 7, 4), np.uint16) + np.array([0, 0, 1, 1], np.uint16)
    box[1, 6] = (20, 0, 13, 5)
    present, probs = np.array([[True, False]]), np.array([[[0.9, 0.1], [0.9, 0.1]]])

    breaches = [
        *check_view_columns(manifest, {"view_box": box}),
        *check_missing_views({"view_present": present}, probs),
    ]

    assert [(breach.clause, breach.row) for breach in breaches] == [("LADD-044", 1), ("LADD-045", 0)]


@pytest.mark.parametrize("case", ["box-beyond-the-right-edge", "box-of-no-height", "box-of-negative-place"])
def test_a_box_outside_the_image_is_named_before_it_is_cut(case: str) -> None:
    dataset = ladd.load(CORPUS / "invalid" / case / "set")
    named = r'row 2 \(id "000002"\), view_box, view 1: found box.*LADD-044'

    with pytest.raises(ladd.DatasetError, match=named):
        dataset.views(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), index=range(6))
    with pytest.raises(ladd.DatasetError, match=named):
        list(dataset.loader(4))


def test_a_grid_as_boxes_gives_the_same_views() -> None:
    spec, images = ladd.grid(3, "3/4"), torch.randint(0, 256, (2, 3, 20, 28), dtype=torch.uint8)
    box = torch.tensor([[b.y, b.x, b.height, b.width] for b in ladd.boxes(spec, 20, 28)])

    as_grid = ViewMaker(spec, 20, 28)(images)
    as_boxes = ViewMaker(Boxes(count=9), 20, 28)(images, view_box=box.expand(2, 9, 4))

    assert torch.equal(as_grid, as_boxes)


@pytest.mark.parametrize("space", ["probs", "logits", "targets"])
def test_soft_labels_of_each_kind_are_kept_under_the_name_that_says_it(tmp_path: Path, space: str) -> None:
    values = np.full((6, 3), 1 / 3, np.float32)
    distilled = replace(make_distilled(), soft=SoftValues(values, space))  # type: ignore[arg-type]

    convert(prepare(distilled, "soft"), tmp_path / "out")

    dataset = ladd.load(tmp_path / "out")
    assert dataset.manifest.soft is not None and dataset.manifest.soft.space == space
    assert np.array_equal(dataset.arrays.dense[f"soft_{space}"], values)
    assert ladd.validate(tmp_path / "out").valid


def test_soft_labels_that_are_not_what_they_claim_are_refused() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)

    with pytest.raises(ladd.ConvertError, match="Are they logits"):
        prepare(replace(make_distilled(), soft=SoftValues(logits, "probs")), "soft")
    with pytest.raises(ladd.ConvertError, match=r"\[6, 3\]"):
        prepare(replace(make_distilled(), soft=SoftValues(logits[:5], "logits")), "soft")
