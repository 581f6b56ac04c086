"""Deployment: Eq. 5 to the letter, students that learn, runs that resume and share seeds, and misuse refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_distilled
from torch import nn

import ladd_data as ladd
from ladd_data.convert import convert, prepare
from ladd_data.deploy.keep import Keep
from ladd_data.deploy.losses import LADD, HardLabels
from ladd_data.deploy.resolve import find_recipe, override
from ladd_data.deploy.results import SeedResult
from ladd_data.deploy.train import train_students
from ladd_data.manifest import Network
from ladd_data.models import build_network
from ladd_data.recipe import Recipe
from ladd_data.sources import ImageSet

NETWORK = Network(name="convnet-d3", width=8, classes=3, channels=3, size=32)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_network(NETWORK)


def cross_entropy64(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return -(target.double() * torch.log_softmax(logits.double(), -1)).sum(-1)


def equation_5(model: nn.Module, dataset: ladd.Dataset, batch: ladd.Batch, *, reduction: str) -> torch.Tensor:
    """Eq. 5 image by image and view by view, in float64."""
    assert batch.dense is not None
    total = torch.zeros((), dtype=torch.float64)
    for image, label, dense in zip(batch.image, batch.label, batch.dense, strict=True):
        one_hot = torch.nn.functional.one_hot(label, 3)
        total += cross_entropy64(model(dataset.model_input(image[None]))[0], one_hot)
        views = dataset.views(image)[0]
        local = torch.stack([cross_entropy64(model(views[j : j + 1])[0], dense[j]) for j in range(25)])
        total += local.sum() if reduction == "sum" else local.mean()
    return total / len(batch)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("views_per_pass", [None, 1, 7])
def test_the_ladd_loss_and_its_gradients_are_equation_5(
    labelled: Path, model: nn.Module, reduction: str, views_per_pass: int | None
) -> None:
    dataset = ladd.load(labelled)
    batch = next(iter(dataset.loader(4)))
    loss = LADD(reduction, views_per_pass)(model, batch, dataset)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(loss, list(model.parameters()))

    expected = equation_5(model, dataset, batch, reduction=reduction)
    expected_gradients = torch.autograd.grad(expected, list(model.parameters()))

    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in expected_gradients)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        assert float((found - wanted).abs().max()) <= 1e-5 * largest


def test_hard_labels_is_the_first_term_alone(labelled: Path, model: nn.Module) -> None:
    dataset = ladd.load(labelled)
    batch = next(iter(dataset.loader(6)))

    loss = HardLabels()(model, batch, dataset)

    logits = model(dataset.model_input(batch.image))
    expected = cross_entropy64(logits, torch.nn.functional.one_hot(batch.label, 3)).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_front_door_spells_the_loss_as_documented(labelled: Path, model: nn.Module) -> None:
    dataset = ladd.load(labelled)
    for batch in dataset.loader(batch_size=4, shuffle=True, seed=0, device="cpu"):
        assert ladd.losses.LADD()(model, batch, dataset).ndim == 0


def real_images(dataset: ladd.Dataset, count: int = 12) -> ImageSet:
    images = np.random.default_rng(5).integers(0, 256, (count, 3, 32, 32), np.uint8)
    return ImageSet("random", images, np.arange(count) % 3, dataset.classes)


def plain(name: str, *changes: str) -> Recipe:
    """Return a recipe without augmentation and average, for a few steps."""
    return override(find_recipe(name), ["augmentation=none", "ema=none", "batch_size=4", "epochs=2", *changes])


LADD_PLAIN, HARD_PLAIN = plain("ladd"), plain("hard-labels")


def losses(results: list[SeedResult] | tuple[SeedResult, ...]) -> list[float]:
    return [result.loss for result in results]


def test_the_same_seed_gives_the_same_student(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    recipe = override(find_recipe("ladd"), ["epochs=3", "batch_size=4", "optimizer.lr=0.01"])

    runs = [train_students(dataset, NETWORK, recipe, real_images(dataset), 2) for _ in range(2)]

    assert losses(runs[0].seeds) == losses(runs[1].seeds) and runs[0].seeds[0].loss != runs[0].seeds[1].loss
    assert [seed.steps for seed in runs[0].seeds] == [6, 6]
    assert losses(train_students(dataset, NETWORK, recipe, real_images(dataset), [1]).seeds) == [runs[0].seeds[1].loss]
    run = runs[0].run
    assert run.dataset == dataset.manifest.digest and run.recipe.optimizer and run.recipe.optimizer.lr == 0.01


def test_a_student_fits_its_distilled_images(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    recipe = plain("hard-labels", "epochs=60", "batch_size=6", "optimizer.lr=0.05")

    results = train_students(dataset, NETWORK, recipe, real_images(dataset), 1)

    assert results.seeds[0].loss < 0.1 and results.std == 0


def test_mean_and_deviation_are_over_seeds(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    results = train_students(dataset, NETWORK, HARD_PLAIN, real_images(dataset), 3)

    values = np.array([seed.accuracy for seed in results.seeds])
    assert results.mean == pytest.approx(values.mean())
    assert results.std == pytest.approx(values.std(ddof=1))


def test_the_tested_weights_are_the_average(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    steps = 4
    recipe = plain("hard-labels", f"epochs={steps}", "batch_size=6", "optimizer.lr=0.5", "schedule.kind=constant")
    frozen = override(recipe, ["ema=1", "ema_warmup=false"])
    torch.manual_seed(0)
    untrained = build_network(NETWORK)

    tested: list[torch.Tensor] = []

    def keep_weights(network: nn.Module, *others: object) -> float:
        tested.append(next(network.parameters()).detach().clone())
        return 0.5

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ladd_data.deploy.train.accuracy", keep_weights)
        train_students(dataset, NETWORK, frozen, real_images(dataset), 1)
        train_students(dataset, NETWORK, recipe, real_images(dataset), 1)

    first = next(untrained.parameters())
    assert torch.equal(tested[0], first)  # a decay of 1 never leaves the first weights
    assert not torch.allclose(tested[1], first)


def test_rates_follow_the_schedule_by_epochs_or_by_steps(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ladd.load(labelled)
    seen: list[float] = []
    step = torch.optim.SGD.step

    def look(self: torch.optim.SGD) -> None:
        seen.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.SGD, "step", look)
    wanted = ["optimizer.lr=0.01", "schedule.kind=step", "schedule.at=[0.5]", "schedule.factor=0.1"]
    for every, expected in (("epoch", [0.01] * 2 + [0.001] * 4), ("step", [0.01] * 3 + [0.001] * 3)):
        recipe = plain("hard-labels", "epochs=3", *wanted, f"schedule.every={every}")
        train_students(dataset, NETWORK, recipe, real_images(dataset), 1)
        assert seen == pytest.approx(expected)
        seen.clear()


def test_some_views_per_step_are_enough_to_train(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    results = train_students(dataset, NETWORK, override(LADD_PLAIN, ["views_per_step=5"]), real_images(dataset), 1)

    assert results.run.recipe.views_per_step == 5 and "sum_j" in results.run.formula


def test_a_run_says_all_of_itself(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    document = train_students(dataset, NETWORK, HARD_PLAIN, real_images(dataset), 1).document()

    assert document["recipe"]["schedule"]["kind"] == "warmup-cosine"
    assert document["recipe"]["optimizer"]["lr"] == 0.001 and document["options"]["precision"] == "float32"
    assert document["val_digest"] == real_images(dataset).digest() and document["libraries"]["torch"]
    assert document["formula"] == "CE(z, y) [x, y]" and [seed["seed"] for seed in document["seeds"]] == [0]


def test_finished_seeds_are_not_trained_again(labelled: Path, tmp_path: Path) -> None:
    dataset, keep = ladd.load(labelled), Keep(tmp_path / "out.json")
    reference = train_students(dataset, NETWORK, HARD_PLAIN, real_images(dataset), 3)

    class Killed(Exception):
        pass

    def die(result: SeedResult) -> None:
        if result.seed == 1:
            raise Killed

    with pytest.raises(Killed):
        train_students(dataset, NETWORK, HARD_PLAIN, real_images(dataset), 3, keep=keep, on_seed=die)
    assert not keep.path.exists() and len(list(keep.folder.iterdir())) == 2

    trained: list[int] = []
    results = train_students(
        dataset, NETWORK, HARD_PLAIN, real_images(dataset), 3, keep=keep, on_step=lambda seed, *_: trained.append(seed)
    )
    assert set(trained) == {2}
    assert losses(results.seeds) == losses(reference.seeds)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json"]

    trained.clear()
    more = train_students(
        dataset, NETWORK, HARD_PLAIN, real_images(dataset), 4, keep=keep, on_step=lambda seed, *_: trained.append(seed)
    )
    assert set(trained) == {3} and losses(more.seeds)[:3] == losses(reference.seeds)


def test_results_of_another_run_are_not_taken_up(labelled: Path, unlabelled: Path, tmp_path: Path) -> None:
    dataset, keep = ladd.load(labelled), Keep(tmp_path / "out.json")
    train_students(dataset, NETWORK, HARD_PLAIN, real_images(dataset), 1, keep=keep)
    before = keep.path.read_bytes()

    changed = override(HARD_PLAIN, ["optimizer.lr=0.5"])
    with pytest.raises(ladd.UsageError, match=r"optimizer.lr was 0.001, is 0.5. Choose another -o"):
        train_students(dataset, NETWORK, changed, real_images(dataset), 1, keep=keep)
    with pytest.raises(ladd.UsageError, match="dataset was"):
        train_students(ladd.load(unlabelled), NETWORK, HARD_PLAIN, real_images(dataset), 1, keep=keep)
    with pytest.raises(ladd.UsageError, match="test images was"):
        train_students(dataset, NETWORK, HARD_PLAIN, real_images(dataset, 9), 1, keep=keep)
    assert keep.path.read_bytes() == before

    again = train_students(dataset, NETWORK, changed, real_images(dataset), 1, keep=Keep(keep.path, overwrite=True))
    assert again.run.recipe.optimizer and again.run.recipe.optimizer.lr == 0.5
    for junk in (b"", b"[]", b'{"seeds": 3}', before.replace(b'"accuracy"', b'"accuracies"')):
        keep.path.write_bytes(junk)
        with pytest.raises(ladd.LaddError, match="not a readable file of results"):
            train_students(dataset, NETWORK, HARD_PLAIN, real_images(dataset), 1, keep=keep)


def test_misuse_is_refused_with_what_to_do(tmp_path: Path, unlabelled: Path, labelled: Path, model: nn.Module) -> None:
    dataset = ladd.load(unlabelled)
    with pytest.raises(ladd.UsageError, match="ladd label"):
        train_students(dataset, NETWORK, LADD_PLAIN, real_images(dataset), 1)
    batch = next(iter(dataset.loader(2)))
    with pytest.raises(ladd.UsageError, match="ladd label"):
        LADD()(model, batch, dataset)
    with pytest.raises(ladd.UsageError, match="sum, mean"):
        LADD("product")  # type: ignore[arg-type]

    convert(prepare(replace(make_distilled(), normalization=None, whitening="zca"), "zca"), tmp_path / "zca")
    with pytest.raises(ladd.UsageError, match="whitened"):
        train_students(ladd.load(tmp_path / "zca"), NETWORK, HARD_PLAIN, real_images(dataset), 1)

    other = NETWORK.model_copy(update={"classes": 10})
    with pytest.raises(ladd.UsageError, match="10 outputs; expected 3"):
        train_students(dataset, other, HARD_PLAIN, real_images(dataset), 1)
    with pytest.raises(ladd.UsageError, match="3x64x64 images; the dataset's are 3x32x32"):
        train_students(dataset, NETWORK.model_copy(update={"size": 64}), HARD_PLAIN, real_images(dataset), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("bee", "ant", "cat")}, "same classes in another order"),
        ({"classes": ("ant", "bee", "cow")}, "other classes"),
        ({"classes": None, "labels": np.arange(12)}, "labels 0 .. 11; expected 0 .. 2"),
        ({"images": np.zeros((12, 3, 64, 64), np.uint8)}, r"\(3, 64, 64\); expected \(3, 32, 32\)"),
        ({"images": np.zeros((0, 3, 32, 32), np.uint8), "labels": np.zeros(0, np.int64)}, "no pictures"),
    ],
)
def test_test_images_that_do_not_fit_are_refused(unlabelled: Path, change: dict[str, Any], message: str) -> None:
    dataset = ladd.load(unlabelled)

    with pytest.raises(ladd.UsageError, match=message):
        train_students(dataset, NETWORK, HARD_PLAIN, replace(real_images(dataset), **change), 1)


def test_a_diverged_student_is_an_error_not_a_number(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    recipe = override(LADD_PLAIN, ["epochs=30", "optimizer.lr=1e12", "schedule.kind=constant"])

    with pytest.raises(ladd.LaddError, match="smaller --lr"):
        train_students(dataset, NETWORK, recipe, real_images(dataset), 1)
