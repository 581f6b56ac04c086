"""Labels are confirmed against the weights that made them, and each known mistake is told from the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from damaging import call, rewrite
from making import make_distilled, make_labeler

import ladd_data as ladd
from ladd_data import writer
from ladd_data.convert import convert, prepare
from ladd_data.encodings.coding import encode_labels
from ladd_data.encodings.profiles import ENCODINGS
from ladd_data.labeling.checking.check import LabelCheck, check_labels
from ladd_data.labeling.checking.compare import ARITHMETIC
from ladd_data.labeling.checking.picking import choose_records, pick_chunks
from ladd_data.labeling.label import BoxDraw, LabelPlan, label_dataset
from ladd_data.labeling.labeler import LoadedLabeler, load_labeler
from ladd_data.manifest import Boxes, Coding, Full, Network, ViewSpec
from ladd_data.models import build_network
from ladd_data.models.arithmetic import full_float32
from ladd_data.reencode import Keep, reencode_dataset
from ladd_data.shards.layout import Records
from ladd_data.shards.plan import plan_shards
from ladd_data.types import F32
from ladd_data.views.device import ViewMaker, apply_affine

COUNT = 10
CPU = torch.device("cpu")
CODINGS = {
    **ENCODINGS,
    "topk": Coding(encoding="topk", logz=True, k=2),
    "probs": Coding(space="probs", dtype="float32"),
    "bfloat16": Coding(space="log_probs", dtype="bfloat16", logz=True),
    "logits16": Coding(space="logits", dtype="float16"),
}
VIEWS: dict[str, ViewSpec] = {
    "grid": ladd.grid(3, "5/8"),
    "odd grid": ladd.grid(2, "3/5"),
    "full": Full(),
    "boxes": Boxes(count=5, flip=True),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images, two labelers, and the images labelled by 3x3 views in float32."""
    home = tmp_path_factory.mktemp("check")
    convert(prepare(make_distilled(COUNT, seed=1), "tiny"), home / "set")
    make_labeler(home / "one.safetensors")
    make_labeler(home / "two.safetensors", seed=5)
    make(home, home / "right")
    make(home, home / "boxes", VIEWS["boxes"])
    return home


def make(home: Path, target: Path, views: ViewSpec | None = None, coding: str = "float32", **options: object) -> Path:
    """Label the ten images."""
    loaded = load_labeler(home / "one.safetensors")
    chosen = LabelPlan(loaded, views or VIEWS["grid"], CODINGS[coding], CPU, boxes=BoxDraw(seed=2), **options)  # type: ignore[arg-type]
    label_dataset(ladd.load(home / "set"), chosen, target)
    return target


def check(directory: Path, *labelers: Path, sample: int | None = None, tolerance: float | None = None) -> LabelCheck:
    loaded = [load_labeler(path) for path in labelers or [directory.parent / "one.safetensors"]]
    return check_labels(ladd.load(directory), loaded, sample=sample, tolerance=tolerance)


