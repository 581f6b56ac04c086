"""Views that mix two images: the same bits from the reference, from torch and from every loader."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_distilled, make_labeler
from PIL import Image

import ladd_data as ladd
from ladd_data.cli import main
from ladd_data.convert import convert, prepare
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.label import BoxDraw, LabelPlan, label_dataset
from ladd_data.labeling.labeler import load_labeler
from ladd_data.manifest import Boxes, Mix
from ladd_data.reencode import Keep, reencode_dataset
from ladd_data.types import Columns
from ladd_data.views.checks import check_places
from ladd_data.views.device import ViewMaker
from ladd_data.views.geometry import Box, random_box
from ladd_data.views.mixing import MixTable, place_views
from ladd_data.views.reference import RecordBox, box_of, mix_of, mix_reference, reference_view

BOTH = Mix(count=6, flip=True, cutmix=True, mixup=True)
WAYS = {
    "cutmix": Mix(count=6, flip=True, cutmix=True),
    "mixup": Mix(count=6, mixup=True),
    "both": BOTH,
    "pillow": BOTH.model_copy(update={"resample": "pillow-bilinear"}),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images labelled by views that are mixed in each way."""
    home = tmp_path_factory.mktemp("mixed")
    convert(prepare(make_distilled(), "mixed"), home / "set")
    make_labeler(home / "labeler.safetensors")
    for name, views in WAYS.items():
        label_mixed(home, home / name, views)
    return home


def label_mixed(home: Path, target: Path, views: Mix) -> None:
    labeler, draw = load_labeler(home / "labeler.safetensors"), BoxDraw(seed=3, least=0.3)
    plan = LabelPlan(labeler, views, ENCODINGS["float32"], torch.device("cpu"), boxes=draw)
    label_dataset(ladd.load(home / "set"), plan, target)


def by_the_reference(dataset: ladd.Dataset, index: int, view: int) -> np.ndarray:
    """Return a view as the spec says it, from numpy alone."""
    arrays, spec = dataset.arrays, dataset.view_spec
    assert spec is not None
    place = mix_of(arrays.dense, index, view)
    assert place is not None
    other = arrays.ids.index(sorted(arrays.ids)[place.partner])
    own, partner = (
        reference_view(spec, arrays.images[row], number, box_of(arrays.dense, row, number))
        for row, number in ((index, view), (other, place.view))
    )
    return mix_reference(own, partner, place)


@pytest.mark.parametrize("way", WAYS)
def test_a_labelled_mixed_set_is_valid_and_its_labels_are_the_labelers(home: Path, way: str) -> None:
    assert ladd.validate(home / way).problems == ()
    result = ladd.check_labels(ladd.load(home / way), load_labeler(home / "labeler.safetensors"), sample=None)
    assert result.agrees and result.difference.views == 36


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("placement", ["resident", "cached"])
def test_every_loader_gives_the_reference_bit_by_bit(home: Path, way: str, placement: str) -> None:
    dataset = ladd.load(home / way)
    for batch in dataset.loader(4, shuffle=True, seed=1, placement=placement):  # type: ignore[arg-type]
        views = batch.views(3)
        again = dataset.views(batch.image, views.numbers, normalize=False, index=batch.index)
        for row, index in enumerate(batch.index.tolist()):
            for slot, view in enumerate(views.numbers):
                expected = by_the_reference(dataset, index, view)
                assert np.array_equal(again[row, slot].numpy(), expected)
        affine = dataset.manifest.images.affine
        scale, offset = (torch.tensor(values)[:, None, None] for values in (affine.scale, affine.offset))
        assert torch.equal(views.pixels, again * scale + offset)


def test_views_do_not_depend_on_the_batch_they_come_in(home: Path) -> None:
    dataset = ladd.load(home / "both")
    whole = dataset.views(torch.from_numpy(dataset.arrays.images), index=range(6))
    for index in range(6):
        assert torch.equal(dataset.views(dataset[index].image, index=[index])[0], whole[index])


def test_map_style_batches_have_the_same_views(home: Path) -> None:
    dataset = ladd.load(home / "cutmix")
    batch = dataset.to_torch().__getitems__([4, 0]).batch

    assert torch.equal(batch.views().pixels, dataset.views(batch.image, index=batch.index))


def test_a_stream_says_why_it_has_no_mixed_views(home: Path) -> None:
    with pytest.raises(ladd.UsageError, match=r"mix each image with others.*resident"):
        ladd.stream(home / "cutmix")
    with pytest.raises(ladd.UsageError, match="mix each image with others"):
        ladd.load(home / "cutmix").loader(4, placement="streaming")


