"""Projectors: labels made on the fly equal those of the network that was trained; nothing is trusted but by digest."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import CLASSES, make_labeler
from projectors import BACKBONE, TRAINING, make_backbone, make_images, make_plan, make_projector
from safetensors.torch import load_file, save, save_file
from test_label_sets import call, content
from torch import nn

import ladd_data as ladd
from ladd_data.deploy.train import train_students
from ladd_data.files import canonical_json, sha256_file
from ladd_data.manifest import Full
from ladd_data.manifest_projector import Adapters, ProjectorSet, RandomBoxes, projector_digest
from ladd_data.models import describe_network
from ladd_data.projector import network as network_module
from ladd_data.projector.adapters import adapt, adapter_tensors
from ladd_data.projector.network import build_backbone
from ladd_data.projector.plan import HeadChoice
from ladd_data.projector.training import TrainedProjector, train_projector
from ladd_data.recipes import RECIPES
from ladd_data.report.page import write_report
from ladd_data.shards.folder import read_metadata
from ladd_data.shards.projectors import ADAPTER, list_projectors, open_projector
from ladd_data.views.geometry import grid

pytest.importorskip("timm")

WEIGHTS, STATEMENT = "labels/hello/projector.safetensors", "labels/hello/projector.json"
LOGIT_TOLERANCE = 1e-3
"""By which logits may differ between devices and threads; docs/labeling.md states it."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are so small that threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbone(home: Path) -> Path:
    return make_backbone(home / "backbone.safetensors")


@pytest.fixture(scope="module")
def trained(labelled: Path, backbone: Path, labeler: Path, home: Path) -> tuple[Path, TrainedProjector]:
    """A labelled dataset with a projector, and the network as it was after training."""
    folder = home / "with-projector"
    shutil.copytree(labelled, folder)
    return folder, make_projector(folder, backbone, labeler)


@pytest.fixture
def copy(trained: tuple[Path, TrainedProjector], tmp_path: Path) -> Path:
    shutil.copytree(trained[0], tmp_path / "copy")
    return tmp_path / "copy"


def edit_statement(folder: Path, path: str, value: Any) -> None:
    """Change a value in the statement, and the digest over it."""
    document = json.loads((folder / STATEMENT).read_bytes())
    *parents, last = path.split(".")
    part = document
    for parent in parents:
        part = part[parent]
    part[last] = value
    with suppress(ValueError):  # a statement that is none has no digest
        document["digest"] = projector_digest(ProjectorSet.model_validate_json(json.dumps(document)))
    (folder / STATEMENT).write_bytes(canonical_json(document))


def put_weights(folder: Path, change: Any) -> None:
    """Change the adapters' tensors, and what the statement says of their file."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    (folder / WEIGHTS).write_bytes(save(tensors))
    edit_statement(folder, "projector.bytes", (folder / WEIGHTS).stat().st_size)
    edit_statement(folder, "projector.sha256", sha256_file(folder / WEIGHTS))


def test_training_adds_a_folder_and_changes_no_other_byte_but_the_cards(
    trained: tuple[Path, TrainedProjector], labelled: Path
) -> None:
    before, after = content(labelled), content(trained[0])

    assert {name for name in before if after[name] != before[name]} == {"README.md"}
    names = {"projector.json", "projector.safetensors", "head.safetensors"}
    assert after.keys() - before.keys() == {f"labels/hello/{name}" for name in names}
    assert ladd.validate(trained[0]).problems == ()


def test_labels_of_the_stored_projector_are_those_of_the_live_one_bit_by_bit(
    trained: tuple[Path, TrainedProjector], backbone: Path
) -> None:
    folder, live = trained
    data = ladd.load_online(folder, "hello", backbone=backbone)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 3, 32, 32), np.uint8))

    assert torch.equal(data.label(pixels), live.network.label(pixels))
    assert data.label(pixels).std() > 0.1


def test_another_process_gives_the_same_labels(trained: tuple[Path, TrainedProjector], backbone: Path) -> None:
    code = f"""import torch, ladd_data
