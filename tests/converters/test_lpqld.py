"""LPQLD's relabel runs: one folder of batches, narrow fields, the largest logits only; and teachers of more classes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fkd_runs import FkdRun, answers, as_teacher, largest_difference, make_teacher
from ladd_converters.fkd import FkdConverter

import ladd_data as ladd
from ladd_data import Classes, ConvertError, LaddError, UsageError
from ladd_data.convert import prepare
from ladd_data.convert_run import convert_run
from ladd_data.manifest import Labels
from ladd_data.presets import CLASS_LISTS
from ladd_data.testing import check_converter


def stated(folder: Path) -> Labels:
    labels = ladd.load(folder, labels="fkd").manifest.labels
    assert labels is not None
    return labels


@pytest.mark.parametrize(
    ("run", "ratio"),
    [
        pytest.param(FkdRun(), 0.0, id="cutmix"),
        pytest.param(FkdRun(mixing="mixup", epochs=3), 0.0, id="mixup"),
        pytest.param(FkdRun(mixing="none"), 0.0, id="unmixed"),
        pytest.param(FkdRun(epochs=5), 0.4, id="pruned, so that short batches are dropped"),
    ],
)
def test_all_logits_replay_in_any_batches(tmp_path: Path, run: FkdRun, ratio: float) -> None:
    pictures, labels = run.write_flat(tmp_path / "source", ratio=ratio)

    check_converter(FkdConverter(), labels, answers(pictures), tmp_path)

    assert largest_difference(tmp_path / "dataset", [make_teacher(4)]) < 1e-4
    rows = sum(map(len, json.loads((labels / "sampler_indices_batch.json").read_text()).values()))
    parts = list(ladd.load(tmp_path / "dataset", labels="fkd").loader(5))
    there = [torch.ones(len(part.index), run.epochs) if part.present is None else part.present for part in parts]
    assert rows == sum(int(shown.sum()) for shown in there)
    assert stated(tmp_path / "dataset").coding.space == "logits"


def test_the_largest_logits_are_kept_with_all_that_they_tell(tmp_path: Path) -> None:
    pictures, labels = FkdRun(epochs=3).write_flat(tmp_path / "source", kept=2)

    check_converter(FkdConverter(), labels, answers(pictures), tmp_path)

    coding = stated(tmp_path / "dataset").coding
    assert (coding.encoding, coding.k) == ("topk", 2)
    dataset, worst = ladd.load(tmp_path / "dataset", labels="fkd"), 0.0
    for part in dataset.loader(7, shuffle=True, seed=1):
        views = part.views()
        with torch.no_grad():
            said = make_teacher(4)(views.pixels.flatten(0, 1)).reshape(views.dense.shape)
        top = torch.topk(said, 2)
        expected = torch.zeros_like(said).scatter(-1, top.indices, torch.softmax(top.values, -1))
        assert part.present is not None  # the program's last batch of all goes missing
        worst = max(worst, float((views.dense - expected).abs()[part.present].max()))
    assert worst < 2e-3  # float16's rounding of a log-probability
    recipe = dataset.manifest.recipe
    assert (recipe.loss, recipe.top_k) == ("topk-kl", 2)


def test_as_many_logits_as_classes_are_all_of_them(tmp_path: Path) -> None:
    pictures, labels = FkdRun().write_flat(tmp_path / "source", kept=4)

    convert_run(prepare(FkdConverter().read(labels, answers(pictures)), "all"), tmp_path / "set")

    assert stated(tmp_path / "set").coding.encoding == "dense"
    assert largest_difference(tmp_path / "set", [make_teacher(4)]) < 1e-4


@pytest.mark.parametrize("kept", [None, 2])
@pytest.mark.parametrize("right", [True, False])
def test_a_replay_tells_the_teacher_from_another(tmp_path: Path, kept: int | None, right: bool) -> None:
    pictures, labels = FkdRun().write_flat(tmp_path / "source", kept=kept)
    conversion = prepare(FkdConverter().read(labels, answers(pictures)), "replayed")

    if right:
        convert_run(conversion, tmp_path / "set", teachers=[as_teacher(make_teacher(4))])
        return
    with pytest.raises(ConvertError, match="the teacher's answers differ"):
        convert_run(conversion, tmp_path / "set", teachers=[as_teacher(make_teacher(4, seed=9))])


def change_json(labels: Path, change: Any) -> None:
    file = labels / "sampler_indices_batch.json"
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))


def change_batch(labels: Path, change: Any) -> None:
    file = labels / "batch_1.tar"
    content = torch.load(file, weights_only=False)
    torch.save(change(content), file)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda labels: change_json(labels, lambda said: said.pop("1")), "found no batch '1'"),
        (lambda labels: change_json(labels, lambda said: said["1"].pop()), "found 5 rows where .*batch.json lists 4"),
        (lambda labels: change_json(labels, lambda said: said["1"].append(12)), r"places .* 12 in batch 1"),
        (lambda labels: change_json(labels, lambda said: said["1"].append(said["1"][0])), "twice in batch 1"),
        (lambda labels: change_batch(labels, lambda rows: [*rows[:2], [rows[1]], *rows[2:]]), "RandAugment"),
        (lambda labels: change_batch(labels, lambda rows: [*rows[:6], -rows[6]]), "a class below 0"),
        (lambda labels: change_batch(labels, lambda rows: [*rows[:6], rows[6] * 0]), "twice in a row of field 6"),
        (lambda labels: change_batch(labels, lambda rows: [*rows[:6], rows[6] + 4]), "below 4, the dataset's"),
        (lambda labels: change_batch(labels, lambda rows: [*rows[:5], rows[5][:, :1], rows[6]]), "of 2 classes"),
    ],
)
def test_runs_that_contradict_themselves_are_refused(tmp_path: Path, damage: Any, words: str) -> None:
    pictures, labels = FkdRun().write_flat(tmp_path / "source", kept=2)
    damage(labels)

    with pytest.raises(ConvertError) as caught:
        FkdConverter().read(labels, answers(pictures))

    assert re.search(words, str(caught.value))


def test_a_picture_added_since_is_noticed_and_a_missing_batch_is_said(tmp_path: Path) -> None:
    pictures, labels = FkdRun(epochs=3).write_flat(tmp_path / "source")
    (labels / "batch_4.tar").unlink()

    assert "batch_4.tar is missing" in " ".join(FkdConverter().read(labels, answers(pictures)).notes)

    first = pictures / "new003/class003_id002.jpg"
    first.with_name("class003_id003.jpg").write_bytes(first.read_bytes())
    with pytest.raises(ConvertError, match="places of the first 12 pictures only; there are 13"):
        FkdConverter().read(labels, answers(pictures))


def test_rows_that_wrapped_are_refused(tmp_path: Path) -> None:
    pictures, labels = FkdRun(per_class=65, batch=260, epochs=1, size=8).write_flat(tmp_path / "source")

    with pytest.raises(ConvertError, match="it wraps above 256"):
        FkdConverter().read(labels, answers(pictures))


@pytest.mark.parametrize("flat", [True, False])
def test_a_teacher_of_more_classes_keeps_them_all_where_that_is_wanted(tmp_path: Path, flat: bool) -> None:
    run = FkdRun(outputs=9)
    pictures, labels = run.write_flat(tmp_path / "source") if flat else run.write(tmp_path / "source")
    nine = Classes(names=tuple("abcdefghi"))

    with pytest.raises(ConvertError, match=r"found outputs of 9 classes; expected 4, .*--some-classes"):
        FkdConverter().read(labels, answers(pictures))
    with pytest.raises(LaddError, match=r"4 of 9 classes.*--some-classes"):
        FkdConverter().read(labels, replace(answers(pictures), classes=nine))
    said = replace(answers(pictures), classes=nine, some_classes=True)
    check_converter(FkdConverter(), labels, said, tmp_path)

    dataset = ladd.load(tmp_path / "dataset", labels="fkd")
    assert len(dataset.classes) == 9 and ladd.validate(tmp_path / "dataset").valid
    assert sorted(set(dataset.arrays.labels.tolist())) == [0, 1, 2, 3]
    assert largest_difference(tmp_path / "dataset", [make_teacher(9)]) < 1e-4


def test_folders_of_some_imagenet_classes_are_numbered_by_imagenet(tmp_path: Path) -> None:
    pictures, labels = FkdRun(outputs=1000, epochs=1).write(tmp_path / "source")
    for number, wanted in ((3, 701), (2, 207), (1, 9)):
        for file in (pictures / f"new{number:03d}").iterdir():
            file.rename(file.with_name(file.name.replace(f"class{number:03d}", f"class{wanted:03d}")))
        (pictures / f"new{number:03d}").rename(pictures / f"new{wanted:03d}")
    classes = CLASS_LISTS["imagenet-1k"]

    said = replace(answers(pictures), classes=classes, some_classes=True)
    distilled = FkdConverter().read(labels, said)

    assert sorted(set(distilled.labels.tolist())) == [0, 9, 207, 701]


def test_an_order_that_the_file_states_takes_no_answers(tmp_path: Path) -> None:
    pictures, labels = FkdRun().write_flat(tmp_path)

    assert "LPQLD" in FkdConverter().summary
    with pytest.raises(UsageError, match="the order is stated by the index file"):
        FkdConverter().read(labels, answers(pictures, seed=1))
