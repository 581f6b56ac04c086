"""Training a labeler: resumed or straight, alone or by two processes, the weights are what the settings say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ladd_data.cli import main
from ladd_data.errors import LabelError, UsageError
from ladd_data.labeling.labeler import LabelerDescription, TrainingRecord, load_labeler
from ladd_data.labeling.training.progress import state_path
from ladd_data.labeling.training.train import Keep, LabelerPlan, train_labeler
from ladd_data.manifest import Classes, Network, Normalization
from ladd_data.models import describe_network
from ladd_data.models.arithmetic import count_training_flops
from ladd_data.sources import ImageSet

HALF = Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
CLASSES = Classes(names=("dark", "light", "striped"))


def make_images(count: int = 30, size: int = 8, seed: int = 0) -> ImageSet:
    """Three kinds of pictures that a small network can tell apart."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 3
    images = generator.integers(0, 60, (count, 3, size, size)).astype(np.uint8)
    images[labels == 1] += 190
    images[labels == 2, :, ::2] += 190
    return ImageSet("made", images, labels, CLASSES.names)


def make_plan(network: Network | None = None, **settings: object) -> LabelerPlan:
    fields = {"source": "made", "epochs": 3, "lr": 0.05, "momentum": 0.9, "batch_size": 7, **settings}
    small = describe_network("convnet-d3", classes=3, channels=3, size=8, width=4)
    return LabelerPlan(network or small, CLASSES, HALF, TrainingRecord.model_validate(fields))


def train(out: Path, plan: LabelerPlan | None = None, **options: object) -> LabelerDescription:
    return train_labeler(plan or make_plan(), make_images(), make_images(9, seed=1), out, **options)  # type: ignore[arg-type]


def stop_after(epochs: int, out: Path, plan: LabelerPlan | None = None, **options: object) -> None:
    """Train and be interrupted when so many epochs are done."""

    def on_epoch(epoch: int, loss: float, share: float) -> None:
        if epoch == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(out, plan, on_epoch=on_epoch, **options)


@pytest.mark.parametrize(
    ("name", "epochs"),
    [("convnet-d3", 1), ("convnet-d3", 2), ("torchvision:shufflenet_v2_x0_5", 1), ("vit-cifar", 1)],
)
def test_a_resumed_run_gives_the_bytes_of_a_straight_one(tmp_path: Path, name: str, epochs: int) -> None:
    size = 32 if name.startswith("torchvision") else 8
    network = describe_network(name, classes=3, channels=3, size=size, width=4 if name == "convnet-d3" else None)
    plan = make_plan(network, batch_size=15, epochs=3 if name == "convnet-d3" else 2)
    images, val = make_images(30, size), make_images(9, size, 1)
    straight, resumed = tmp_path / "straight.safetensors", tmp_path / "resumed.safetensors"
    train_labeler(plan, images, val, straight, keep=Keep(tmp_path / "a"))

    def stop(epoch: int, loss: float, share: float) -> None:
        if epoch == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_labeler(plan, images, val, resumed, on_epoch=stop, keep=Keep(tmp_path / "b"))
    assert not resumed.exists() and state_path(resumed).is_file()
    description = train_labeler(plan, images, val, resumed, keep=Keep(tmp_path / "b", resume=True))

    assert load_labeler(resumed).digest == load_labeler(straight).digest
    assert description.history == load_labeler(straight).description.history
    assert not state_path(resumed).exists()
    for epoch in range(1, plan.training.epochs + 1):
        both = [load_labeler(tmp_path / folder / f"epoch-00{epoch}.safetensors").digest for folder in "ab"]
        assert both[0] == both[1]


def test_changed_settings_refuse_to_resume_and_say_which(tmp_path: Path) -> None:
    out = tmp_path / "labeler.safetensors"
    stop_after(1, out)

    with pytest.raises(UsageError, match=r"other settings: lr was 0\.05, is 0\.06; seed was 0, is 1\. "):
        train(out, make_plan(lr=0.06, seed=1), keep=Keep(resume=True))
    with pytest.raises(UsageError, match="training images was"):
        train_labeler(make_plan(), make_images(seed=5), make_images(9, seed=1), out, keep=Keep(resume=True))
    with pytest.raises(UsageError, match="--resume"):
        train(out)
    assert state_path(out).is_file()


@pytest.mark.parametrize("part", ["header", "weights", "end"])
def test_a_damaged_state_is_not_trusted(tmp_path: Path, part: str) -> None:
    out = tmp_path / "labeler.safetensors"
    stop_after(1, out)
    data = bytearray(state_path(out).read_bytes())
    if part == "header":
        data = bytearray(data.replace(b'history\\":[', b'history\\":[1.0,', 1))
        data[:8] = (int.from_bytes(data[:8], "little") + 4).to_bytes(8, "little")
    elif part == "weights":
        data[-1] ^= 1
    else:
        del data[-9:]
    state_path(out).write_bytes(data)

    with pytest.raises(LabelError, match=r"digest|not a readable state"):
        train(out, keep=Keep(resume=True))


def test_only_the_chosen_epochs_are_kept_and_old_ones_go(tmp_path: Path) -> None:
    folder = tmp_path / "epochs"
    folder.mkdir()
    (folder / "epoch-050.safetensors").write_bytes(b"of an earlier run")
    (folder / "notes.txt").write_text("mine")

    train(tmp_path / "labeler.safetensors", keep=Keep(folder, {1, 3}))

    kept = sorted(path.name for path in folder.iterdir())
    assert kept == ["epoch-001.safetensors", "epoch-003.safetensors", "notes.txt"]
    assert load_labeler(folder / "epoch-001.safetensors").description.epochs_done == 1


