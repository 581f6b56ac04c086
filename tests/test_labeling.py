"""Labels are what the named labeler says of the views, and nothing that does not fit is labelled."""

from __future__ import annotations

import filecmp
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as vision
from damaging import call, rewrite
from making import CLASSES, NORMALIZATION, label, make_distilled, make_labeler
from safetensors.torch import load_file, save_file

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.encodings.profiles import coding_of_encoding
from ladd_data.labeling.batch import fit_to_images, measure_footprint, views_per_batch
from ladd_data.labeling.label import LabelPlan, label_dataset, labeler_input
from ladd_data.labeling.labeler import TrainingRecord, load_labeler
from ladd_data.labeling.training import Keep, LabelerPlan, split_held_out, train_labeler
from ladd_data.manifest import Classes, Full, Network, Normalization
from ladd_data.models import build_network
from ladd_data.pixels import natural_affine
from ladd_data.shards.layout import Records
from ladd_data.sources import ImageSet, load_images
from ladd_data.types import F32
from ladd_data.views.geometry import grid


def label_independently(directory: Path, labeler: Path) -> F32:
    """Recompute probabilities with torchvision's crop and resize, image by image and view by view."""
    dataset, network = ladd.load(directory), load_labeler(labeler).network
    boxes = ladd.boxes(ladd.grid(5, "5/8"), 32, 32)
    affine = dataset.manifest.images.affine
    scale, offset = (torch.tensor(values)[:, None, None] for values in (affine.scale, affine.offset))
    rows = []
    for index in range(len(dataset)):
        image = dataset[index].image.float()
        for box in boxes:
            crop = image[:, box.y : box.y + box.height, box.x : box.x + box.width]
            view = vision.resize(crop, [32, 32], antialias=True)
            with torch.no_grad():
                rows.append(torch.softmax(network((view * scale + offset)[None]), 1)[0].numpy())
    return np.stack(rows).reshape(len(dataset), 25, -1)


@pytest.mark.parametrize(("profile", "limit"), [("paper", 1e-6), ("labelled", 1e-3)])
def test_labels_equal_an_independent_computation(
    request: pytest.FixtureRequest, labeler: Path, profile: str, limit: float
) -> None:
    directory: Path = request.getfixturevalue(profile)
    dataset = ladd.load(directory)
    stored = np.stack([np.asarray(dataset[index].dense_labels) for index in range(len(dataset))])

    expected = label_independently(directory, labeler)

    assert expected.max(-1).mean() > 0.5  # far from uniform, so that a mistake would show
    assert np.abs(stored - expected).sum(-1).max() / 2 <= limit


def test_labeling_twice_gives_the_same_bytes(tmp_path: Path, unlabelled: Path, labeler: Path, labelled: Path) -> None:
    again = label(unlabelled, labeler, tmp_path / "again")

    names = [str(path.relative_to(labelled)) for path in labelled.rglob("*") if path.is_file()]
    match, mismatch, errors = filecmp.cmpfiles(labelled, again, names, shallow=False)
    assert (sorted(match), mismatch, errors) == (sorted(names), [], [])


def test_images_and_hard_labels_are_copied_byte_for_byte(unlabelled: Path, labelled: Path) -> None:
    before = [records for _, _, records in ladd.load(unlabelled).folder.records()]
    after = [records for _, _, records in ladd.load(labelled).folder.records()]

    assert [records.images for records in before] == [records.images for records in after]
    assert [records.ids for records in before] == [records.ids for records in after]
    assert ladd.load(unlabelled).manifest.images == ladd.load(labelled).manifest.images


def test_relabelling_replaces_the_old_labels(tmp_path: Path, labelled: Path, labeler: Path) -> None:
    target = label(labelled, labeler, tmp_path / "other", profile="paper", n=2, ratio="1/2")

    labels = ladd.load(target).manifest.labels
    assert labels is not None and (labels.count, labels.coding.space, labels.coding.logz) == (4, "probs", False)
    assert ladd.validate(target).valid


def test_the_manifest_names_the_labeler_its_input_and_what_it_cost(labelled: Path, labeler: Path) -> None:
    manifest = ladd.load(labelled).manifest
    labels = manifest.labels
    assert labels is not None and labels.labeler is not None

    assert labels.labeler.weights_digest == load_labeler(labeler).digest
    assert labels.labeler.input == manifest.images.affine
    assert labels.certificate.max_tv <= 1e-3
    conv = 2 * (3 * 9 * 8 * 32 * 32 + 8 * 9 * 8 * 16 * 16 + 8 * 9 * 8 * 8 * 8)
    assert labels.labeler.labeling_flops == (conv + 2 * 8 * 16 * 3) * 25 * 6
    assert (manifest.recipe.loss, manifest.recipe.view_reduction) == ("ladd", "sum")


