"""Recipes: complete, sourced, overridden and resolved; schedules, optimisers and the average against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import ladd_data as ladd
from ladd_data.deploy.losses import loss_of
from ladd_data.deploy.optimizer import Average, make_average, make_optimizer
from ladd_data.deploy.resolve import find_recipe, override, resolve
from ladd_data.deploy.schedule import rate
from ladd_data.manifest import Manifest, Network
from ladd_data.models import NETWORK_NAMES
from ladd_data.recipe import Augmentation, BatchRule, Optimizer, Recipe, Schedule
from ladd_data.recipes import RECIPES, SOURCES

NETWORK = Network(name="convnet-d3", width=8, classes=3, channels=3, size=32)


@pytest.fixture
def manifest(labelled: Any) -> Manifest:
    return ladd.load(labelled).manifest


def learned(manifest: Manifest, lr: float | None) -> Manifest:
    made = manifest.distillation.model_copy(update={"learned_lr": lr})
    return manifest.model_copy(update={"distillation": made})


def with_images(manifest: Manifest, count: int) -> Manifest:
    return manifest.model_copy(update={"images": manifest.images.model_copy(update={"count": count})})


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_whole_sourced_and_survives_json(name: str, manifest: Manifest) -> None:
    recipe = RECIPES[name]
    assert SOURCES[name] and recipe.source
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    unbound = override(recipe, ["augmentation.replay=false"]) if recipe.augmentation else recipe

    resolved = resolve(unbound, learned(manifest, 0.02), NETWORK)

    assert resolved.optimizer and resolved.optimizer.lr and resolved.batch_size and resolved.epochs
    assert loss_of(resolved).formula
    assert all(network in NETWORK_NAMES or ":" in network for network in recipe.optimizer.lr_by_network)  # type: ignore[union-attr]


def test_the_methods_that_are_promised_are_there() -> None:
    promised = "ladd glad mtt datm dc dsa dm idc rded sre2l cda gvbsm edc gift gift-code hello"
    assert set(promised.split()) <= RECIPES.keys() == SOURCES.keys()


def test_an_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(ladd.UsageError, match='Did you mean "rded"'):
        find_recipe("redd")


def test_the_datasets_own_recipe_is_filled_where_it_says_nothing(manifest: Manifest) -> None:
    assert manifest.recipe.optimizer is None  # ladd label writes the loss alone
    filled, base = find_recipe(None, manifest), RECIPES["ladd"]
    same = base.model_dump(exclude={"source"})
    assert filled.model_dump(exclude={"source"}) == same

    bare = RECIPES["dc"].model_copy(update={"schedule": None})
    own = find_recipe(None, manifest.model_copy(update={"recipe": bare}))
    assert own.augmentation is None and own.ema is None  # DC does neither, and says what it trains with
    assert own.schedule == base.schedule and own.epochs == 300


def test_fields_are_overridden_by_path() -> None:
    changed = override(
        RECIPES["glad"],
        ["optimizer.lr=0.02", "epochs=7", "augmentation.dsa=flip_crop", "ema=none", "view_reduction=mean"],
    )

    assert changed.optimizer == Optimizer(name="sgd", lr=0.02, momentum=0.9, weight_decay=5e-4)  # for every network
    assert (changed.epochs, changed.ema, changed.view_reduction) == (7, None, "mean")
    assert changed.augmentation == Augmentation(dsa="flip_crop")
    assert override(RECIPES["dc"], ["augmentation.flip=true"]).augmentation == Augmentation(flip=True)
    assert override(RECIPES["idc"], ["schedule.at=[0.5, 0.75]"]).schedule == Schedule(
        kind="step", at=(0.5, 0.75), factor=0.2
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "expected FIELD=VALUE"),
        ("optimiser.lr=1", 'no part "optimiser". Did you mean "optimizer"'),
        ("optimizer.rate=1", "optimizer.rate"),
        ("epochs=0", "--set epochs: .*greater than or equal to 1; found 0"),
        ("loss=l1", "--set loss"),
        ("epochs.number=3", 'no part "epochs"'),
        ("optimizer.lr=NaN", "optimizer.lr"),
    ],
)
def test_a_wrong_override_says_where_and_what(setting: str, message: str) -> None:
    with pytest.raises(ladd.UsageError, match=message):
        override(RECIPES["ladd"], [setting])


def test_a_networks_own_learning_rate_goes_first(manifest: Manifest) -> None:
    def rate_of(network: str) -> float | None:
        spec = NETWORK.model_copy(update={"name": network, "width": None})
        optimizer = resolve(RECIPES["ladd"], manifest, spec).optimizer
        return optimizer.lr if optimizer else None

    assert [rate_of(name) for name in ("vgg11", "resnet18", "alexnet", "vit")] == [1e-4, 1e-3, 1e-3, 1e-3]


def test_a_learned_rate_comes_from_the_dataset_or_is_asked_for(manifest: Manifest) -> None:
    resolved = resolve(RECIPES["mtt"], learned(manifest, 0.017), NETWORK)
    assert resolved.optimizer and resolved.optimizer.lr == 0.017
    with pytest.raises(ladd.UsageError, match="Set one: --lr"):
        resolve(RECIPES["mtt"], learned(manifest, None), NETWORK)


@pytest.mark.parametrize(
    ("name", "images", "expected"),
    [("gift", 3, 3), ("gift", 12, 50), ("gift", 501, 100), ("gift", 30_000, 200), ("rded", 30, 30), ("rded", 300, 100)],
)
def test_batches_follow_the_size_of_the_dataset(manifest: Manifest, name: str, images: int, expected: int) -> None:
    found = resolve(RECIPES[name], with_images(manifest, images), NETWORK).batch_size

    assert found == min(expected, images)
    assert resolve(override(RECIPES[name], ["batch_size=7"]), with_images(manifest, images), NETWORK).batch_size == 7


def test_a_rule_counts_images_per_class() -> None:
    rule = RECIPES["rded"].batch_rule
    assert rule == BatchRule(by="ipc", sizes=((1, 10), (10, 50), (50, 100)))


def test_stored_views_are_not_replayed_where_there_are_none(manifest: Manifest, unlabelled: Any) -> None:
    with pytest.raises(ladd.UsageError, match="views of the kind grid"):
        resolve(RECIPES["sre2l"], manifest, NETWORK)
    with pytest.raises(ladd.UsageError, match="no dense labels"):
        resolve(RECIPES["gvbsm"], ladd.load(unlabelled).manifest, NETWORK)
    assert resolve(override(RECIPES["sre2l"], ["augmentation.replay=false"]), manifest, NETWORK).batch_size == 1024


def test_what_a_run_needs_is_asked_for(manifest: Manifest) -> None:
    for missing in ("optimizer", "schedule", "epochs"):
        with pytest.raises(ladd.UsageError, match=missing):
            resolve(RECIPES["ladd"].model_copy(update={missing: None}), manifest, NETWORK)
    with pytest.raises(ladd.UsageError, match="--batch-size"):
        resolve(RECIPES["ladd"].model_copy(update={"batch_size": None}), manifest, NETWORK)


def rates(schedule: Schedule, total: int = 300) -> list[float]:
    return [rate(schedule, done, total) for done in range(total)]


def torch_rates(make: Any, total: int = 300) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = make(optimizer), []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("total", [300, 1000, 7])
def test_schedules_are_those_of_torch(total: int) -> None:
    lr = torch.optim.lr_scheduler
    thirds = [2 * total // 3, 5 * total // 6]
    pairs = [
        (Schedule(kind="constant"), lambda o: lr.ConstantLR(o, factor=1.0)),
        (Schedule(kind="step", at=(2 / 3, 5 / 6), factor=0.2), lambda o: lr.MultiStepLR(o, thirds, gamma=0.2)),
        (Schedule(kind="cosine"), lambda o: lr.CosineAnnealingLR(o, T_max=total)),
        (
            Schedule(kind="half-cosine"),
            lambda o: lr.LambdaLR(o, lambda e: 0.5 * (1 + math.cos(math.pi * e / total / 2))),
        ),
    ]
    for schedule, make in pairs:
        assert rates(schedule, total) == pytest.approx(torch_rates(make, total), abs=1e-9), schedule.kind


def test_half_cosine_steep_is_edcs_formula() -> None:
    total, zeta = 300, 2.0

    def edc(step: int) -> float:
        if step <= total * 5 / 6:
            return 0.5 * (1 + math.cos(math.pi * step / (zeta * total)))
        return 0.5 * (1 + math.cos(math.pi * 5 / (6 * zeta))) * (6 * total - 6 * step) / total

    found = rates(Schedule(kind="half-cosine-steep"), total)
    assert found == pytest.approx([edc(step) for step in range(total)], abs=1e-12)
    assert max(abs(a - b) for a, b in pairwise(found)) < 0.02  # no jump


def test_warmup_cosine_rises_for_its_share_and_falls_to_zero() -> None:
    found = rates(Schedule(kind="warmup-cosine", warmup=0.5), 1000)

    glad = [e / 500 if e <= 500 else (1 + math.cos(math.pi * (e - 501) / 500)) / 2 for e in range(1000)]
    assert max(abs(ours - theirs) for ours, theirs in zip(found, glad, strict=True)) < 0.005  # an epoch's difference
    assert found[0] > 0 and found[499] < found[500] == 1 and 0 < found[999] < 1e-4
    assert rate(Schedule(kind="warmup-cosine", warmup=0.5), 0, 1) > 0
    assert rate(Schedule(kind="warmup-cosine", warmup=1.0), 9, 10) <= 1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def one_step(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[torch.Tensor]:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("decay_vectors", [True, False])
def test_the_first_step_of_each_optimiser_is_its_formula(decay_vectors: bool) -> None:
    for name in ("sgd", "adam", "adamw"):
        model = network()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        wanted = Optimizer(name=name, lr=0.1, momentum=0.9, weight_decay=0.5, decay_vectors=decay_vectors)

        after = one_step(make_optimizer(model, wanted), model)

        for old, new in zip(before, after, strict=True):
            decay = 0.5 if decay_vectors or old.dim() > 1 else 0.0
            gradient = 1 + decay * old
            expected = {
                "sgd": old - 0.1 * gradient,
                "adam": old - 0.1 * gradient.sign(),  # at the first step m / sqrt(v) is the sign
                "adamw": old * (1 - 0.1 * decay) - 0.1,
            }[name]
            torch.testing.assert_close(new, expected, atol=1e-6, rtol=1e-5)


def test_momentum_is_that_of_sgd() -> None:
    model = network()
    optimizer = make_optimizer(model, Optimizer(name="sgd", lr=0.1, momentum=0.9))
    steps = [one_step(optimizer, model)[0][0, 0] for _ in range(3)]

    assert float(steps[1] - steps[0]) == pytest.approx(-0.1 * 1.9, rel=1e-5)
    assert float(steps[2] - steps[1]) == pytest.approx(-0.1 * 2.71, rel=1e-5)


def moved(average: Average, parameter: torch.Tensor, values: list[float]) -> float:
    for value in values:
        with torch.no_grad():
            parameter.fill_(value)
        average.update()
    average.swap()
    return float(parameter.detach().sum())


def test_the_average_is_its_closed_form() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 5.0)

    found = moved(Average(model, 0.9), model.weight, [1.0, 2.0, 3.0])

    assert found == pytest.approx(0.9**3 * 5 + 0.1 * (0.81 * 1 + 0.9 * 2 + 3))


def test_warm_up_is_a_plain_mean_until_the_decay_is_reached() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, 0.75, warmup=True)

    assert moved(average, model.weight, [1.0, 2.0, 3.0, 6.0]) == pytest.approx(3.0)
    average.swap()
    assert float(model.weight.detach()) == 6.0  # the network has its own weights back
    assert moved(average, model.weight, [7.0]) == pytest.approx(0.75 * 3 + 0.25 * 7)


def test_batch_statistics_are_not_averaged() -> None:
    model = network()
    average = make_average(model, RECIPES["edc-cifar"])
    assert average is not None and average.decay == 0.99 and not average.warmup
    model[1].running_mean.fill_(3.0)  # type: ignore[operator]

    average.update()
    average.swap()

    assert float(model[1].running_mean[0]) == 3.0  # type: ignore[index]
    assert make_average(model, RECIPES["mtt"]) is None