data = ladd_data.load_online({str(trained[0])!r}, "hello", backbone={str(backbone)!r})
batch = next(iter(data.loader(4, seed=3, shuffle=True, space="logits")))
torch.save((batch.index, batch.dense), {str(trained[0].parent / "other.pt")!r})"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    index, dense = torch.load(trained[0].parent / "other.pt", weights_only=True)

    data = ladd.load_online(trained[0], "hello", backbone=backbone)
    batch = next(iter(data.loader(4, seed=3, shuffle=True, space="logits")))
    assert batch.dense is not None and torch.equal(batch.index, index)
    assert torch.allclose(batch.dense, dense, rtol=0, atol=LOGIT_TOLERANCE)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_labels_within_tolerance(trained: tuple[Path, TrainedProjector], backbone: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data = ladd.load_online(trained[0], "hello", backbone=backbone)
    here, there = (
        next(iter(data.loader(6, seed=3, space="logits", device=device))).dense for device in ("cpu", "cuda")
    )
    assert here is not None and there is not None
    assert torch.allclose(here, there.cpu(), rtol=0, atol=LOGIT_TOLERANCE)


@pytest.mark.parametrize("placement", ["resident", "cached"])
def test_batches_are_as_any_and_their_labels_are_of_their_views(
    trained: tuple[Path, TrainedProjector], backbone: Path, placement: Any
) -> None:
    data = ladd.load_online(trained[0], "hello", backbone=backbone, views=RandomBoxes(count=2))
    batch = next(iter(data.loader(4, seed=1, shuffle=True, space="logits", placement=placement)))
    image, label, dense = batch
    views = batch.views()

    assert image is not None and label is not None and dense is not None and views.pixels.shape == (4, 2, 3, 32, 32)
    affine = data.manifest.images.affine
    scale, offset = (torch.tensor(values)[:, None, None] for values in (affine.scale, affine.offset))
    assert torch.allclose(data.label((views.pixels - offset) / scale), dense, atol=1e-3)
    assert batch.views(1).dense.shape == (4, 1, 3) and batch.space == "logits"


def test_drawn_views_depend_on_seed_epoch_and_record_alone(
    trained: tuple[Path, TrainedProjector], backbone: Path
) -> None:
    data = ladd.load_online(trained[0], "hello", backbone=backbone)

    def labels(size: int, seed: int = 0, epochs: int = 1) -> torch.Tensor:
        loader = data.loader(size, seed=seed, shuffle=True, space="logits")
        found = torch.zeros(6, 3)
        for _ in range(epochs):
            for batch in loader:
                assert batch.dense is not None
                found[batch.index] = batch.dense[:, 0]
        return found

    assert torch.allclose(labels(6), labels(2), atol=LOGIT_TOLERANCE)
    assert not torch.allclose(labels(6), labels(6, seed=1), atol=0.01)
    assert not torch.allclose(labels(6), labels(6, epochs=2), atol=0.01)


def test_views_mixed_by_cutmix_are_labelled_as_mixed_whatever_the_batch(
    trained: tuple[Path, TrainedProjector], backbone: Path
) -> None:
    plain, mixed = (
        ladd.load_online(trained[0], "hello", backbone=backbone, views=RandomBoxes(count=2, cutmix=cutmix))
        for cutmix in (False, True)
    )
    found = {}
    for name, data, size in (("plain", plain, 6), ("whole", mixed, 6), ("parts", mixed, 2)):
        parts = [(batch.views().pixels, batch.dense) for batch in data.loader(size, seed=1, space="logits")]
        found[name] = [torch.cat([part[side] for part in parts if part[side] is not None]) for side in (0, 1)]  # type: ignore[misc]

    assert torch.equal(found["whole"][0], found["parts"][0])
    assert torch.allclose(found["whole"][1], found["parts"][1], atol=LOGIT_TOLERANCE)
    same = (found["whole"][0] == found["plain"][0]).flatten(2).float().mean(-1)
    assert 0.05 < same.mean() < 0.95  # a part of each is the view's own


def test_stored_views_a_grid_and_whole_images_are_labelled_too(
    trained: tuple[Path, TrainedProjector], backbone: Path
) -> None:
    plain = ladd.load(trained[0])
    for views, count in (("stored", 25), (grid(2, "1/2"), 4), (Full(), 1)):
        data = ladd.load_online(trained[0], "hello", backbone=backbone, views=views)  # type: ignore[arg-type]
        batch = next(iter(data.loader(6, space="logits")))
        assert batch.dense is not None and batch.dense.shape == (6, count, 3)
        assert data[1].dense_labels is not None and torch.allclose(
            data[1].dense_labels, batch.dense[1].softmax(-1), atol=1e-4
        )
        if views == "stored":
            theirs = next(iter(plain.loader(6)))
            assert torch.equal(batch.views().pixels, theirs.views().pixels)
            assert torch.equal(data.views(batch.image), plain.views(theirs.image))


def test_students_train_on_labels_made_on_the_fly(
    trained: tuple[Path, TrainedProjector], backbone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = ladd.load_online(trained[0], "hello", backbone=backbone)
    recipe = RECIPES["hello"].model_copy(update={"epochs": 1, "batch_size": 3, "augmentation": None})
    student = describe_network("convnet-d3", width=4, classes=3, channels=3, size=32)
    results = train_students(data, student, recipe, make_images(9), 1)

    assert results.run.dataset == data.manifest.digest != ladd.load(trained[0]).manifest.digest
    assert results.seeds[0].steps == 2


def test_what_would_build_networks_elsewhere_is_refused(trained: tuple[Path, TrainedProjector], backbone: Path) -> None:
    data = ladd.load_online(trained[0], "hello", backbone=backbone)

    for send, match in (
        (lambda: pickle.dumps(data), "call load_online there"),
        (lambda: data.to_torch(), "come from the loader"),
        (lambda: data.to_datasets(), "come from the loader"),
        (lambda: data.views(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)), "drawn anew each epoch"),
    ):
        with pytest.raises(ladd.UsageError, match=match):
            send()


def test_no_network_is_built_unless_asked_for(
    trained: tuple[Path, TrainedProjector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "build_backbone", None)

    with pytest.raises(ladd.UsageError, match=r'label set "hello" is a projector.*ladd_data.load_online'):
        ladd.load(trained[0], labels="hello")
    assert ladd.validate(trained[0]).valid
    assert next(iter(ladd.load(trained[0]).loader(2))).dense is not None


@pytest.mark.parametrize("name", [WEIGHTS, "labels/hello/head.safetensors"])
def test_a_tampered_file_is_refused_by_its_digest(copy: Path, backbone: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-3] ^= 1
    (copy / name).write_bytes(data)

    for read in (
        lambda: ladd.load_online(copy, "hello", backbone=backbone),
        lambda: pytest.fail("valid") if ladd.validate(copy).valid else _raise(copy),
    ):
        with pytest.raises(ladd.DatasetError, match=rf"{name}: found sha256 .* \(LADD-102\)"):
            read()


def _raise(folder: Path) -> None:
    raise ladd.DatasetError(ladd.validate(folder).problems)


def test_a_backbone_of_another_digest_is_refused(copy: Path, backbone: Path, tmp_path: Path) -> None:
    other = make_backbone(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(ladd.LabelError, match=r"another SHA-256; expected .* that the projector was trained upon"):
        ladd.load_online(copy, "hello", backbone=other)
    with pytest.raises(ladd.UsageError, match=r"neither in the label set nor on the Hub.*--backbone-weights PATH"):
        ladd.load_online(copy, "hello")
    with pytest.raises(ladd.UsageError, match=r"no-such-file: no such file"):
        ladd.load_online(copy, "hello", backbone=tmp_path / "no-such-file")


def test_a_backbone_from_the_hub_is_named_by_commit_and_compared_with_its_digest(
    copy: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads((copy / STATEMENT).read_bytes())
    document["projector"]["backbone"]["weights"] |= {"reference": "timm/test", "revision": "0" * 40}
    document["digest"] = projector_digest(ProjectorSet.model_validate_json(json.dumps(document)))
    (copy / STATEMENT).write_bytes(canonical_json(document))
    asked = []

    def download(reference: str, file: str, revision: str) -> str:
        asked.append((reference, file, revision))
        return str(backbone)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    ladd.load_online(copy, "hello")
    assert asked == [("timm/test", "backbone.safetensors", "0" * 40)]
    make_backbone(backbone.with_name("changed.safetensors"), seed=2)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: backbone.with_name("changed.safetensors"))
    with pytest.raises(ladd.LabelError, match=r"backbone.safetensors of timm/test: another SHA-256"):
        ladd.load_online(copy, "hello")


def test_without_a_file_timms_published_weights_are_downloaded_and_named(
    unlabelled: Path, backbone: Path, labeler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshots" / ("0123456789" * 4) / "model.safetensors"
    snapshot.parent.mkdir(parents=True)
    shutil.copyfile(backbone, snapshot)
    shutil.copytree(unlabelled, tmp_path / "data")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(snapshot))
    plan = make_plan(backbone, training=replace_epochs(1))
    plan = replace(plan, backbone=replace(plan.backbone, weights=None))
    data, teachers = ladd.load(tmp_path / "data"), [ladd.load_labeler(labeler)]

    made = train_projector(data, "hello", plan, teachers, make_images())

    stated = made.statement.projector.backbone.weights
    assert (stated.reference, stated.revision) == ("timm/test_byobnet.r160_in1k", "0123456789" * 4)
    assert (stated.file, stated.kept) == ("model.safetensors", False)
    ladd.load_online(tmp_path / "data", "hello")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--backbone", "resnet18"], 'backbone "resnet18": expected one of timm'),
        (["--backbone", "timm:resnet18x"], 'timm has no network "resnet18x"'),
        (["--backbone-reference", "timm/x", "--backbone-revision", "main"], "a commit of 40 hexadecimal digits"),
        (["--backbone-reference", "timm/x"], "--backbone-reference and --backbone-revision go together"),
        (["--lr", "nan"], "--lr, --temperature and --alpha: expected a number above 0"),
        (["--head", "text"], "--text goes with --head text"),
        (["--head", "what"], "--head what: expected prototypes, text, zeros"),
        (["--views", "5"], "--views 5: expected random, full, or a grid"),
        (["--resume", "--overwrite"], "give one of them"),
        (["--as", "../out"], r'label set "\.\./out": expected 1 to 64 letters'),
    ],
)
def test_calls_that_make_no_sense_end_with_a_sentence(
    copy: Path,
    backbone: Path,
    labeler: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    match: str,
) -> None:
    images = make_images(12)
    np.savez(tmp_path / "real.npz", images=images.images.transpose(0, 2, 3, 1), labels=images.labels)
    call_with = ["--teacher", labeler, "--data", tmp_path / "real.npz", "--backbone", BACKBONE, "--size", 32]
    call_with += ["--as", "new", "--backbone-weights", backbone, "--device", "cpu", *options]

    assert call(monkeypatch, "train-projector", copy, *call_with) == 2
    assert re.search(match, capsys.readouterr().err)
    assert list_projectors(copy) == ["hello"]


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("head.bias absent", lambda tensors: tensors.pop("head.bias")),
        (r"head.lora_A.weight \[2, 256\]", lambda tensors: tensors.update({"head.lora_A.weight": torch.zeros(2, 256)})),
        ("a tensor 'more'", lambda tensors: tensors.update(more=torch.zeros(2))),
        ("lora_A.weight alone", lambda tensors: tensors.update({f"{ADAPTER}x.lora_A.weight": torch.zeros(4, 2)})),
        ("NaN or infinity in head.bias", lambda tensors: tensors["head.bias"].fill_(torch.nan)),
        ("head.bias of F64", lambda tensors: tensors.update({"head.bias": torch.zeros(3, dtype=torch.float64)})),
    ],
)
def test_tensors_that_no_projector_has_are_refused(copy: Path, backbone: Path, what: str, change: Any) -> None:
    put_weights(copy, change)

    with pytest.raises(ladd.DatasetError, match=rf"{WEIGHTS}: found .*{what}.*\(LADD-103\)"):
        _raise(copy)
    with pytest.raises(ladd.DatasetError, match=r"LADD-103"):
        ladd.load_online(copy, "hello", backbone=backbone)


