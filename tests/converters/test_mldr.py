"""ml-dr's reinforced data sets, written by us from its source: labels are kept, nothing in a file is run."""

from __future__ import annotations

import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fkd_runs import MEAN, STD
from ladd_converters.mldr import MldrConverter
from originals_runs import write_pictures

import ladd_data as ladd
from ladd_data import Answers, ConvertError, LaddError, Normalization, UsageError
from ladd_data.manifest import Opaque
from ladd_data.testing import check_converter

FED = Normalization(mean=MEAN, std=STD)
SAMPLES = 3


def sample(index: int, number: int) -> dict[str, Any]:
    """Return one sample: two of four classes, unsorted."""
    ids = [(index + number + 1) % 4, (index + number) % 4]
    return {"params": [1, 2.5, (3, 4)], "prob": ([0.125, 0.625], ids)}


def write(home: Path, *, joblib: bool = False) -> tuple[Path, Path]:
    pictures, labels = home / "pictures", home / "reinforced_data"
    labels.mkdir(parents=True)
    for index, _ in enumerate(write_pictures(pictures)):
        content = (index, [sample(index, number) for number in range(SAMPLES)])
        if joblib:
            (labels / f"{index}.pth.tar").write_bytes(zlib.compress(pickle.dumps(content, 4)))
        else:
            torch.save(content, labels / f"{index}.pth.tar", pickle_protocol=4)
    torch.save({"reinforce": {"num_samples": SAMPLES}}, labels / "config.pth.tar")
    return pictures, labels


@pytest.mark.parametrize("joblib", [False, True])
def test_labels_are_kept_without_views(tmp_path: Path, joblib: bool) -> None:
    pictures, labels = write(tmp_path / "source", joblib=joblib)

    check_converter(MldrConverter(), labels, Answers(images=pictures, normalization=FED), tmp_path)

    dataset = ladd.load(tmp_path / "dataset", labels="mldr")
    assert isinstance(dataset.view_spec, Opaque) and dataset.view_spec.count == SAMPLES
    for index in range(len(dataset)):
        wanted = np.full(4, 0.125, np.float32)
        wanted[(index + 2) % 4] = 0.625
        labels_of = dataset[index].dense_labels
        assert labels_of is not None
        np.testing.assert_allclose(labels_of[2].numpy(), wanted, atol=1e-3)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("picture gone", "found labels of 12 pictures, one of picture 11; there are 11"),
        ("label gone", "found labels of 11 pictures, none of picture 4"),
        ("moved", "found 3 samples of picture 5; expected some of 4"),
        ("evil", "Nothing in it was run"),
        ("tensor", "found no plain (index, samples) of ml-dr"),
        ("classes", "found class numbers 4 .. 5"),
        ("memory", "a part numbered 2147483647 in 9 bytes"),
        ("cut short", "found no plain (index, samples) of ml-dr"),
    ],
)
def test_damaged_runs_are_refused(tmp_path: Path, damage: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures, labels = write(tmp_path)
    file = labels / "4.pth.tar"
    if damage == "picture gone":
        next(pictures.rglob("*_2.JPEG")).unlink()
    if damage == "label gone":
        file.unlink()
    if damage == "moved":
        file.write_bytes((labels / "5.pth.tar").read_bytes())
    if damage == "evil":
        torch.save((4, Evil()), file, pickle_protocol=4)
    if damage == "tensor":
        torch.save((4, [{"prob": torch.ones(4)}]), file, pickle_protocol=4)
    if damage == "classes":
        torch.save((4, [{"prob": ([0.5, 0.1], [4, 5])}] * SAMPLES), file, pickle_protocol=4)
    if damage == "memory":  # asks for a table of two thousand million entries
        file.write_bytes(zlib.compress(b"\x80\x04Nr\xff\xff\xff\x7f."))
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:200])

    with pytest.raises(ConvertError) as caught:
        MldrConverter().read(labels, Answers(images=pictures, normalization=FED))

    assert words in str(caught.value), str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_what_is_missing_is_asked_and_it_says_that_it_is_unproven(tmp_path: Path) -> None:
    _, labels = write(tmp_path)

    assert "as ml-dr names them" in (MldrConverter().detect(tmp_path) or "")
    assert any("Unproven" in note for note in MldrConverter().describe(labels).notes)
    with pytest.raises(UsageError, match="Give --images FOLDER"):
        MldrConverter().read(labels, Answers())
    with pytest.raises(LaddError, match=r"found no config\.pth\.tar"):
        MldrConverter().read(tmp_path / "pictures", Answers())