def test_a_labeler_of_another_normalisation_gets_its_own_input(unlabelled: Path, labeler: Path) -> None:
    loaded, manifest = load_labeler(labeler), ladd.load(unlabelled).manifest
    other = Normalization(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    description = loaded.description.model_copy(update={"normalization": other})

    affine = labeler_input(manifest, replace(loaded, description=description))

    pixel = 200.0
    for channel in range(3):
        value = manifest.images.affine.scale[channel] * pixel + manifest.images.affine.offset[channel]
        natural = value * NORMALIZATION.std[channel] + NORMALIZATION.mean[channel]
        expected = (natural - other.mean[channel]) / other.std[channel]
        assert affine.scale[channel] * pixel + affine.offset[channel] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (("bee", "ant", "cat"), 32, 'number 0 is "bee" there and "ant" here'),
        (("ant", "bee", "cat", "dog"), 32, "4 classes, the dataset 3"),
        (CLASSES.names, 64, "3x64x64"),
    ],
)
def test_a_labeler_that_does_not_fit_is_refused(
    tmp_path: Path, unlabelled: Path, names: tuple[str, ...], size: int, message: str
) -> None:
    other = make_labeler(tmp_path / "other.safetensors", Classes(names=names), size)

    with pytest.raises(ladd.LabelError, match=message):
        label(unlabelled, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whitened_images_are_not_labelled_by_a_labeler_of_natural_ones(tmp_path: Path, labeler: Path) -> None:
    whitened = replace(make_distilled(), normalization=None, whitening="zca")
    convert(prepare(whitened, "zca"), tmp_path / "zca")

    with pytest.raises(ladd.LabelError, match="ZCA-whitened"):
        label(tmp_path / "zca", labeler, tmp_path / "out")


def test_weights_that_are_not_finite_or_not_a_labeler_are_refused(tmp_path: Path, labeler: Path) -> None:
    weights = load_file(labeler)
    bare, broken = tmp_path / "bare.safetensors", tmp_path / "broken.safetensors"
    save_file(weights, bare)
    broken.write_bytes(labeler.read_bytes().replace(b"float32", b"floatXX")[:500])
    poisoned = make_labeler(tmp_path / "nan.safetensors")
    data = bytearray(poisoned.read_bytes())
    data[-4:] = np.array([np.nan], "<f4").tobytes()
    poisoned.write_bytes(data)

    for path, message in ((bare, "ladd_labeler"), (broken, "not a readable"), (poisoned, "NaN or infinity")):
        with pytest.raises(ladd.LabelError, match=message):
            load_labeler(path)


def test_the_batch_of_a_labeler_depends_on_the_network_alone() -> None:
    def views(width: int, size: int, device: str) -> int:
        spec = Network(name="convnet-d3", width=width, classes=10, channels=3, size=size)
        return views_per_batch(measure_footprint(build_network(spec), spec), device)

    assert [views(128, size, "cuda") for size in (32, 128, 224)] == [256, 32, 10]
    assert [views(128, size, "cpu") for size in (32, 128, 224)] == [32, 2, 1]


def relabel(source: Path, labelers: list[Path], target: Path, **changes: Any) -> F32:
    """Label the whole images by one or several labelers and return the probabilities, [records, classes]."""
    first, *others = (load_labeler(path) for path in labelers)
    given: dict[str, Any] = {"coding": coding_of_encoding("float32", 3, logz=False), "others": tuple(others)}
    plan = LabelPlan(first, views=Full(), device=torch.device("cpu"), **{**given, **changes})
    label_dataset(ladd.load(source), plan, target)
    dataset = ladd.load(target)
    assert ladd.validate(target).problems == ()
    return np.concatenate([np.asarray(dataset[index].dense_labels) for index in range(len(dataset))])


def test_several_labelers_are_averaged_and_all_are_named(tmp_path: Path, unlabelled: Path, labeler: Path) -> None:
    other = make_labeler(tmp_path / "other.safetensors", seed=1)
    one, two = (relabel(unlabelled, [path], tmp_path / path.stem) for path in (labeler, other))

    probs = relabel(unlabelled, [labeler, other], tmp_path / "probs")
    kept = coding_of_encoding("float32", 3)
    logits = relabel(unlabelled, [labeler, other], tmp_path / "logits", average="logits", coding=kept)

    assert np.abs(probs - (one + two) / 2).max() < 1e-6
    geometric = np.sqrt(one * two)
    assert np.abs(logits - geometric / geometric.sum(-1, keepdims=True)).max() < 1e-6
    assert np.abs(probs - logits).max() > 0.01
    labels = ladd.load(tmp_path / "probs").manifest.labels
    assert labels is not None and labels.ensemble is not None and labels.ensemble.average == "probs"
    assert [each.weights_digest for each in labels.labelers] == [load_labeler(p).digest for p in (labeler, other)]


def test_the_mean_of_probabilities_is_not_stored_with_logits(tmp_path: Path, unlabelled: Path, labeler: Path) -> None:
    with pytest.raises(ladd.UsageError, match="the mean of probabilities has no logits"):
        relabel(unlabelled, [labeler, labeler], tmp_path / "out", coding=coding_of_encoding("float32", 3))


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"channels_last": True}, {"batch": 4}])
def test_options_of_computing_change_little_and_are_in_the_manifest(
    tmp_path: Path, unlabelled: Path, labeler: Path, changes: dict[str, Any]
) -> None:
    plain = relabel(unlabelled, [labeler], tmp_path / "plain")
    other = relabel(unlabelled, [labeler], tmp_path / "other", **changes)

    labels = ladd.load(tmp_path / "other").manifest.labels
    assert labels is not None and labels.labeler is not None
    assert changes.items() <= labels.labeler.model_dump().items()
    assert np.abs(plain - other).max() < (0.15 if "precision" in changes else 1e-5)


