"""Opening .pt files: tensors come out whole, and whatever else carries the name is refused in words."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ladd_converters.torch_files import read_tensor, read_torch

from ladd_data import ConvertError, UsageError

VALUES = torch.arange(600.0).reshape(20, 30)


def torch_bytes(content: object, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


class Dangerous:
    """Unpickles as a call of something harmless that is on no list."""

    def __reduce__(self) -> tuple[Any, ...]:
        return len, ("",)


def deflate(data: bytes) -> bytes:
    """Pack a torch zip file again, with compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def add_file(data: bytes, name: str) -> bytes:
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name, "")
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "tensor", [VALUES, VALUES.clone().requires_grad_(), VALUES.mT, VALUES[3:5], VALUES.to(torch.int64), VALUES[0, 0]]
)
def test_a_tensor_comes_out_as_it_was_saved(tmp_path: Path, tensor: torch.Tensor, zipped: bool) -> None:
    (tmp_path / "t.pt").write_bytes(torch_bytes(tensor, _use_new_zipfile_serialization=zipped))

    read = read_tensor(tmp_path / "t.pt")

    assert read.dtype == tensor.dtype and torch.equal(read, tensor)
    assert read.is_contiguous() and not read.requires_grad


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "an empty file", id="empty"),
        pytest.param(b"a line of text\n", "bytes that begin b'a line of text", id="text"),
        pytest.param(b"PK\x05\x06" + bytes(18), "bytes that begin b'PK", id="empty-zip"),
        pytest.param(b"\xef\xbb\xbf\n <!DOCTYPE html><html>", "a web page", id="html"),
        pytest.param(b"<html><head>", "a web page", id="html-without-doctype"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull", id="lfs-pointer"),
        pytest.param(torch_bytes(VALUES)[:-40], "cut short", id="truncated-zip"),
        pytest.param(torch_bytes(VALUES, _use_new_zipfile_serialization=False)[:-40], "damaged", id="truncated-legacy"),
        pytest.param(add_file(torch_bytes(VALUES), "archive/constants.pkl"), "TorchScript archives", id="torchscript"),
        pytest.param(torch_bytes(VALUES, pickle_protocol=4), "a pickle of protocol 4", id="protocol-4"),
        pytest.param(torch_bytes({"data": VALUES, "x" * 999: 1}), "keys 'data', 'xxxxxxxxxxxx...", id="dict"),
        pytest.param(torch_bytes({}), "an empty dictionary", id="empty-dict"),
        pytest.param(torch_bytes({"state_dict": {"module.conv.weight": VALUES}}), "weights of a network", id="sre2l"),
        pytest.param(torch_bytes({"model": {"conv.weight": VALUES}}), "weights of a network", id="rded"),
        pytest.param(torch_bytes(torch.nn.Linear(2, 2).state_dict()), "weights of a network", id="state-dict"),
        pytest.param(torch_bytes([[[VALUES, VALUES[0], VALUES]]]), "a replay buffer", id="buffer"),
        pytest.param(torch_bytes([[VALUES, VALUES[0], VALUES]]), "a replay buffer", id="buffer-of-one"),
        pytest.param(torch_bytes([VALUES, None, None, 0.5, None, VALUES]), "a batch of FKD labels", id="fkd"),
        pytest.param(torch_bytes([VALUES[:, :4], None, None, 0.5, [np.int64(3)], VALUES]), "FKD labels", id="cutmix"),
        pytest.param(torch_bytes({"data": [[VALUES, VALUES]]}), "ladd convert dc", id="dc"),
        pytest.param(torch_bytes({"dataset": "x", "data": VALUES, "label": VALUES}), "ladd convert gift", id="gift"),
        pytest.param(torch_bytes([VALUES[None, None], VALUES]), "ladd convert idc", id="idc"),
        pytest.param(torch_bytes(np.str_("text")), "not of plain tensors", id="numpy-string"),
        pytest.param(torch_bytes(np.datetime64(1, "s")), "not of plain tensors", id="numpy-date"),
        pytest.param(torch_bytes({"data": Dangerous()}), 'wants "__builtin__.len"', id="function"),
        pytest.param(torch_bytes([VALUES, VALUES]), "a list of 2", id="list"),
        pytest.param(torch_bytes("text"), "a str", id="str"),
        pytest.param(torch_bytes(np.zeros(3)), "multiarray._reconstruct", id="numpy"),
        pytest.param(torch_bytes(torch.nn.Linear(2, 2)), '"torch.nn.modules.linear.Linear"', id="module"),
        pytest.param(torch_bytes(VALUES.to_sparse()), "sparse", id="sparse"),
        pytest.param(torch_bytes(VALUES.to("meta")), "meta", id="meta"),
        pytest.param(deflate(torch_bytes([torch.zeros(2**20)])), "unfold to 4", id="zip-bomb"),
        pytest.param(torch_bytes(torch.zeros(1).expand(10**6, 10**6)), "unfold to 4000000000000", id="stride-bomb"),
    ],
)
def test_anything_else_is_refused_and_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.pt"
    path.write_bytes(content)

    with pytest.raises(ConvertError) as error:
        read_tensor(path)

    assert str(error.value).startswith(f"{path}: ") and words in str(error.value)
    assert len(str(error.value)) < 400


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("missing", "no such file"), (".", "not a file"), ("pipe", "not a file")):
        with pytest.raises(UsageError, match=words):
            read_tensor(tmp_path / name)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
