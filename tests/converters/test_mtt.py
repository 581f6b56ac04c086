"""The MTT converter, on genuine runs where shared/ has them, and on files made by hand everywhere."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from ladd_converters.datm import DatmConverter
from ladd_converters.ftd import FtdConverter
from ladd_converters.glad import GladConverter
from ladd_converters.mtt import MttConverter
from ladd_converters.tensors import TensorsConverter
from ladd_converters.tesla import TeslaConverter
from ladd_converters.torch_files import read_tensor
from mtt_runs import (
    ABC,
    BENCH,
    CIFAR,
    HAND,
    IMAGES,
    LABELS,
    MTT,
    NAN_RUN,
    OPTIONS,
    SYSTEM,
    UPSTREAM,
    cifar,
    everything_in,
    genuine,
    ladd,
    refusal,
    save_run,
    save_zca_run,
    torch_bytes,
)

from ladd_data import Answers, ConvertError, Normalization
from ladd_data.pixels import CLIP_RMSE_LIMIT
from ladd_data.presets import NORMALIZATIONS
from ladd_data.testing import check_converter

# Genuine runs


@genuine
@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("mtt/ipc1", {"mtt"}),
        ("mtt/ipc1-zca", {"mtt"}),
        ("mtt/cpu-nan-ipc1", {"mtt"}),
        ("mtt/thirdparty-dcbench", {"mtt"}),
        ("tesla/ipc1-zca", {"mtt"}),
        ("ftd/ipc1-zca", {"ftd"}),
        ("ftd/ipc1-zca/logged_files", {"ftd"}),
        ("datm/ipc1-nozca-real", {"datm"}),
        ("datm/ipc1-zca-spc", {"datm"}),
        ("glad/dm-pixel-cifar10", {"glad"}),
        ("kmeans-random/thirdparty-dcbench/random", {"tensors"}),
        ("bad-inputs/git-lfs-pointer", {"mtt"}),
        ("dc", set()),
        ("frepo", set()),
        ("sre2l", set()),
    ],
)
def test_each_genuine_run_is_known_to_its_own_converter_only(path: str, known: set[str]) -> None:
    family = (MttConverter(), TeslaConverter(), FtdConverter(), DatmConverter(), GladConverter(), TensorsConverter())

    assert {converter.name for converter in family if converter.detect(UPSTREAM / path)} == known
    for converter in family:
        if converter.name in known:
            description = converter.describe(UPSTREAM / path)
            assert description.files and description.asks and description.reason


@genuine
@pytest.mark.parametrize(("iteration", "name"), [("0", "images_0.pt"), ("best", "images_best.pt")])
def test_an_iteration_of_a_genuine_run_is_chosen(tmp_path: Path, iteration: str, name: str) -> None:
    answers = Answers(CIFAR.normalization, CIFAR.classes, iteration=iteration)

    manifest = check_converter(MttConverter(), MTT / "ipc1", answers, tmp_path)

    assert manifest.distillation.files[0].path == name
    assert manifest.distillation.asserted["iteration"] == iteration


@genuine
def test_a_published_folder_named_zca_is_not_taken_as_an_ordinary_run() -> None:
    folder = BENCH / "TrajectoryMatching/CIFAR10/IPC10/ZCA"

    error = refusal(folder / "images_5000.pt", CIFAR)

    assert error.exit_code == 1 and "--whitening whitened" in str(error) and "--images" in str(error)
    assert MttConverter().read(folder / "images_5000.pt", cifar("whitened")).whitening == "zca"


@genuine
@pytest.mark.parametrize(
    ("path", "answers", "count", "iteration"),
    [
        (MTT / "ipc1", CIFAR, 10, "best"),
        (BENCH / "TM/CIFAR10/IPC1", CIFAR, 10, "best"),
        (BENCH / "TM/CIFAR10/IPC10", CIFAR, 100, "best"),
        (BENCH / "TrajectoryMatching/CIFAR10/IPC10/NO_ZCA/images_5000.pt", CIFAR, 100, "5000"),
        (BENCH / "TrajectoryMatching/CIFAR10/IPC1/ZCA/images_zca_5000.pt", cifar("dewhitened"), 10, "5000"),
        (MTT / "ipc1-zca", cifar("whitened"), 10, "best"),
        (MTT / "ipc1-zca", cifar("dewhitened"), 10, "6"),
        (NAN_RUN, CIFAR, 10, "best"),
    ],
    ids=lambda value: f"{value.parent.name}/{value.name}" if isinstance(value, Path) else None,
)
def test_genuine_runs_convert(tmp_path: Path, path: Path, answers: Answers, count: int, iteration: str) -> None:
    manifest = check_converter(MttConverter(), path, answers, tmp_path)

    assert (manifest.images.count, manifest.distillation.ipc) == (count, count // 10)
    assert manifest.distillation.read["iteration"] == iteration
    assert manifest.images.whitening == ("zca" if answers.whitening == "whitened" else "none")


@genuine
def test_the_dewhitened_pixels_are_of_the_iteration_that_equals_the_best() -> None:
    run = MTT / "ipc1-zca/logged_files/CIFAR10/ipc1-zca"

    distilled = MttConverter().read(run, cifar("dewhitened"))

    assert distilled.files == (run / "images_zca_6.pt", run / "labels_best.pt")
    assert torch.equal(read_tensor(run / "images_6.pt"), read_tensor(run / "images_best.pt"))
    assert distilled.normalization == NORMALIZATIONS["none"]


@genuine
@pytest.mark.parametrize("name", ["images_2.pt", "images_4.pt"])
def test_genuine_nan_files_are_refused_beside_a_good_best(name: str) -> None:
    error = refusal(NAN_RUN / name, CIFAR)

    assert isinstance(error, ConvertError) and "10 of 10 images" in str(error)


@genuine
@pytest.mark.parametrize(
    ("images", "labels", "found"),
    [
        ("IPC10/ZCA/images_5000.pt", "IPC10/ZCA/labels_best_ipc10.pt", "100 images and 500 labels"),
        ("IPC10/NO_ZCA/images_5000.pt", "IPC1/ZCA/labels_5000.pt", "100 images and 10 labels"),
    ],
)
def test_genuine_length_mismatches_are_refused(images: str, labels: str, found: str) -> None:
    folder = BENCH / "TrajectoryMatching/CIFAR10"
    pair = Answers(CIFAR.normalization, CIFAR.classes, images=folder / images, labels=folder / labels)

    assert found in str(refusal(folder, pair))


@genuine
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mtt/ipc1-zca", ["ZCA", "--whitening dewhitened", "--whitening whitened"]),
        ("bad-inputs/git-lfs-pointer", ["Git-LFS pointer", "git lfs pull"]),
        ("datm/ipc1-nozca-real", ["float32 [10, 10]", "DATM"]),
    ],
)
def test_genuine_runs_that_are_not_plain_mtt_are_refused(path: str, words: list[str]) -> None:
    error = refusal(UPSTREAM / path, CIFAR)

    assert error.exit_code == 1
    assert all(word in str(error) for word in words)


# Files made by hand: what is accepted


@pytest.mark.parametrize(
    ("images", "labels", "also_read"),
    [
        pytest.param(IMAGES, LABELS, {}, id="plain"),
        pytest.param(torch_bytes(IMAGES, _use_new_zipfile_serialization=False), LABELS, {}, id="legacy-file"),
        pytest.param(IMAGES.clone().requires_grad_(), LABELS, {}, id="requires-grad"),
        pytest.param(IMAGES.double(), LABELS, {"images_dtype": "float64"}, id="float64"),
        pytest.param(IMAGES.bfloat16(), LABELS, {"images_dtype": "bfloat16"}, id="bfloat16"),
        pytest.param(IMAGES.mT[:, :, 1:], LABELS, {}, id="strided-and-not-square"),
        pytest.param(IMAGES * 0 + 0.3, LABELS, {}, id="constant"),
        pytest.param(IMAGES, LABELS.float(), {"labels_dtype": "float32"}, id="float-ids"),
        pytest.param(IMAGES, LABELS.to(torch.uint8), {"labels_dtype": "uint8"}, id="uint8-ids"),
        pytest.param(IMAGES, LABELS[torch.tensor([5, 0, 3, 2, 1, 4])], {}, id="not-class-by-class"),
        pytest.param(IMAGES, torch.tensor([0, 1, 1, 1, 2, 2]), {}, id="uneven"),
    ],
)
def test_what_holds_the_same_facts_is_accepted(
    tmp_path: Path, images: object, labels: object, also_read: dict[str, str]
) -> None:
    run = save_run(tmp_path / "run", images, labels)

    manifest = check_converter(MttConverter(), run, HAND, tmp_path)

    assert manifest.distillation.read == {"zca_files_present": False, "iteration": "best", **also_read}


@pytest.mark.parametrize("folder", ["with space", "[brackets]*", "ünï-日本", "-dash", "deep/er/run"])
def test_any_path_is_accepted(tmp_path: Path, folder: str) -> None:
    save_zca_run(tmp_path / "source" / folder)
    answers = Answers(classes=ABC, whitening="dewhitened")

    manifest = check_converter(MttConverter(), tmp_path / "source", answers, tmp_path)

    assert manifest.distillation.read == {"zca_files_present": True, "iteration": "3"}


def test_greyscale_28x28_is_accepted_with_and_without_whitening(tmp_path: Path) -> None:
    digits = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    run = save_run(tmp_path / "run", digits, torch.arange(3))
    mnist = Answers(normalization=NORMALIZATIONS["mnist"], classes=ABC)

    plain = check_converter(MttConverter(), run, mnist, tmp_path / "1")
    torch.save(digits, run / "images_zca_best.pt")
    raw = check_converter(MttConverter(), run, Answers(classes=ABC, whitening="dewhitened"), tmp_path / "2")

    assert (plain.images.channels, plain.images.height) == (raw.images.channels, raw.images.height) == (1, 28)
    assert raw.images.normalization == Normalization(mean=(0.0,), std=(1.0,))


def test_symbolic_links_and_tensors_of_a_gpu_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    real = save_run(tmp_path / "real")
    assert b"cuda:0" in (real / "images_best.pt").read_bytes()
    link = tmp_path / "link"
    link.mkdir()
    for name in ("images_best.pt", "labels_best.pt"):
        (link / name).symlink_to(real / name)

    check_converter(MttConverter(), link, HAND, tmp_path)


def test_a_named_pair_is_recorded_as_asserted(tmp_path: Path) -> None:
    save_run(tmp_path)
    torch.save(IMAGES, tmp_path / "mine.pt")
    pair = Answers(HAND.normalization, ABC, images=tmp_path / "mine.pt", labels=tmp_path / "labels_best.pt")

    manifest = check_converter(MttConverter(), tmp_path, pair, tmp_path)

    assert "iteration" not in manifest.distillation.read
    assert manifest.distillation.asserted["images"] == "mine.pt"


@pytest.mark.parametrize(("spread", "mode"), [(1.0, "clip"), (1.02, "clip"), (3.0, "range")])
def test_pixels_are_clipped_only_while_that_is_cheap(tmp_path: Path, spread: float, mode: str) -> None:
    manifest = check_converter(MttConverter(), save_run(tmp_path / "run", IMAGES * spread), HAND, tmp_path)

    quantization = manifest.images.quantization
    assert quantization.clip is not None and quantization.range is not None
    assert (quantization.clip.rmse <= CLIP_RMSE_LIMIT) == (mode == "clip")
    assert quantization.mode == mode
    assert quantization.error == getattr(quantization, mode)


# Files made by hand: what is refused


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        pytest.param(IMAGES.index_fill(0, torch.tensor([1, 4]), torch.nan), LABELS, "2 of 6 images", id="nan"),
        pytest.param(IMAGES.double() * 1e300, LABELS, "infinity in 6 of 6", id="beyond-float32"),
        pytest.param(IMAGES, LABELS[:4], "6 images and 4 labels", id="lengths"),
        pytest.param(IMAGES, LABELS + 1, "labels 1 .. 3; expected 0 .. 2", id="label-too-large"),
        pytest.param(IMAGES, LABELS - 1, "labels -1 .. 1; expected 0 .. 2", id="label-negative"),
        pytest.param(IMAGES, LABELS.clamp(max=1), 'no image of class "c"', id="missing-class"),
        pytest.param(IMAGES, torch.tensor([0, 0, 1, 1, 2.5, torch.inf]), "not whole", id="fractions"),
        pytest.param(IMAGES, torch.full((6, 3), 1 / 3), "TESLA writes probabilities and DATM logits", id="soft"),
        pytest.param(IMAGES, LABELS.to(torch.complex64), "complex64 [6]", id="complex-labels"),
        pytest.param((IMAGES * 255).to(torch.uint8), LABELS, "uint8 [6, 3, 8, 8]; expected floats", id="int-images"),
        pytest.param(IMAGES[0], LABELS, "[3, 8, 8]; expected floats [n, channels", id="3-d"),
        pytest.param(IMAGES[:0], LABELS[:0], "(0, 3, 8, 8)", id="no-images"),
        pytest.param(IMAGES[:, :1], LABELS, "1 channel(s); expected 3", id="normalization-of-3"),
    ],
)
def test_what_cannot_become_a_dataset_is_refused(tmp_path: Path, images: object, labels: object, words: str) -> None:
    error = refusal(save_run(tmp_path, images, labels), HAND)

    assert isinstance(error, ConvertError) and error.exit_code == 1
    assert words in str(error) and "_best.pt" in str(error)


class Reduce:
    """A pickle of this runs a shell command when it is opened carelessly."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("position", ["images", "labels"])