def test_the_number_of_threads_changes_no_byte(tmp_path: Path, unlabelled: Path, labeler: Path, labelled: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = label(unlabelled, labeler, tmp_path / "again")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)

    assert (again / "meta/shards.json").read_bytes() == (labelled / "meta/shards.json").read_bytes()


def test_an_output_that_is_not_finite_names_record_and_view(tmp_path: Path, unlabelled: Path, labeler: Path) -> None:
    huge = load_labeler(labeler)
    with torch.no_grad():
        huge.network.classifier.weight.fill_(3e38)  # type: ignore[union-attr, operator]
    plan = LabelPlan(huge, grid(5, "5/8"), coding_of_encoding("float16", 3), torch.device("cpu"))

    with pytest.raises(ladd.LabelError, match=r'record "000000", view 0: the labeler gives NaN or infinity'):
        label_dataset(ladd.load(unlabelled), plan, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_pixels_that_are_not_those_of_the_digest_are_refused(tmp_path: Path, labelled: Path, labeler: Path) -> None:
    def exchange(records: Records) -> None:
        records.images = list(reversed(records.images))

    def state(manifest: Any) -> None:
        manifest["images"]["digest"] = ladd.load(labelled).manifest.images.digest

    rewrite(labelled, tmp_path / "source", exchange, state)

    with pytest.raises(ladd.LabelError, match=r"images\.digest: found records of digest"):
        label(tmp_path / "source", labeler, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_pass_holds_whole_images_or_an_even_part_of_one() -> None:
    assert [fit_to_images(limit, 25) for limit in (256, 50, 49, 25)] == [250, 50, 25, 25]
    assert [fit_to_images(limit, 25) for limit in (13, 12, 5, 1)] == [13, 5, 5, 1]


def test_too_little_memory_for_one_view_is_a_wrong_call(tmp_path: Path, unlabelled: Path, labeler: Path) -> None:
    with pytest.raises(ladd.UsageError, match="give more --memory"):
        relabel(unlabelled, [labeler], tmp_path / "out", memory=1000)


def test_the_run_log_states_what_it_took_and_is_no_part_of_the_dataset(
    tmp_path: Path, unlabelled: Path, labeler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["label", unlabelled, "--labeler", labeler, "--device", "cpu", "--memory", "2G"]
    assert call(*line, "-o", tmp_path / "one") == 0 and call(*line, "-o", tmp_path / "two", "--no-run-log") == 0

    log = json.loads((tmp_path / "one/meta/run.json").read_text())
    assert (log["records_labelled"], log["ranks"], log["device"]) == (6, 1, "cpu")
    assert log["seconds"] >= log["labeling_seconds"] > 0 and log["labeling_flops"] > 0
    assert not (tmp_path / "two/meta/run.json").exists()
    assert ladd.validate(tmp_path / "one").valid
    assert (tmp_path / "one/meta/ladd.json").read_bytes() == (tmp_path / "two/meta/ladd.json").read_bytes()
    assert call(*line, "-o", tmp_path / "three", "--memory", "lots") == 2
    assert call(*line, "-o", tmp_path / "three", "--precision", "fp8") == 2


def test_training_learns_the_digits_and_keeps_every_epoch(tmp_path: Path) -> None:
    network = Network(name="convnet-d3", width=16, classes=10, channels=3, size=16)
    classes, half = Classes(names=tuple("0123456789")), Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
    training = TrainingRecord(source="digits:train", epochs=2, lr=0.02, momentum=0.9, batch_size=64)
    told: list[int] = []

    description = train_labeler(
        LabelerPlan(network, classes, half, training),
        load_images("digits:train", 16, 3),
        load_images("digits:test", 16, 3),
        tmp_path / "labeler.safetensors",
        keep=Keep(checkpoints=tmp_path / "epochs"),
        on_epoch=lambda epoch, loss, accuracy: told.append(epoch),
    )

    assert description.accuracy is not None and description.accuracy > 0.85
    assert (told, len(description.history), description.epochs_done) == ([1, 2], 2, 2)
    final = load_labeler(tmp_path / "labeler.safetensors")
    assert final.description == description
    checkpoints = [load_labeler(tmp_path / "epochs" / f"epoch-00{number}.safetensors") for number in (1, 2)]
    assert checkpoints[0].digest != checkpoints[1].digest == final.digest
    assert natural_affine(half).scale[0] == pytest.approx(2 / 255)


def test_a_tenth_is_held_out_where_no_test_set_is_given() -> None:
    images = ImageSet("x", np.zeros((25, 1, 1, 1), np.uint8), np.arange(25), None)

    kept, held = split_held_out(images)

    assert held.labels.tolist() == [9, 19] and len(kept.labels) == 23