def test_mixed_views_survive_other_editions_and_other_encodings(home: Path, tmp_path: Path) -> None:
    from ladd_data.export import export_dataset

    source = ladd.load(home / "both")
    for edition in ("webdataset", "arrow"):
        export_dataset(source, edition, tmp_path / edition)
        assert ladd.validate(tmp_path / edition).problems == ()
    export_dataset(ladd.load(tmp_path / "webdataset"), "parquet", tmp_path / "back")
    for path in (home / "both" / "data").iterdir():
        assert (tmp_path / "back" / "data" / path.name).read_bytes() == path.read_bytes()
    reencode_dataset(source, ENCODINGS["q8"], tmp_path / "small", keep=Keep(2, seed=1))
    assert ladd.validate(tmp_path / "small").problems == ()


def test_drawing_is_a_pure_function_of_seed_and_record(home: Path, tmp_path: Path) -> None:
    label_mixed(home, tmp_path / "again", BOTH)
    assert ladd.load(tmp_path / "again").manifest.digest == ladd.load(home / "both").manifest.digest
    dense = ladd.load(home / "both").arrays.dense
    pasted, blended = (dense["view_mix_box"][..., 2:] > 0).all(-1), dense["view_mix_lambda"] < 1
    assert pasted.any() and blended.any() and not (pasted & blended).any()


def test_a_kind_that_mixes_nothing_is_refused(home: Path) -> None:
    manifest = ladd.load(home / "cutmix").manifest
    assert manifest.labels is not None
    labels = manifest.labels.model_dump() | {"views": {"kind": "mix", "count": 6}}
    with pytest.raises(ValueError, match="neither cutmix nor mixup"):
        ladd.Manifest.model_validate(manifest.model_dump() | {"labels": labels})


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("view_partner", 6, "number 6"),
        ("view_partner_view", 2, "number 2"),
        ("view_mix_box", [30, 0, 3, 1], r"box \[30, 0, 3, 1\]"),
        ("view_mix_lambda", 1.5, "1.5"),
        ("view_mix_lambda", np.nan, "nan"),
        ("view_mix_lambda", 0.5, "a box that is pasted"),
    ],
)
def test_what_cannot_be_mixed_is_named(column: str, value: object, found: str) -> None:
    columns: Columns = {
        "view_box": np.tile(np.array([0, 0, 8, 8], np.uint16), (3, 2, 1)),
        "view_partner": np.zeros((3, 2), np.uint32),
        "view_partner_view": np.zeros((3, 2), np.uint16),
        "view_mix_box": np.tile(np.array([0, 0, 8, 8], np.uint16), (3, 2, 1)),
        "view_mix_lambda": np.ones((3, 2), np.float32),
    }
    assert list(check_places(columns, 6, 32, 32)) == []
    columns[column][1, 1] = value

    (wrong,) = check_places(columns, 6, 32, 32)

    assert (wrong.clause, wrong.row, wrong.view, wrong.column) == ("LADD-046", 1, 1, column)
    assert re.search(found, wrong.found)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["bilinear", "pillow-bilinear"]))
def test_torch_mixes_as_the_reference_does_whatever_the_numbers(seed: int, height: int, width: int, way: str) -> None:
    draw = np.random.default_rng(seed)
    count, views = 4, 3
    images = draw.integers(0, 256, (count, 3, height, width), np.uint8)
    boxes = [[random_box(seed, r, v, height, width, 0.05)[0] for v in range(views)] for r in range(count)]
    corner = np.stack([draw.integers(0, side + 1, (2, count, views)) for side in (height, width)])
    low, high = corner.min(1), corner.max(1)
    columns = {
        "view_box": np.array([[[b.y, b.x, b.height, b.width] for b in row] for row in boxes], np.uint16),
        "view_flip": draw.random((count, views)) < 0.5,
        "view_partner": draw.integers(0, count, (count, views)).astype(np.uint32),
        "view_partner_view": draw.integers(0, views, (count, views)).astype(np.uint16),
        "view_mix_box": np.stack([*low, *(high - low)], -1).astype(np.uint16),
        "view_mix_lambda": np.where(draw.random((count, views)) < 0.5, 1, draw.random((count, views))).astype(
            np.float32
        ),
    }
    order = draw.permutation(count)
    spec = Mix(count=views, flip=True, cutmix=True, mixup=True, resample=way)  # type: ignore[arg-type]
    table = MixTable(columns, order, lambda rows: images[rows])
    cut = ViewMaker(spec, height, width)(
        torch.from_numpy(images), [2, 0], **place_views(columns, [2, 0], "cpu", table)
    ).numpy()
    for row in range(count):
        for slot, view in enumerate((2, 0)):
            place = mix_of(columns, row, view)
            assert place is not None
            other = int(order[place.partner])
            own = reference_view(spec, images[row], view, box_of(columns, row, view))
            partner = reference_view(spec, images[other], place.view, box_of(columns, other, place.view))
            assert np.array_equal(cut[row, slot], mix_reference(own, partner, place))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 224), (21, 34)])