class Bench:
    """Makes the labels of `right` or `boxes` again, with a mistake, by plain torch."""

    def __init__(self, source: Path) -> None:
        self.source, self.dataset = source, ladd.load(source)
        self.labeler: LoadedLabeler = load_labeler(source.parent / "one.safetensors")
        self.images = torch.from_numpy(self.dataset.arrays.images)
        spec = self.dataset.view_spec
        assert spec is not None
        self.maker = ViewMaker(spec, 32, 32)

    def cut(
        self, images: torch.Tensor | None = None, box: torch.Tensor | None = None, flip: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.maker(self.images if images is None else images, view_box=box, view_flip=flip)

    def grid_boxes(self) -> torch.Tensor:
        places = [[box.y, box.x, box.height, box.width] for box in ladd.boxes(self.maker.spec, 32, 32)]  # type: ignore[arg-type]
        return torch.tensor(places).expand(COUNT, -1, 4).clone()

    def say(self, views: torch.Tensor, scale: float = 1.0, normalise: bool = True) -> F32:
        """Return logits [records, views, classes]."""
        given = apply_affine(self.dataset.manifest.images.affine, views) if normalise else views * scale
        with torch.no_grad(), full_float32():
            logits: F32 = self.labeler.network(given.flatten(0, 1)).unflatten(0, views.shape[:2]).numpy()
        return logits

    def store(self, target: Path, logits: F32, coding: str = "float32", only: Callable[[str], bool] = bool) -> Path:
        """Write the dataset with other labels and right checksums."""
        columns = encode_labels(logits, CODINGS[coding])
        rows = {name: row for row, name in enumerate(self.dataset.arrays.ids)}

        def change(records: Records) -> None:
            for at, name in enumerate(records.ids):
                for column, values in columns.items():
                    if only(name):
                        records.dense[column][at] = values[rows[name]]

        rewrite(self.source, target, change, lambda document: None)
        return target


@pytest.mark.parametrize("coding", sorted(CODINGS))
def test_good_labels_of_each_encoding_are_confirmed(home: Path, tmp_path: Path, coding: str) -> None:
    result = check(make(home, tmp_path / "out", coding=coding), home / "one.safetensors")

    assert result.agrees and (result.difference.records, result.difference.views) == (COUNT, COUNT * 9)
    assert result.difference.max_tv <= 1e-6 and result.difference.top1_agreement == 1
    assert (result.logz is not None) == (coding != "probs") and (result.logz or 0) <= 1e-6


@pytest.mark.parametrize("kind", sorted(VIEWS))
def test_good_labels_of_each_kind_of_view_are_confirmed(home: Path, tmp_path: Path, kind: str) -> None:
    result = check(make(home, tmp_path / "out", VIEWS[kind], "float16"), home / "one.safetensors")

    assert result.agrees and result.difference.max_tv <= 1e-6


@pytest.mark.parametrize("coding", ["float16", "q8", "q4", "topk"])
def test_views_that_are_missing_are_not_compared(home: Path, tmp_path: Path, coding: str) -> None:
    reencode_dataset(ladd.load(home / "right"), CODINGS[coding], tmp_path / "out", keep=Keep(4, seed=1))

    result = check(tmp_path / "out", home / "one.safetensors")

    assert result.agrees and result.difference.views == COUNT * 4
    assert result.difference.max_tv <= 1e-3


@pytest.mark.parametrize("average", ["probs", "logits"])
def test_the_average_of_several_labelers_is_confirmed_in_any_order(home: Path, tmp_path: Path, average: str) -> None:
    files = [home / "one.safetensors", home / "two.safetensors"]
    make(home, tmp_path / "out", coding="probs", others=(load_labeler(files[1]),), average=average)

    assert check(tmp_path / "out", *files).agrees
    assert check(tmp_path / "out", *files[::-1]).difference.max_tv <= 1e-6
    with pytest.raises(ladd.UsageError, match="found 1 labelers; the manifest names 2"):
        check(tmp_path / "out", files[0])


def shifted(bench: Bench) -> F32:
    box = bench.grid_boxes()
    box[..., 1] = (box[..., 1] + 1).clamp_max(32 - 20)
    return bench.say(ViewMaker(Boxes(count=9), 32, 32)(bench.images, view_box=box))


def of_ratio(bench: Bench) -> F32:
    return bench.say(ViewMaker(ladd.grid(3, "3/4"), 32, 32)(bench.images))


def twice(bench: Bench) -> F32:
    return torch.softmax(torch.from_numpy(bench.say(bench.cut())), -1).numpy()


def shuffled(bench: Bench) -> F32:
    order = [3, 7, 1, 0, 9, 2, 8, 4, 5, 6]
    return bench.say(bench.cut())[order]


MISTAKES: dict[str, tuple[Callable[[Bench], F32], str, str]] = {
    "next": (lambda b: np.roll(b.say(b.cut()), -1, 0), "labels of other records", "the next record"),
    "before": (lambda b: np.roll(b.say(b.cut()), 1, 0), "labels of other records", "the record before"),
    "shuffled": (shuffled, "labels of other records", "another record"),
    "double softmax": (twice, "double softmax", "taken twice"),
    "hard": (
        lambda b: (b.say(b.cut()).argmax(-1)[..., None] == np.arange(3)) * np.float32(90),
        "hard labels",
        "top class",
    ),
    "temperature": (
        lambda b: b.say(b.cut()) / np.float32(4),
        "other temperature",
        "temperature 4; meta/ladd.json says 1",
    ),
    "transposed": (
        lambda b: b.say(b.cut()[:, torch.arange(9).view(3, 3).T.flatten()]),
        "view order transposed, column by column",
        "order of the views",
    ),
    "reversed": (lambda b: b.say(b.cut())[:, ::-1].copy(), "view order reversed", "reversed"),
    "other order": (
        lambda b: b.say(b.cut())[:, [4, 2, 8, 0, 1, 3, 5, 7, 6]],
        "view order another one",
        "view 0 belongs to view 4",
    ),
    "classes": (lambda b: b.say(b.cut())[..., [1, 2, 0]], "other class order", '"ant" belongs to "bee"'),
    "shifted": (shifted, "shifted views", r"6 of 9 views are shifted.* as view 0 by \(0, 1\)"),
    "ratio": (of_ratio, "other ratio", "crops of 3/4"),
    "mirrored": (lambda b: b.say(b.cut().flip(-1)), "mirrored views", "left to right"),
    "bgr": (lambda b: b.say(b.cut(b.images.flip(1))), "channels reversed", "blue, green, red"),
    "rows": (lambda b: b.say(b.cut(b.images.transpose(2, 3))), "images transposed", "rows and columns"),
    "raw": (lambda b: b.say(b.cut(), normalise=False), "wrong normalisation", "0 to 255"),
    "no mean": (lambda b: b.say(b.cut(), 1 / 255, normalise=False), "wrong normalisation", "fed"),
}


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_each_mistake_is_told_from_the_others(home: Path, tmp_path: Path, mistake: str) -> None:
    wrong, name, words = MISTAKES[mistake]
    bench = Bench(home / "right")

    result = check(bench.store(tmp_path / "out", wrong(bench)), home / "one.safetensors")

    assert [cause.name for cause in result.causes] == [name]
    assert result.difference.mean_tv > 10 * result.tolerance.mean_tv
    assert result.causes[0].mean_tv is not None and result.causes[0].mean_tv <= 3 * result.tolerance.mean_tv
    assert re.search(words, result.causes[0].sentence), result.causes[0].sentence


@pytest.mark.parametrize("coding", ["float16", "q8", "q4", "topk"])
def test_mistakes_are_seen_through_a_coding_that_loses(home: Path, tmp_path: Path, coding: str) -> None:
    make(home, tmp_path / "coded", coding=coding)
    (tmp_path / "one.safetensors").symlink_to(home / "one.safetensors")
    bench = Bench(tmp_path / "coded")

    found = []
    for mistake in ("next", "transposed", "mirrored"):
        wrong = bench.store(tmp_path / mistake, MISTAKES[mistake][0](bench), coding)
        found.append([cause.name for cause in check(wrong, home / "one.safetensors").causes])

    assert found == [[MISTAKES[mistake][1]] for mistake in ("next", "transposed", "mirrored")]


def test_boxes_whose_flips_or_axes_were_mistaken_are_told_apart(home: Path, tmp_path: Path) -> None:
    bench = Bench(home / "boxes")
    columns = bench.dataset.arrays.dense
    box, flip = torch.from_numpy(columns["view_box"].astype(np.int64)), torch.from_numpy(columns["view_flip"])
    mistakes = {
        "mirrored views": bench.cut(box=box, flip=~flip),
        "flips left out": bench.cut(box=box),
        "boxes transposed": bench.cut(box=box[..., [1, 0, 3, 2]], flip=flip),
    }

    for name, views in mistakes.items():
        result = check(bench.store(tmp_path / name, bench.say(views)), home / "one.safetensors")
        assert [cause.name for cause in result.causes] == [name]


def test_another_labeler_is_named_first_whatever_the_numbers(home: Path, tmp_path: Path) -> None:
    other = check(home / "right", home / "two.safetensors")
    digest = load_labeler(home / "two.safetensors").digest
    rewrite(home / "right", tmp_path / "out", lambda records: None, lambda document: state(document, digest))

    misnamed = check(tmp_path / "out", home / "one.safetensors")

    assert [cause.name for cause in other.causes] == ["other weights"] and other.beyond == COUNT
    assert f"{digest[:12]}..." in other.causes[0].sentence
    assert not misnamed.agrees and [cause.name for cause in misnamed.causes] == ["other weights"]
    assert "nevertheless" in misnamed.causes[0].sentence and misnamed.difference.max_tv <= 1e-6


def state(document: dict[str, dict[str, dict[str, object]]], digest: str) -> None:
    document["labels"]["labeler"]["weights_digest"] = digest


def test_labels_that_no_known_mistake_explains_are_said_to_be_such(home: Path, tmp_path: Path) -> None:
    bench = Bench(home / "right")
    bench.labeler = load_labeler(home / "two.safetensors")

    result = check(bench.store(tmp_path / "out", bench.say(bench.cut())), home / "one.safetensors")

    assert [cause.name for cause in result.causes] == ["unknown"]
    assert re.search(r"none of \d+ known mistakes .* nearest is", result.causes[0].sentence)


def test_labels_in_another_precision_are_told(home: Path, tmp_path: Path) -> None:
    make(home, tmp_path / "bf16", precision="bf16")
    assert check(tmp_path / "bf16", home / "one.safetensors").agrees

    def claim(document: dict[str, dict[str, dict[str, object]]]) -> None:
        document["labels"]["labeler"]["precision"] = "float32"

    rewrite(tmp_path / "bf16", tmp_path / "out", lambda records: None, claim)
    result = check(tmp_path / "out", home / "one.safetensors")

    assert [cause.name for cause in result.causes] == ["other precision"]


def test_one_wrong_record_among_good_ones_is_found(home: Path, tmp_path: Path) -> None:
    bench = Bench(home / "right")
    name = bench.dataset.arrays.ids[4]
    wrong = bench.store(tmp_path / "out", MISTAKES["next"][0](bench), only=lambda other: other == name)

    result = check(wrong, home / "one.safetensors")

    assert (result.beyond, result.worst[0]) == (1, name)
    assert [cause.name for cause in result.causes] == ["labels of other records"]
    assert f'"{name}" those of "{bench.dataset.arrays.ids[5]}"' in result.causes[0].sentence


def test_log_sum_exp_is_checked_too(home: Path, tmp_path: Path) -> None:
    def change(records: Records) -> None:
        records.dense["dense_logz"] += np.float32(0.5)

    rewrite(home / "right", tmp_path / "out", change, lambda document: None)

    result = check(tmp_path / "out", home / "one.safetensors")

    assert [cause.name for cause in result.causes] == ["other logz"] and result.difference.max_tv <= 1e-6
    assert check(tmp_path / "out", home / "one.safetensors", tolerance=0.01).agrees


def test_the_tolerance_given_decides(home: Path, tmp_path: Path) -> None:
    bench = Bench(home / "right")
    wrong = bench.store(tmp_path / "out", bench.say(bench.cut()) / np.float32(1.1))
    found = check(wrong, home / "one.safetensors")
    worst = found.worst[1]

    assert 1e-3 < worst < 0.2 and not found.agrees
    assert check(wrong, home / "one.safetensors", tolerance=worst * 1.01).agrees
    assert not check(wrong, home / "one.safetensors", tolerance=worst * 0.99).agrees
    with pytest.raises(ladd.UsageError, match="0 to 1"):
        check(wrong, home / "one.safetensors", tolerance=2)


def test_only_the_shard_that_is_wrong_is_marked(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "plan_shards", partial(plan_shards, shard_bytes=12_000))
    bench = Bench(home / "right")
    wrong_ids = set(bench.dataset.arrays.ids[4:8])
    wrong = bench.store(tmp_path / "out", MISTAKES["double softmax"][0](bench), only=wrong_ids.__contains__)
    shards = ladd.load(wrong).folder.shards
    assert [shard.rows for shard in shards] == [4, 4, 2]

    result = check(wrong, home / "one.safetensors", sample=5)

    assert [shard.path for shard in result.shards] == [shard.path for shard in shards]
    assert [shard.agrees for shard in result.shards] == [True, False, True]
    assert sum(shard.difference.records for shard in result.shards) == 5
    assert [cause.name for cause in result.causes] == ["double softmax"]


def test_a_sample_is_spread_over_the_shards_and_depends_on_the_seed_alone() -> None:
    shards = [1000, 1000, 500, 3]

    sample = choose_records(shards, 50, seed=7)

    where = np.bincount(np.searchsorted(np.cumsum(shards), sample, side="right"), minlength=4)
    assert where.tolist() == [20, 20, 9, 1] or (where.sum() == 50 and where.min() >= 1 and abs(where[0] - 20) <= 1)
    assert np.array_equal(sample, np.unique(sample)) and np.array_equal(sample, choose_records(shards, 50, seed=7))
    assert not np.array_equal(sample, choose_records(shards, 50, seed=8))
    assert choose_records(shards, 3, seed=0).size == 3
    assert (
        choose_records([4, 2], 6, seed=0).tolist()
        == choose_records([4, 2], None, seed=3).tolist()
        == [0, 1, 2, 3, 4, 5]
    )


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_picked_records_are_those_asked_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(writer, "plan_shards", partial(plan_shards, shard_bytes=12_000))
    dataset = ladd.load(make(home, tmp_path / "out"))
    numbers = np.array([0, 1, 3, 4, 5, 8])

    chunks = list(pick_chunks(dataset, numbers, at_once))

    assert [len(chunk.records) for chunk in chunks[:-1]] == [at_once] * (len(chunks) - 1)
    assert [name for chunk in chunks for name in chunk.records.ids] == [dataset.arrays.ids[row] for row in numbers]
    assert np.array_equal(np.concatenate([chunk.pixels for chunk in chunks]), dataset.arrays.images[numbers])


def test_the_command_says_what_it_found_and_exits_by_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(home / "right")
    wrong = bench.store(tmp_path / "wrong", MISTAKES["double softmax"][0](bench))
    options = ("--labeler", home / "one.safetensors", "--device", "cpu")

    assert call("check-labels", home / "right", *options) == 0
    assert "the labels are what the labeler says" in capsys.readouterr().out
    assert call("check-labels", wrong, *options, "--sample", 4) == 1
    out = capsys.readouterr().out
    assert "sample of 4 of 10 records" in out and "cause: double softmax: " in out
    assert call("check-labels", wrong, *options, "--tolerance", 1) == 0
    capsys.readouterr()
    assert call("check-labels", wrong, *options, "--all", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["agrees"], document["difference"]["records"]) == (False, COUNT)
    assert document["causes"][0]["name"] == "double softmax" and len(document["shards"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("{right} --labeler {one} --all --sample 3", 2, "exclude each other"),
        ("{set} --labeler {one}", 2, "no dense labels"),
        ("{right} --labeler {right}/nothing", 2, "no such file"),
        ("{right} --labeler {one} --labeler {two}", 2, "the manifest names 1"),
        ("{right} --labeler {other}", 1, "3x64x64"),
    ],
)
def test_a_call_that_cannot_be_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: int, message: str
) -> None:
    other = make_labeler(tmp_path / "other.safetensors", size=64)
    files = {"one": home / "one.safetensors", "two": home / "two.safetensors", "other": other}
    words = arguments.format(right=home / "right", set=home / "set", **files).split()

    assert call("check-labels", *words, "--device", "cpu") == code
    assert message in capsys.readouterr().err


