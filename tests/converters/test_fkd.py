"""Relabel runs become label sets whose views and labels are those that the teacher saw and gave."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fkd_runs import FED, FkdRun, answers, as_teacher, genuine_teacher, largest_difference, make_teacher
from ladd_converters.fkd import FkdConverter

import ladd_data as ladd
from ladd_data import Answers, Classes, ConvertError, LaddError, Normalization, UsageError
from ladd_data.convert import prepare
from ladd_data.convert_run import convert_run
from ladd_data.manifest import Boxes, Mix
from ladd_data.testing import check_converter

UPSTREAM = Path(__file__).parents[3] / "shared" / "upstream"
genuine = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"no genuine runs: {UPSTREAM} is absent")
RUNS = {
    "cutmix": FkdRun(),
    "mixup": FkdRun(mixing="mixup", size=72),
    "unmixed": FkdRun(mixing="none", epochs=3),
    "EDC, CutMix": FkdRun(edc=True),
    "EDC, MixUp": FkdRun(edc=True, mixing="mixup"),
    "with an index, and a batch in the middle missing": FkdRun(
        with_index=True, batch=4, keep=[(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    ),
    "an index file, and short batches dropped": FkdRun(json=False, keep=[(0, 0), (0, 1), (1, 0)]),
    "one picture a batch": FkdRun(batch=1),
}


@pytest.mark.parametrize("name", RUNS)
def test_labels_replay_in_any_batches(tmp_path: Path, name: str) -> None:
    run = RUNS[name]
    pictures, labels = run.write(tmp_path / "source")
    if "index file" in name:
        state_order(labels, run)

    check_converter(FkdConverter(), labels, answers(pictures), tmp_path)

    stated = ladd.load(tmp_path / "dataset", labels="fkd").manifest.labels
    assert stated is not None and isinstance(stated.views, Boxes if run.mixing == "none" else Mix)
    assert stated.present == (run.keep is not None) and stated.coding.space == "logits"
    assert largest_difference(tmp_path / "dataset", [make_teacher(4)]) < 1e-4


def state_order(labels: Path, run: FkdRun) -> None:
    """Write LPLD's index file for the batches that were kept."""
    import json

    from ladd_converters.fkd_order import sampled_orders

    orders = sampled_orders(run.classes * run.per_class, run.epochs)
    kept = {epoch: [number for at, number in run.keep or () if at == epoch] for epoch in range(run.epochs)}
    said = {
        str(epoch): [int(place) for number in numbers for place in orders[epoch][number * run.batch :][: run.batch]]
        for epoch, numbers in kept.items()
    }
    (labels / "sampler_indices_epoch.json").write_text(json.dumps(said))


def test_float16_answers_keep_every_bit(tmp_path: Path) -> None:
    pictures, labels = FkdRun(half=True).write(tmp_path / "source")

    distilled = FkdConverter().read(labels, answers(pictures))
    convert_run(prepare(distilled, "half"), tmp_path / "set")

    assert distilled.view_labels is not None and distilled.view_labels.values.dtype == np.float16
    stored = ladd.load(tmp_path / "set", labels="fkd").arrays.dense["dense_logits"]
    np.testing.assert_array_equal(stored, distilled.view_labels.values)


def test_probabilities_are_taken_only_with_their_temperature(tmp_path: Path) -> None:
    pictures, labels = FkdRun(epochs=1).write(tmp_path / "source")
    for file in (labels / "epoch_0").iterdir():
        content = torch.load(file, weights_only=False)
        content[5] = torch.softmax(content[5] / 20, 1)
        torch.save(content, file)

    with pytest.raises(UsageError, match="--label-space probs --temperature T"):
        FkdConverter().read(labels, answers(pictures))
    with pytest.raises(UsageError, match="give --temperature T"):
        FkdConverter().read(labels, answers(pictures, label_space="probs"))
    check_converter(FkdConverter(), labels, answers(pictures, label_space="probs", temperature=20.0), tmp_path)

    stated = ladd.load(tmp_path / "dataset", labels="fkd").manifest.labels
    assert stated is not None and stated.temperature == 20 and stated.coding.space == "log_probs"