def test_pillow_bilinear_is_what_pillow_does(height: int, width: int) -> None:
    draw = np.random.default_rng(height)
    for number in range(40):
        image = draw.integers(0, 256, (3, height, width), np.uint8)
        box, _ = random_box(5, number, 0, height, width, 0.05)
        crop = Image.fromarray(image.transpose(1, 2, 0)).crop((box.x, box.y, box.x + box.width, box.y + box.height))
        expected = np.asarray(crop.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)

        view = reference_view(Boxes(count=1, resample="pillow-bilinear"), image, 0, RecordBox(box, False))

        assert np.array_equal(view, expected)


def test_mixing_commutes_with_normalisation_to_float32_accuracy(home: Path) -> None:
    """SRe2L mixes after normalising: CutMix is the same bits, MixUp the same to the last digits."""
    dataset = ladd.load(home / "both")
    affine = dataset.manifest.images.affine
    scale, offset = (np.array(values, np.float32)[:, None, None] for values in (affine.scale, affine.offset))
    for index in range(6):
        mixed = dataset.views(dataset[index].image, index=[index])[0].numpy()
        for view in range(6):
            place = mix_of(dataset.arrays.dense, index, view)
            assert place is not None
            other = dataset.arrays.ids.index(sorted(dataset.arrays.ids)[place.partner])
            parts = [
                reference_view(BOTH, dataset.arrays.images[row], number, box_of(dataset.arrays.dense, row, number))
                * scale
                + offset
                for row, number in ((index, view), (other, place.view))
            ]
            after = mix_reference(parts[0], parts[1], place)
            assert np.abs(after - mixed[view]).max() <= (0 if place.share == 1 else 2e-6)


def test_the_box_of_cutmix_is_cut_off_at_the_border() -> None:
    from ladd_data.views.mixing import random_paste

    for record in range(300):
        y, x, height, width = random_paste(4, record, record % 7, 20, 33)
        assert Box(y, x, height, width) == Box(*random_paste(4, record, record % 7, 20, 33))
        assert y >= 0 and x >= 0 and height >= 0 and width >= 0 and y + height <= 20 and x + width <= 33


def test_golden_views_of_a_swapped_partner_are_found_out(home: Path, tmp_path: Path) -> None:
    from ladd_data.writer import new_dataset

    dataset = ladd.load(home / "mixup")
    folder, manifest = dataset.folder, dataset.manifest
    with new_dataset(tmp_path / "wrong", manifest.classes, folder.layout, 6) as writer:
        for _, _, records, pixels in dataset.decoded():
            dense = records.dense | {"view_partner": (records.dense["view_partner"] + 1) % 6}
            writer.add(replace(records, dense=dense), pixels)
        labels = manifest.labels
        assert labels is not None
        writer.finish(
            lambda digests: manifest.model_copy(
                update={
                    "digest": digests.dataset,
                    "labels": labels.model_copy(update={"digest": digests.labels}),
                }
            )
        )

    problems = ladd.validate(tmp_path / "wrong").problems

    assert {problem.clause for problem in problems} == {"LADD-042"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("way", WAYS)
def test_a_gpu_gives_the_bits_of_the_cpu(home: Path, way: str) -> None:
    dataset = ladd.load(home / way)
    for placement in ("resident", "pinned", "cached"):
        for batch in dataset.loader(4, device="cuda", placement=placement):
            views = batch.views()
            expected = dataset.views(batch.image.cpu(), index=batch.index.cpu())
            assert views.pixels.is_cuda and torch.equal(views.pixels.cpu(), expected)


@pytest.mark.parametrize(
    ("options", "found"),
    [(["--mix", "cutmix"], "--mix goes with --boxes"), (["--boxes", "2", "--mix", "cutmx"], 'Did you mean "cutmix"')],
)
def test_options_that_do_not_fit_are_refused(
    home: Path, options: list[str], found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["ladd", "label", str(home / "set"), "--labeler", str(home / "labeler.safetensors"), "--as", "x", *options]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and found in capsys.readouterr().err