def test_adapters_of_layers_that_the_backbone_does_not_have_are_refused(copy: Path, backbone: Path) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        first = next(name for name in tensors if name.endswith("lora_A.weight") and name.startswith(ADAPTER))
        for side in "AB":
            old = first.replace("lora_A", f"lora_{side}")
            tensors[old.replace(ADAPTER, f"{ADAPTER}x.")] = tensors.pop(old)

    put_weights(copy, rename)
    with pytest.raises(ladd.LabelError, match=r"found \[.*expected absent|found absent; expected"):
        ladd.load_online(copy, "hello", backbone=backbone)


def test_a_pickle_in_the_place_of_weights_is_not_opened(copy: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.safetensors"
    evil.write_bytes(pickle.dumps(Evil(str(tmp_path / "ran"))))
    shutil.copyfile(evil, copy / WEIGHTS)
    edit_statement(copy, "projector.bytes", evil.stat().st_size)
    edit_statement(copy, "projector.sha256", sha256_file(evil))
    edit_statement(copy, "projector.backbone.weights.bytes", evil.stat().st_size)
    edit_statement(copy, "projector.backbone.weights.sha256", sha256_file(evil))
    with pytest.raises(ladd.DatasetError, match=r"LADD-103|LADD-080"):
        ladd.load_online(copy, "hello", backbone=evil)
    with pytest.raises(ladd.LabelError, match=r"evil.safetensors: not a readable safetensors file"):
        network_module.load_backbone(build_backbone(BACKBONE, 0, 32), evil)
    assert not (tmp_path / "ran").exists()


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize(
    ("path", "value", "clause"),
    [
        ("images", "0" * 64, "LADD-101"),
        ("classes", "0" * 64, "LADD-101"),
        ("width", 4, "LADD-101"),
        ("projector.backbone.name", "module:factory", "LADD-010"),
        ("projector.backbone.name", "timm:hf-hub:evil/net", "LADD-010"),
        ("projector.backbone.weights.file", "../weights.safetensors", "LADD-010"),
        ("projector.backbone.weights.file", "weights.bin", "LADD-010"),
        ("projector.head.base", None, "LADD-013"),
        ("name", "other", "LADD-100"),
        ("requires", ["telepathy"], "LADD-012"),
    ],
)
def test_statements_that_do_not_hold_are_refused(copy: Path, path: str, value: Any, clause: str) -> None:
    edit_statement(copy, path, value)

    with pytest.raises(ladd.DatasetError, match=clause):
        open_projector(read_metadata(copy), "hello")
    assert clause in {problem.clause for problem in ladd.validate(copy).problems}


def test_a_digest_that_is_not_over_the_statement_is_refused(copy: Path) -> None:
    document = json.loads((copy / STATEMENT).read_bytes())
    document["projector"]["head"]["temperature"] = 2.0
    (copy / STATEMENT).write_bytes(canonical_json(document))

    with pytest.raises(ladd.DatasetError, match=r"projector.json, digest: found .* \(LADD-101\)"):
        open_projector(read_metadata(copy), "hello")


def test_another_network_than_was_trained_shows_at_the_golden_images(copy: Path, backbone: Path) -> None:
    edit_statement(copy, "projector.head.temperature", 3.0)

    with pytest.raises(ladd.LabelError, match=r'golden image "\w+": the network gives class \d 0\.\d+; expected'):
        ladd.load_online(copy, "hello", backbone=backbone)
    ladd.load_online(copy, "hello", backbone=backbone, verify=False)


def test_a_set_may_keep_its_backbone_and_float16_halves_the_rest(
    unlabelled: Path, backbone: Path, labeler: Path, tmp_path: Path, trained: tuple[Path, TrainedProjector]
) -> None:
    folder = tmp_path / "kept"
    shutil.copytree(unlabelled, folder)
    head = HeadChoice("zeros")
    live = make_projector(folder, backbone, labeler, keep=True, dtype="float16", head=head, views=Full())
    data = ladd.load_online(folder, "hello")

    pixels = torch.zeros(2, 1, 3, 32, 32)
    assert torch.equal(data.label(pixels), live.network.label(pixels))
    files = open_projector(read_metadata(folder), "hello")
    assert files.statement.public_bytes == 0 and (folder / "labels/hello/backbone.safetensors").is_file()
    assert files.statement.projector.bytes < 0.6 * trained[1].statement.projector.bytes
    assert ladd.validate(folder).problems == ()
    batch = next(iter(data.loader(6, placement="streaming")))
    assert batch.dense is not None and batch.dense.shape == (6, 1, 3)


def test_a_head_may_begin_with_text_embeddings(unlabelled: Path, backbone: Path, labeler: Path, tmp_path: Path) -> None:
    folder, text = tmp_path / "text", tmp_path / "text.safetensors"
    shutil.copytree(unlabelled, folder)
    save_file({"embeddings": torch.randn(3, 256, generator=torch.Generator().manual_seed(0))}, text)
    choice = HeadChoice("text", text, unit_features=True, temperature=0.5, keep=False)
    live = make_projector(folder, backbone, labeler, head=choice, training=replace_epochs(1))

    assert live.statement.public_bytes == backbone.stat().st_size + text.stat().st_size
    with pytest.raises(ladd.UsageError, match=r"the head's start: .*--head-weights PATH"):
        ladd.load_online(folder, "hello", backbone=backbone)
    data = ladd.load_online(folder, "hello", backbone=backbone, head=text)
    pixels = torch.zeros(1, 1, 3, 32, 32)
    assert torch.equal(data.label(pixels), live.network.label(pixels))
    save_file({"embeddings": torch.zeros(4, 256)}, text)
    with pytest.raises(ladd.LabelError, match=r"text.safetensors: float32 \[4, 256\]; expected floats \[3, 256\]"):
        make_projector(folder, backbone, labeler, "other", head=choice)


def replace_epochs(epochs: int) -> Any:
    return TRAINING.model_copy(update={"epochs": epochs})


def test_a_run_that_was_cut_short_goes_on_and_gives_the_same_bytes(
    unlabelled: Path, backbone: Path, labeler: Path, tmp_path: Path
) -> None:
    weights = []
    for name, stops in (("whole", False), ("resumed", True)):
        folder = tmp_path / name
        shutil.copytree(unlabelled, folder)
        if stops:
            with pytest.raises(KeyboardInterrupt):
                make_projector(folder, backbone, labeler, on_epoch=_interrupt)
            assert list_projectors(folder) == [] and ladd.validate(folder).problems == ()
            with pytest.raises(ladd.UsageError, match=r"an earlier run did not finish. Go on with --resume"):
                make_projector(folder, backbone, labeler)
            with pytest.raises(ladd.UsageError, match=r"other settings: .*lr was 0.001, is 0.5"):
                other = TRAINING.model_copy(update={"lr": 0.5})
                make_projector(folder, backbone, labeler, training=other, resume=True)
        make_projector(folder, backbone, labeler, resume=stops)
        weights.append((folder / WEIGHTS).read_bytes())
        assert [item.name for item in (folder / "labels").iterdir()] == ["hello"]

    assert weights[0] == weights[1]


def _interrupt(epoch: int, loss: float, accuracy: float) -> None:
    raise KeyboardInterrupt


def test_training_lowers_the_distance_to_the_teacher(trained: tuple[Path, TrainedProjector], labeler: Path) -> None:
    statement = trained[1].statement

    assert statement.training is not None and len(statement.training.history) == 2
    assert statement.teachers[0].weights_digest == ladd.load_labeler(labeler).digest


def test_several_weak_teachers_are_averaged_and_strangers_refused(
    unlabelled: Path, backbone: Path, labeler: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(unlabelled, folder)
    data, plan, images = ladd.load(folder), make_plan(backbone, training=replace_epochs(1)), make_images()
    teachers = [ladd.load_labeler(labeler), ladd.load_labeler(make_labeler(tmp_path / "b.safetensors", seed=1))]
    assert len(train_projector(data, "two", plan, teachers, images).statement.teachers) == 2

    small = make_labeler(tmp_path / "small.safetensors", size=16)
    with pytest.raises(ladd.UsageError, match=r"takes images \(3, 16, 16\); the dataset's are \(3, 32, 32\)"):
        train_projector(data, "no", plan, [ladd.load_labeler(small)], images)
    turned = CLASSES.model_copy(update={"names": CLASSES.names[::-1]})
    other = make_labeler(tmp_path / "other.safetensors", turned)
    with pytest.raises(ladd.UsageError, match=r"its classes are not the dataset's"):
        train_projector(data, "no", plan, [ladd.load_labeler(other)], images)
    with pytest.raises(ladd.UsageError, match=r"--teacher LABELER"):
        train_projector(data, "no", plan, [], images)
    with pytest.raises(ladd.UsageError, match=r"labels/two: exists already"):
        train_projector(data, "two", plan, teachers, images)
    assert list_projectors(folder) == ["two"]


def test_without_timm_the_message_says_what_to_install(
    trained: tuple[Path, TrainedProjector], backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(ladd.UsageError, match=r'timm is not installed: run "pip install ladd-data\[projector\]"'):
        ladd.load_online(trained[0], "hello", backbone=backbone)
    assert ladd.validate(trained[0]).valid


def test_the_adapters_are_those_that_peft_would_make(backbone: Path) -> None:
    peft = pytest.importorskip("peft")
    ours, theirs = (build_backbone(BACKBONE, 0, 32) for _ in range(2))
    for network in (ours, theirs):
        network_module.load_backbone(network, backbone)
    layers = adapt(ours, Adapters(rank=4, alpha=8))
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=layers)
    wrapped = peft.get_peft_model(theirs, config)
    tensors = adapter_tensors(ours, layers)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
    loaded = peft.set_peft_model_state_dict(wrapped, tensors)

    assert not loaded.unexpected_keys
    images = torch.randn(2, 3, 32, 32, generator=generator)
    with torch.no_grad():
        assert torch.allclose(ours(images), wrapped.eval()(images), atol=1e-4)


def test_adapters_of_clips_rn50_take_three_megabytes() -> None:
    with torch.device("meta"):
        network = build_backbone("timm:resnet50_clip", 1024, 224)
        layers = adapt(network, Adapters(rank=8))
        features = network(torch.zeros(1, 3, 224, 224))

    assert features.shape == (1, 1024) and any("attn" in name or "head" in name for name in layers)
    assert sum(tensor.numel() for tensor in adapter_tensors(network, layers).values()) == 762_584
    assert all(not parameter.requires_grad for name, parameter in network.named_parameters() if "lora_" not in name)
    assert isinstance(network, nn.Module)


def test_the_command_line_trains_lists_and_removes_a_projector(
    copy: Path,
    backbone: Path,
    labeler: Path,
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = make_images()
    np.savez(tmp_path / "real.npz", images=images.images.transpose(0, 2, 3, 1), labels=images.labels)
    options = ["--teacher", labeler, "--data", tmp_path / "real.npz", "--backbone", BACKBONE, "--size", 32]
    options += ["--backbone-weights", backbone, "--epochs", 1, "--rank", 2, "--device", "cpu"]
    assert call(monkeypatch, "train-projector", copy, "--as", "second", *options) == 0
    assert "wrote label set second" in capsys.readouterr().out
    assert call(monkeypatch, "labels", copy) == 0
    out = capsys.readouterr().out
    assert f"hello: projector (random boxes, drawn anew each epoch), {BACKBONE}, rank 4, head of rank 3" in out
    assert call(monkeypatch, "labels", copy, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["labels"]
    assert [row["name"] for row in rows] == ["default", "hello", "second"]
    assert rows[1]["with_public_files"] == rows[1]["bytes"] + backbone.stat().st_size
    assert call(monkeypatch, "info", copy) == 0
    assert "projector hello: " in capsys.readouterr().out
    train = ["--labels", "hello", "--backbone-weights", backbone, "--val", tmp_path / "real.npz", "--seeds", 1]
    train += ["--model", "convnet-d3", "--width", 4, "--epochs", 1, "--device", "cpu", "--recipe", "hello"]
    assert call(monkeypatch, "train", copy, *train, "--set", "augmentation=none") == 0
    for name in ("hello", "second"):
        assert call(monkeypatch, "labels", copy, "--remove", name) == 0
    assert content(copy) == content(labelled)


def test_an_export_takes_the_projector_along_and_a_report_tells_of_it(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, "export", copy, "-o", tmp_path / "arrow", "--to", "arrow") == 0

    names = ("labels/hello/projector.json", WEIGHTS, "labels/hello/head.safetensors")
    for name in names:
        assert (tmp_path / "arrow" / name).read_bytes() == (copy / name).read_bytes()
    assert ladd.validate(tmp_path / "arrow").problems == ()
    write_report(copy, tmp_path / "report.html")
    assert "The label set hello is a projector" in (tmp_path / "report.html").read_text()