@pytest.mark.parametrize("wrong", ["seed", "torch", "picture", "teacher", None])
def test_a_replay_with_the_teacher_refuses_a_wrong_order(tmp_path: Path, wrong: str | None) -> None:
    pictures, labels = FkdRun(epochs=3).write(tmp_path / "source")
    said = answers(pictures)
    if wrong == "seed":
        said = replace(said, seed=7)
    if wrong == "torch":
        said = replace(said, permutations=1)
    if wrong == "picture":
        first, last = pictures / "new000/class000_id000.jpg", pictures / "new003/class003_id002.jpg"
        held = first.read_bytes()
        first.write_bytes(last.read_bytes())
        last.write_bytes(held)
    teacher = as_teacher(make_teacher(4, seed=9 if wrong == "teacher" else 3))
    conversion = prepare(FkdConverter().read(labels, said), "replayed")

    if wrong is None:
        convert_run(conversion, tmp_path / "set", teachers=[teacher])
        assert ladd.validate(tmp_path / "set").valid
        return
    with pytest.raises(ConvertError, match=r"the teacher's answers differ .* Nothing was written"):
        convert_run(conversion, tmp_path / "set", teachers=[teacher])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("picture gone", "10 .. 11 in this batch|found 12 rows where there are 11 pictures"),
        ("picture more", "found 12 rows where there are 13 pictures"),
        ("batch gone", "found no epoch_0/batch_1.tar, but later ones"),
        ("last batch gone", "found 10 rows where there are 12 pictures"),
        ("other batch size", "expected one batch size"),
        ("classes", "found outputs of 4 classes; expected 5"),
        ("size", "The labels were made from pictures of another size"),
        ("class folder renamed", "found a picture of class 3 in the folder of class 4"),
    ],
)
def test_labels_that_do_not_belong_to_the_pictures_are_refused(tmp_path: Path, damage: str, words: str) -> None:
    pictures, labels = FkdRun().write(tmp_path / "source")
    said = answers(pictures)
    first = pictures / "new003/class003_id002.jpg"
    if damage == "picture gone":
        first.unlink()
    if damage == "picture more":
        shutil.copy(first, first.with_name("class003_id003.jpg"))
    if damage == "batch gone":
        (labels / "epoch_0/batch_1.tar").unlink()
    if damage == "last batch gone":
        (labels / "epoch_0/batch_2.tar").unlink()
    if damage == "other batch size":
        content = torch.load(labels / "epoch_0/batch_1.tar", weights_only=False)
        torch.save(
            [item[:4] % 4 if item is content[2] else item[:4] if torch.is_tensor(item) else item for item in content],
            labels / "epoch_0/batch_1.tar",
        )
    if damage == "classes":
        said = replace(said, classes=Classes(names=("a", "b", "c", "d", "e")))
        shutil.copytree(pictures / "new003", pictures / "new004")
        for file in (pictures / "new004").iterdir():
            file.rename(file.with_name(file.name.replace("class003", "class004")))
        for file in sorted((pictures / "new000").iterdir())[1:]:
            file.unlink()
        for file in sorted((pictures / "new001").iterdir())[2:]:
            file.unlink()
    if damage == "size":
        again = tmp_path / "again"
        pictures, _ = FkdRun(size=45).write(again)
        said = replace(said, images=pictures)
    if damage == "class folder renamed":
        (pictures / "new003").rename(pictures / "new004")

    with pytest.raises(LaddError) as caught:
        FkdConverter().read(labels, said)

    assert any(part in str(caught.value) for part in words.split("|")), str(caught.value)


@pytest.mark.parametrize("option", [{"seed": 42}, {"permutations": 2}])
def test_an_order_that_files_state_takes_no_answers(tmp_path: Path, option: dict[str, int]) -> None:
    pictures, labels = FkdRun(with_index=True).write(tmp_path)

    with pytest.raises(UsageError, match="the order is stated by each row; leave it out"):
        FkdConverter().read(labels, answers(pictures, **option))


def test_pictures_that_were_left_out_are_named(tmp_path: Path) -> None:
    pictures, labels = FkdRun().write(tmp_path)
    shutil.copy(pictures / "new000/class000_id000.jpg", pictures / "new000/class000_id000_iter0100.jpg")

    with pytest.raises(ConvertError, match=r"found 13 pictures .* of which 12 become records \(.*_iter0100"):
        FkdConverter().read(labels, answers(pictures))


def test_what_is_missing_is_asked(tmp_path: Path) -> None:
    _, labels = FkdRun().write(tmp_path)

    assert "epoch_0/batch_0.tar in labels" in (FkdConverter().detect(tmp_path) or "")
    assert [ask.option for ask in FkdConverter().describe(labels).asks] == ["--images", "--dataset"]
    with pytest.raises(UsageError, match="Give --images FOLDER"):
        FkdConverter().read(labels, Answers())
    with pytest.raises(UsageError, match="found no class folders with pictures"):
        FkdConverter().read(labels, answers(labels))


@genuine
@pytest.mark.parametrize(
    ("run", "tolerance"),
    [
        ("lpld/in1k10-ipc2/relabel_and_validate/syn_label_LPLD/FKD_cutmix_fp16_LPLD_in1k_rn18_4k_ipc2_ratio50", 2e-3),
        ("gvbsm/cifar10-ipc3/Branch_CIFAR_10/relabel/FKD_GVBSM_cutmix_fp16", 2e-3),
        ("gvbsm/cifar10-ipc3/Branch_CIFAR_10/relabel/FKD_GVBSM_mixup_fp32", 1e-4),
        ("gvbsm/cifar10-ipc3/Branch_CIFAR_10/relabel/FKD_GVBSM_nomix_fp32", 1e-4),
        ("sre2l/imagenet10-ipc2/relabel/FKD_cutmix_fp16", 1e-3),
    ],
)
def test_genuine_runs_replay(tmp_path: Path, run: str, tolerance: float) -> None:
    method = run.split("/")[0]
    home = UPSTREAM / "/".join(run.split("/")[:2])
    pictures = next(home.rglob("new000")).parent
    names = Classes(names=tuple(f"class {number}" for number in range(10)))
    cifar = Normalization(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
    fed = cifar if method == "gvbsm" else FED
    said = Answers(images=pictures, classes=names, normalization=fed)

    check_converter(FkdConverter(), UPSTREAM / run, said, tmp_path)

    teachers = {"lpld": ["a"], "gvbsm": ["a", "b"], "sre2l": []}[method]
    networks = [genuine_teacher(home / f"REPLAY_teacher_{name}.pt") for name in teachers] or [resnet()]
    assert largest_difference(tmp_path / "dataset", networks) < tolerance


def resnet() -> torch.nn.Module:
    """Return the teacher of the genuine SRe2L run."""
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: torch.nn.Module = resnet18(weights=None, num_classes=10)
    return network.eval()