def test_the_tolerance_is_far_above_what_arithmetic_does_to_the_labels() -> None:
    spec = Network(name="convnet-d3", width=32, classes=10, channels=3, size=32)
    torch.manual_seed(0)
    network = build_network(spec).eval()
    with torch.inference_mode():
        network.classifier.weight.mul_(30)  # type: ignore[operator, union-attr]
        images = torch.randn(24, 3, 32, 32) * 3 * torch.rand(24, 1, 1, 1)

        def distance(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
            far = (torch.softmax(one.double(), 1) - torch.softmax(other.double(), 1)).abs().sum(1) / 2
            return float(far.mean()), float(far.max())

        def one_by_one() -> torch.Tensor:
            return torch.cat([network(image[None]) for image in images])

        whole, single = network(images), one_by_one()
        with torch.autocast("cpu", torch.bfloat16):
            low = distance(network(images), one_by_one())
        full = [distance(whole, single), distance(whole, network.double()(images.double()))]

    assert torch.softmax(whole, 1).amax(1).mean() > 0.7  # confident, as labelers are
    assert max(mean for mean, _ in full) < ARITHMETIC["float32"][0] / 10
    assert max(most for _, most in full) < ARITHMETIC["float32"][1] / 10
    assert low[0] < ARITHMETIC["bf16"][0] and low[1] < ARITHMETIC["bf16"][1]