def test_the_description_says_what_it_cost_and_on_what(tmp_path: Path) -> None:
    out = tmp_path / "labeler.safetensors"

    description = train(out)

    assert load_labeler(out).description == description
    assert description.training_flops == count_training_flops(make_plan().network) * 30 * 3
    assert description.training_seconds is not None and description.training_seconds > 0
    assert (description.training_device, description.ranks, description.training_images) == ("cpu", 1, 30)
    assert description.training_digest == make_images().digest()
    assert len(description.history) == 3 and description.history[-1] == description.accuracy
    assert torch.__version__.startswith(description.libraries["torch"])


def test_a_loss_that_explodes_stops_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="smaller --lr"):
        train(tmp_path / "labeler.safetensors", make_plan(lr=1e30))

    assert list(tmp_path.iterdir()) == []


def test_a_last_batch_too_small_for_batch_norm_is_explained(tmp_path: Path) -> None:
    network = describe_network("torchvision:resnet18", classes=3, channels=3, size=8)
    images = make_images(15)

    with pytest.raises(UsageError, match="--batch-size"):
        train_labeler(make_plan(network, epochs=1), images, images, tmp_path / "labeler.safetensors")


def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["ladd", "train-labeler", *map(str, arguments)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def save_npz(path: Path, images: ImageSet | None = None) -> Path:
    images = images or make_images()
    np.savez(path, images=images.images, labels=images.labels, classes=np.array(CLASSES.names))
    return path


COMMON = [
    *("--size", "8", "--normalization", "half", "--arch", "convnet-d3", "--width", "4", "--batch-size", "7"),
    *("--device", "cpu", "--lr", "0.05"),
]


def test_the_command_says_the_size_and_writes_the_epochs_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, out = save_npz(tmp_path / "real.npz"), tmp_path / "w.safetensors"

    code, said = run_cli(
        monkeypatch, capsys, "--source", source, *COMMON, "--epochs", 3, "--checkpoint-epochs", "1,2", "-o", out
    )

    assert code == 0 and "30 pictures of 3x8x8" in said and "epoch   3/3" in said
    assert sorted(path.name for path in (tmp_path / "w.epochs").iterdir()) == [
        "epoch-001.safetensors",
        "epoch-002.safetensors",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint-epochs", "1,11"], "from 1 to 10"),
        (["--checkpoint-epochs", "some"], "all, none"),
        (["--resume", "--overwrite"], "one of them"),
        (["--max-memory", "0"], "--max-memory"),
        (["--arch-option", "hidden"], "NAME=VALUE"),
        (["--arch", "resnet18"], "one width only"),
        (["-o", "nowhere/at/all.safetensors"], "no such folder"),
    ],
)
def test_a_wrong_call_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    source = save_npz(tmp_path / "real.npz")

    code, said = run_cli(monkeypatch, capsys, "--source", source, *COMMON, "-o", tmp_path / "w.safetensors", *arguments)

    assert code == 2 and message in said


STOPPING = """
import os, sys
from pathlib import Path
sys.path.insert(0, os.environ["TESTS"])
from test_train_labeler import make_images, make_plan
from ladd_data.labeling.training.train import train_labeler

def on_epoch(epoch, loss, share):
    os._exit(7)
train_labeler(make_plan(), make_images(29), make_images(9, seed=1), Path(sys.argv[1]), on_epoch=on_epoch)
"""


def test_two_processes_train_what_one_trains_and_go_on_after_a_kill(tmp_path: Path) -> None:
    source = save_npz(tmp_path / "real.npz", make_images(29))  # 29 = 4 * 7 + 1: in the end a process goes without
    val = save_npz(tmp_path / "val.npz", make_images(9, seed=1))
    (tmp_path / "stopping.py").write_text(STOPPING)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TESTS": str(Path(__file__).parent)}
    names = ("alone", "straight", "resumed")
    alone, straight, resumed = (tmp_path / f"{name}.safetensors" for name in names)

    def start(*arguments: object) -> tuple[int, str]:
        line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        line += map(str, arguments)
        result = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        return result.returncode, result.stdout + result.stderr

    command = ["-m", "ladd_data", "train-labeler", "--source", source, "--val", val, *COMMON]
    command += ["--momentum", "0.9", "--epochs", "3", "-o"]
    train_labeler(make_plan(), make_images(29), make_images(9, seed=1), alone)
    code, said = start(*command, straight)
    killed, _ = start(tmp_path / "stopping.py", resumed)
    assert killed != 0 and state_path(resumed).is_file() and not resumed.exists()
    again, more = start(*command, resumed, "--resume")

    assert (code, again) == (0, 0), more
    assert said.count("wrote") == said.count("epoch   1/3") == 1  # one of them speaks
    assert "going on" in more and "epoch   1/3" not in more
    one, other = load_labeler(straight), load_labeler(resumed)
    assert one.digest == other.digest
    assert one.description.history == other.description.history
    assert one.description.ranks == 2
    for name, value in load_file(alone).items():  # the same sums in another order
        torch.testing.assert_close(load_file(straight)[name], value, rtol=1e-3, atol=1e-4)
    assert not list(tmp_path.glob("*.state"))


def test_json_output_is_the_description(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = save_npz(tmp_path / "real.npz")

    code, said = run_cli(
        monkeypatch, capsys, "--source", source, *COMMON, "--epochs", 1, "--json", "-o", tmp_path / "w.safetensors"
    )

    assert code == 0 and json.loads(said)["epochs_done"] == 1
