"""The command line: exit codes, JSON, and the whole way on tiny data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ladd_data.cli import app, main
from ladd_data.cli.console import choose_device
from ladd_data.errors import UsageError
from ladd_data.presets import parse_classes, parse_normalization
from ladd_data.recipes import RECIPES

RUN = CliRunner()
DIGITS = "--classes digits --normalization half"


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str) -> tuple[int, str, str]:
    """Run a command in this process, through the same `main` as the shell; returns (code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["ladd", *command.split()])
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.fixture
def mtt_run(tmp_path: Path) -> Path:
    """A run folder as MTT would write one, of ten classes at 16 px."""
    folder = tmp_path / "run"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    torch.save(torch.randn(10, 3, 16, 16, generator=generator), folder / "images_best.pt")
    torch.save(torch.arange(10), folder / "labels_best.pt")
    return folder


def test_the_whole_way_by_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mtt_run: Path
) -> None:
    home = tmp_path
    for command in (
        f"convert mtt {mtt_run} {DIGITS} -o {home}/set",
        f"train-labeler --source digits:train --for {home}/set --arch convnet-d3 --width 8 --epochs 1 "
        f"-o {home}/w.safetensors",
        f"label {home}/set --labeler {home}/w.safetensors --grid 3 --ratio 1/2 -o {home}/out",
        f"label {home}/set --labeler {home}/w.safetensors --encoding float32 -o {home}/parent",
        f"reencode {home}/parent --encoding topk --top-k 3 -o {home}/topk",
        f"validate {home}/topk",
        f"validate {home}/out",
        f"info {home}/out",
        f"view {home}/out -o {home}/picture.png",
        f"train {home}/out --val digits:test --width 8 --epochs 1 --seeds 2 -o {home}/result.json",
    ):
        code, out, err = run(capsys, monkeypatch, command)
        assert (code, err) == (0, ""), command
        assert out

    assert json.loads((home / "result.json").read_text())["recipe"]["loss"] == "ladd"
    assert (home / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (home / "w.epochs" / "epoch-001.safetensors").is_file()


def test_recipes_are_listed_and_printed_without_a_dataset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, listing, _ = run(capsys, monkeypatch, "train --list-recipes")
    code, printed, _ = run(capsys, monkeypatch, "train --recipe rded --set temperature=4 --lr 0.5 --print")

    assert [line.split()[0] for line in listing.splitlines()] == list(RECIPES)
    changed = {"temperature": 4.0, "optimizer": {**json.loads(printed)["optimizer"], "lr": 0.5, "lr_by_network": {}}}
    assert code == 0 and json.loads(printed) == RECIPES["rded"].model_dump(mode="json") | changed


@pytest.mark.parametrize(
    "command",
    [
        "convert mtt {run} " + DIGITS + " --dry-run",
        "info {set}",
        "validate {set}",
        "train {set} --val digits:test --width 4 --epochs 1 --seeds 1",
    ],
)
def test_json_is_one_document_and_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mtt_run: Path, command: str
) -> None:
    run(capsys, monkeypatch, f"convert mtt {mtt_run} {DIGITS} -o {tmp_path}/set")
    recipe = " --recipe hard-labels" if command.startswith("train") else ""

    code, out, err = run(capsys, monkeypatch, command.format(run=mtt_run, set=tmp_path / "set") + recipe + " --json")

    assert (code, err) == (0, "")
    assert isinstance(json.loads(out), dict)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("info nowhere", "nowhere: no such folder"),
        ("train", "ladd train DIR --val SOURCE"),
        ("train --recipe gifts --print", 'Did you mean "gift"'),
        ("train --print --set optimiser.lr=1", 'Did you mean "optimizer"'),
        ("convert mtx {run} -o out", 'Did you mean "mtt"'),
        ("convert mtt {run} --classes digits --normalization half", "-o DIR"),
        ("convert mtt {run} --classes digits -o {run}/out", "--normalization"),
        ("convert mtt {run} --normalization half -o {run}/out", "--classes"),
        ("convert mtt {run} --classes digitz --normalization half -o {run}/out", 'Did you mean "digits"'),
        ("convert mtt {run} --classes digits --normalization hulf -o {run}/out", 'Did you mean "half"'),
        ("convert mtt {run} --classes digits --normalization 1,2/3 -o {run}/out", "mean/std"),
        ("convert mtt {run} --classes a,a --normalization half -o {run}/out", "distinct"),
        ("convert mtt {run} --classes @none --normalization half -o {run}/out", "none"),
        ("train-labeler --source digits:train -o {run}/w.safetensors", "--for DIR"),
        ("train-labeler --source nothing --size 32 --normalization half -o {run}/w.safetensors", "nothing"),
        ("train-labeler --source digits:train --size 4 --normalization half -o {run}/w.safetensors", "too small"),
        (
            "train-labeler --source digits:train --size 8 --normalization half --arch vgg -o {run}/w.safetensors",
            "convnet-d3",
        ),
        ("label {run} --labeler none.safetensors -o {run}/out", "not a ladd dataset"),
        ("label {run} --labeler none.safetensors --ratio 9/8 -o {run}/out", "ratio"),
        ("view {run} -o picture.jpg", ".html"),
        ("info {run} --device", "--device"),
        ("validate {run} --level deep", "deep"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_wrong_call_ends_with_2_and_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mtt_run: Path, command: str, message: str
) -> None:
    code, out, err = run(capsys, monkeypatch, command.format(run=mtt_run))

    assert (code, out) == (2, "")
    assert message in err
    assert not (mtt_run / "out").exists()