@pytest.mark.parametrize("kind", ["pickle", "pickle-4", "zip-global", "zip-reduce", "legacy-reduce", "beside-tensor"])
def test_a_malicious_file_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], position: str, kind: str
) -> None:
    evil, canary = Reduce(f"touch '{tmp_path}/canary'"), tmp_path / "canary"
    content: object = {
        "pickle": pickle.dumps(evil, protocol=2),
        "pickle-4": pickle.dumps(evil, protocol=4),
        "zip-global": torch_bytes(os.system),
        "zip-reduce": torch_bytes(evil),
        "legacy-reduce": torch_bytes(evil, _use_new_zipfile_serialization=False),
        "beside-tensor": torch_bytes([IMAGES, evil]),
    }[kind]
    pair = {"images": IMAGES, "labels": LABELS, position: content}
    run = save_run(tmp_path / "run", pair["images"], pair["labels"])

    code = ladd(monkeypatch, "convert", "mtt", run, "-o", tmp_path / "out", *OPTIONS)

    message = capsys.readouterr().err
    assert code == 1 and f"{position}_best.pt" in message and "Nothing in it was run" in message
    assert SYSTEM in message or kind == "pickle-4"
    assert not canary.exists()
    assert everything_in(tmp_path) == ["run", "run/images_best.pt", "run/labels_best.pt"]