@pytest.mark.parametrize(
    "number", [np.float64(0.3), np.float32(0.5), np.int64(-7), np.int32(9), np.bool_(True), np.dtype(">f8").type(2.5)]
)
def test_numpy_numbers_open_as_plain_ones_under_both_names(
    tmp_path: Path, number: Any, module: str, zipped: bool
) -> None:
    saved = torch_bytes({"accs": [number]}, _use_new_zipfile_serialization=False)
    own = np.float64.__reduce__(np.float64(0))[0].__module__.encode()
    saved = saved.replace(own + b"\nscalar", module.encode() + b"\nscalar")
    (tmp_path / "t.pt").write_bytes(torch_bytes({"accs": [number]}) if zipped else saved)

    read = read_torch(tmp_path / "t.pt")

    assert isinstance(read, dict) and read == {"accs": [number.item()]}
    assert type(read["accs"][0]) in (float, int, bool)


def test_nothing_is_allowed_for_the_rest_of_the_process(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    (tmp_path / "t.pt").write_bytes(torch_bytes(np.float64(1)))
    (tmp_path / "bad.pt").write_bytes(torch_bytes(np.zeros(3)))

    assert read_torch(tmp_path / "t.pt") == 1.0
    with pytest.raises(ConvertError):
        read_torch(tmp_path / "bad.pt")

    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "t.pt", weights_only=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_saved_on_a_gpu_opens_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:1")
    saved = torch_bytes(VALUES, _use_new_zipfile_serialization=zipped)
    assert b"cuda:1" in saved
    (tmp_path / "t.pt").write_bytes(saved)

    read = read_tensor(tmp_path / "t.pt")

    assert read.device.type == "cpu" and torch.equal(read, VALUES)


def test_a_view_that_is_negated_later_comes_out_negated(tmp_path: Path) -> None:
    view = torch._neg_view(VALUES)
    assert view.is_neg()
    (tmp_path / "t.pt").write_bytes(torch_bytes(view))

    assert np.array_equal(read_tensor(tmp_path / "t.pt").numpy(), -VALUES.numpy())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["builtins bytearray", "torch FloatTensor", "torch.storage UntypedStorage"])
def test_what_would_take_much_memory_is_not_called(tmp_path: Path, name: str, zipped: bool) -> None:
    bomb = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n(J\xff\xff\xff\x6ftR."  # name(2 ** 31 or so)
    number = b"\x80\x02K\x01."
    saved = torch_bytes(1, _use_new_zipfile_serialization=zipped)
    if zipped:
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(saved)) as old, zipfile.ZipFile(buffer, "w") as new:
            for entry in old.namelist():
                new.writestr(entry, bomb if entry.endswith("data.pkl") else old.read(entry))
        saved = buffer.getvalue()
    else:
        saved = saved.replace(number, bomb, 1)
    (tmp_path / "t.pt").write_bytes(saved)

    with pytest.raises(ConvertError, match=f'wants "{name.replace(" ", ".")}"'):
        read_torch(tmp_path / "t.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_no_damage_escapes_as_another_error(tmp_path: Path, zipped: bool) -> None:
    good, dice, refused = torch_bytes(VALUES, _use_new_zipfile_serialization=zipped), random.Random(0), 0
    for trial in range(300):
        bad = bytearray(good[: dice.randrange(1, len(good))] if trial % 2 else good)
        bad[dice.randrange(min(len(bad), 900))] = dice.randrange(256)
        (tmp_path / "bad.pt").write_bytes(bad)
        try:
            read_tensor(tmp_path / "bad.pt")
        except ConvertError:
            refused += 1

    assert refused > 150


def test_attributes_cannot_stand_in_the_place_of_methods(tmp_path: Path) -> None:
    shadowed = torch.nn.Parameter(torch.zeros(2))
    shadowed.__dict__["detach"] = 5
    named: OrderedDict[str, object] = OrderedDict(data=[])
    named.__dict__["get"] = 5
    tensor, dictionary = tmp_path / "tensor.pt", tmp_path / "dictionary.pt"
    torch.save(shadowed, tensor)
    torch.save([named], dictionary)

    with pytest.raises(ConvertError, match="_rebuild_parameter_with_state"):
        read_tensor(tensor)
    content = read_torch(dictionary)
    assert isinstance(content, list) and content[0].get("data") == []