def test_wrong_data_end_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mtt_run: Path
) -> None:
    torch.save(torch.arange(20), mtt_run / "labels_best.pt")

    code, out, err = run(capsys, monkeypatch, f"convert mtt {mtt_run} {DIGITS} -o {tmp_path}/set")

    assert (code, out) == (1, "")
    assert "10 images and 20 labels" in err
    assert not (tmp_path / "set").exists()


def test_convert_auto_names_the_method_and_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mtt_run: Path
) -> None:
    code, out, _ = run(capsys, monkeypatch, f"convert auto {mtt_run}")
    assert code == 0 and f"ladd convert mtt {mtt_run}" in out

    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, monkeypatch, f"convert auto {tmp_path}/empty")
    assert code == 2 and "mtt" in err


def test_every_command_and_option_has_help() -> None:
    for command in ("", *sorted(info.name or "" for info in app.registered_commands)):
        result = RUN.invoke(app, [*command.split(), "--help"])
        assert result.exit_code == 0
        assert len(result.stdout) > 100


def test_python_m_ladd_data_is_the_same_program() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ladd_data", "--version"], capture_output=True, text=True, check=True
    )

    assert result.stdout.startswith("ladd-data 0.")


def test_equal_input_gives_equal_bytes_in_another_process(tmp_path: Path, mtt_run: Path) -> None:
    for seed in ("1", "2"):
        command = f"convert mtt {mtt_run} {DIGITS} --name same -o {tmp_path / seed}"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-m", "ladd_data", *command.split()], check=True, env=environment)

    first, second = (
        {
            path.relative_to(tmp_path / seed): path.read_bytes()
            for path in (tmp_path / seed).rglob("*")
            if path.is_file()
        }
        for seed in ("1", "2")
    )
    assert first == second and len(first) == 6


@pytest.mark.parametrize("name", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_a_wrong_call(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        choose_device(name)


@pytest.mark.parametrize("target", ["/", "/proc/nowhere/set", "x" * 300])
def test_a_target_that_cannot_be_written_is_a_wrong_call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mtt_run: Path, target: str
) -> None:
    code, out, err = run(capsys, monkeypatch, f"convert mtt {mtt_run} {DIGITS} -o {target}")

    assert (code, out) == (2, "")
    assert err.startswith("error: ") and "Choose another -o" in err


@pytest.mark.parametrize("command", ["convert mtt {long}", "convert auto {long}", "validate {long}"])
def test_a_path_the_file_system_refuses_is_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    code, out, err = run(capsys, monkeypatch, command.format(long="x" * 300))

    assert code in (1, 2) and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("value", ["0,0,0/1,1,1e-9", "1e999,0,0/1,1,1", "0,0,0/0.0000000001,1,1", "5000,0,0/1,1,1"])
def test_a_normalisation_out_of_all_reason_is_a_wrong_call(value: str) -> None:
    with pytest.raises(UsageError, match="not a preset"):
        parse_normalization(value)


def test_a_class_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("\ufeffant\r\nbee\r\n\r\n".encode())

    assert parse_classes(f"@{tmp_path / 'names.txt'}").names == ("ant", "bee")
