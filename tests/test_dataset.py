"""An opened dataset: records, batches and views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from damaging import rewrite
from making import make_distilled
from torch.nn.functional import interpolate, pad

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.loaders import batches
from ladd_data.loaders.memory.resident import ResidentLoader
from ladd_data.loaders.order import epoch_order
from ladd_data.pixels import apply_affine
from ladd_data.views.golden import digest_view
from ladd_data.views.reference import reference_view


def test_a_record_holds_pixels_class_and_probabilities(labelled: Path) -> None:
    dataset = ladd.load(labelled)

    record = dataset[-1]

    assert (len(dataset), dataset.classes) == (6, ("ant", "bee", "cat"))
    assert (record.id, record.label) == ("000005", 2)
    assert record.image.dtype == torch.uint8 and record.image.shape == (3, 32, 32)
    assert record.dense_labels is not None and record.dense_labels.dtype == torch.float32
    assert record.dense_labels.shape == (25, 3)
    assert torch.allclose(record.dense_labels.sum(1), torch.ones(25))
    with pytest.raises(IndexError):
        dataset[6]


def test_a_dataset_without_dense_labels_has_no_views(unlabelled: Path) -> None:
    dataset = ladd.load(unlabelled)

    assert dataset[0].dense_labels is None
    assert [dense for _, _, dense in dataset.loader(batch_size=4)] == [None, None]
    with pytest.raises(ladd.UsageError, match="ladd label"):
        dataset.views(dataset[0].image)


def test_every_golden_view_can_be_proven(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    records = {dataset[index].id: dataset[index] for index in range(len(dataset))}
    labels = dataset.manifest.labels
    assert labels is not None and len(labels.golden) == 3

    for golden in labels.golden:
        views = dataset.views(records[golden.id].image, normalize=False)
        assert digest_view(views[0, golden.view].numpy()) == golden.pixels


def test_golden_views_tell_rows_from_columns(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    labels = dataset.manifest.labels
    assert labels is not None

    transposed = [golden.view % 5 * 5 + golden.view // 5 != golden.view for golden in labels.golden]
    assert any(transposed)


def test_views_are_the_reference_views_after_the_datasets_affine_map(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    image = dataset[3].image

    views = dataset.views(image, [7, 2])

    assert dataset.view_spec is not None
    for slot, view in enumerate((7, 2)):
        expected = apply_affine(dataset.manifest.images.affine, reference_view(dataset.view_spec, image.numpy(), view))
        assert np.array_equal(views[0, slot].numpy(), expected)


@pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
def test_a_pass_yields_every_record_once_in_the_order_of_seed_and_epoch(labelled: Path, batch_size: int) -> None:
    dataset = ladd.load(labelled)
    loader = dataset.loader(batch_size, shuffle=True, seed=3)

    for epoch in range(3):
        batches = list(loader)
        assert len(batches) == len(loader)
        index = torch.cat([batch.index for batch in batches])
        assert index.tolist() == epoch_order(6, seed=3, epoch=epoch).tolist()
        image, label, dense = batches[0]
        record = dataset[int(index[0])]
        assert image is not None and label is not None and dense is not None
        assert image.dtype == torch.uint8 and torch.equal(image[0], record.image) and int(label[0]) == record.label
        assert record.dense_labels is not None and dense.dtype == torch.float32
        assert torch.equal(dense[0], record.dense_labels)


def test_set_epoch_goes_straight_to_an_epochs_order(labelled: Path) -> None:
    loader = ladd.load(labelled).loader(6, shuffle=True, seed=1)
    passes = [next(iter(loader)).index.tolist()]
    loader.set_epoch(5)

    passes.append(next(iter(loader)).index.tolist())

    assert passes == [epoch_order(6, 1, 0).tolist(), epoch_order(6, 1, 5).tolist()]


def test_without_shuffle_records_come_in_file_order_and_a_short_batch_can_be_dropped(labelled: Path) -> None:
    loader = ladd.load(labelled).loader(4, last="drop")

    assert [batch.index.tolist() for batch in loader] == [[0, 1, 2, 3]]
    assert len(loader) == 1


def test_the_loader_keeps_uint8_and_labels_that_are_many_as_stored(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "are_few", lambda labels, pixels: False)
    loader = ladd.load(labelled).loader(4)

    assert isinstance(loader, ResidentLoader)
    assert loader.images.dtype == torch.uint8
    assert loader.stored["dense_log_probs"].dtype == torch.float16


@pytest.mark.parametrize(("batch_size", "seed", "named"), [(0, 0, "batch_size 0"), (1, -1, "-1"), (1, 2**32, "2")])
def test_a_loader_refuses_values_out_of_range(labelled: Path, batch_size: int, seed: int, named: str) -> None:
    with pytest.raises(ladd.UsageError, match=named):
        ladd.load(labelled).loader(batch_size, seed=seed)


def test_a_path_that_is_no_dataset_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ladd.UsageError, match="no such folder"):
        ladd.load(tmp_path / "missing")
    with pytest.raises(ladd.UsageError, match="not a ladd dataset"):
        ladd.load(tmp_path)


def mosaics(folder: Path, factor: int, size: int = 32, method: str = "RDED") -> ladd.Dataset:
    """Write a dataset whose images are mosaics."""
    made = replace(make_distilled(size=size), mosaic_factor=factor, method=method)
    convert(prepare(made, "mosaics"), folder)
    return ladd.load(folder)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_tiles_are_the_views_of_a_grid_and_the_pixels_of_the_mosaic(tmp_path: Path, factor: int) -> None:
    dataset = mosaics(tmp_path / "set", factor)
    images, side = torch.from_numpy(dataset.arrays.images), 32 // factor

    tiles, raw = dataset.tiles(images, normalize=False), dataset.tiles(images, resize=False)

    spec = ladd.grid(factor, f"1/{factor}")
    assert tiles.shape == (6, factor**2, 3, 32, 32) and raw.dtype == torch.uint8
    for number in range(factor**2):
        y, x = number // factor * side, number % factor * side
        assert torch.equal(raw[:, number], images[:, :, y : y + side, x : x + side])
        expected = reference_view(spec, dataset.arrays.images[2], number)
        assert np.array_equal(tiles[2, number].numpy(), expected)
        enlarged = interpolate(raw[:, number].double(), (32, 32), mode="bilinear", align_corners=False).float()
        assert torch.equal(tiles[:, number], enlarged)
    assert torch.equal(dataset.tiles(images), dataset.model_input(tiles))
    assert torch.equal(dataset.tiles(images[3]), dataset.tiles(images)[3:4])


def test_a_factor_that_does_not_divide_the_sides_is_refused(tmp_path: Path) -> None:
    dataset = mosaics(tmp_path / "set", 3)

    with pytest.raises(ladd.UsageError, match=r"32x32 images by a mosaic factor of 3.*does not divide"):
        dataset.tiles(torch.from_numpy(dataset.arrays.images))


@pytest.mark.parametrize(("size", "factor"), [(32, 3), (8, 3), (10, 4)])
def test_mosaics_of_idc_that_need_padding_are_taken_apart_by_its_rule(tmp_path: Path, size: int, factor: int) -> None:
    dataset = mosaics(tmp_path / "set", factor, size, method="IDC")
    images = torch.from_numpy(dataset.arrays.images)
    missing, side = -size % factor, -(-size // factor)
    padded = pad(dataset.model_input(images), (0, missing, 0, missing), value=0.5)

    tiles = dataset.tiles(images)

    assert tiles.shape == (6, factor**2, 3, size, size)
    for number in range(factor**2):
        y, x = number // factor * side, number % factor * side
        tile = padded[:, :, y : y + side, x : x + side]
        expected = interpolate(tile, (size, size), mode="bilinear", align_corners=False)
        assert torch.allclose(tiles[:, number], expected, atol=1e-5)
    assert torch.equal(tiles, dataset.model_input(dataset.tiles(images, normalize=False)))
    with pytest.raises(ladd.UsageError, match="grey that uint8 lacks"):
        dataset.tiles(images, resize=False)


def test_a_golden_view_that_names_another_class_than_the_most_probable_is_found(labelled: Path, tmp_path: Path) -> None:
    dataset = ladd.load(labelled)
    assert dataset.manifest.labels is not None
    golden = dataset.manifest.labels.golden[0]
    row = [dataset[index].id for index in range(len(dataset))].index(golden.id)
    label = np.asarray(dataset[row].dense_labels)[golden.view]
    other = {"top_class": int(label.argmin()), "top_prob": float(label.min())}
    rewrite(labelled, tmp_path / "set", lambda _: None, lambda document: document["labels"]["golden"][0].update(other))

    assert {problem.clause for problem in ladd.validate(tmp_path / "set").problems} == {"LADD-043"}
