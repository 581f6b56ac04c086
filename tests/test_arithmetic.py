"""How students are computed, passes, precision, compiled, by several processes, changes results by rounding only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import run_alone, run_ranks, write_script
from torch import nn

import ladd_data as ladd
from ladd_data.deploy.augmentation.augment import Augmenter
from ladd_data.deploy.losses import LADD
from ladd_data.deploy.options import Options
from ladd_data.deploy.passes import has_batch_statistics, settle
from ladd_data.deploy.resolve import find_recipe, override
from ladd_data.deploy.student import AugmentedStudent
from ladd_data.deploy.train import describe_run, train_students
from ladd_data.manifest import Network
from ladd_data.models import NETWORK_NAMES, build_network, describe_network
from ladd_data.recipe import Augmentation, Recipe
from ladd_data.recipes import DSA
from ladd_data.sources import ImageSet
from ladd_data.team import Ranks, Team, make_teams

NETWORK = Network(name="convnet-d3", width=8, classes=3, channels=3, size=32)
BATCH_NORM = Network(name="torchvision:shufflenet_v2_x0_5", classes=3, channels=3, size=32)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
AUGMENTED = [
    Augmentation(dsa=DSA),
    Augmentation(dsa=DSA, dsa_per_image=True, mixup=0.8),
    Augmentation(crop_scale=(0.3, 1.0), flip=True, patch_shuffle=2, cutmix=1.0),
]


def real_images(dataset: ladd.Dataset, count: int = 12) -> ImageSet:
    images = np.random.default_rng(5).integers(0, 256, (count, 3, 32, 32), np.uint8)
    return ImageSet("random", images, np.arange(count) % 3, dataset.classes)


def recipe(*changes: str) -> Recipe:
    return override(find_recipe("ladd"), ["augmentation=none", "ema=none", "batch_size=4", "epochs=2", *changes])


def last_loss(dataset: ladd.Dataset, options: Options, wanted: Recipe, network: Network = NETWORK) -> float:
    return train_students(dataset, network, wanted, real_images(dataset), 1, options=options).seeds[0].loss


@pytest.mark.parametrize(
    "options",
    [Options(precision="bf16"), Options(channels_last=True), Options(views_per_pass=1), Options(views_per_pass=7)],
)
def test_ways_to_compute_change_the_loss_by_rounding_only(labelled: Path, options: Options) -> None:
    dataset = ladd.load(labelled)

    found, expected = (last_loss(dataset, one, recipe()) for one in (options, Options()))

    assert found == pytest.approx(expected, rel=0.02 if options.precision == "bf16" else 1e-4)


@pytest.mark.parametrize("augmentation", AUGMENTED)
def test_how_views_share_passes_changes_no_augmentation(labelled: Path, augmentation: Augmentation) -> None:
    dataset, wanted = ladd.load(labelled), recipe().model_copy(update={"augmentation": augmentation})

    losses = [last_loss(dataset, Options(views_per_pass=size), wanted) for size in (1, 7, 25)]

    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-4)


def test_views_share_passes_as_their_size_and_the_device_allow(labelled: Path) -> None:
    manifest = ladd.load(labelled).manifest
    images = manifest.images

    def chosen(
        width: int, device: torch.device, batch: int = 64, count: int = 100, side: int = 32, ranks: int = 1
    ) -> int:
        resized = images.model_copy(update={"count": count, "height": side, "width": side})
        network = describe_network("convnet-d3", width=width, classes=3, channels=3, size=32)
        options = Options(ranks_per_student=ranks)
        larger = manifest.model_copy(update={"images": resized})
        found = settle(options, larger, recipe(f"batch_size={batch}"), network, device).views_per_pass
        assert found is not None
        return found

    assert chosen(128, CPU) == 1 and chosen(128, CPU, batch=10) == 3
    assert chosen(32, CPU, batch=10) == 9  # three passes: 9, 9 and 7, not 12, 12 and 1
    assert chosen(16, CPU, batch=256, count=10, side=16) == 25  # there are no more images than 10
    assert chosen(128, CUDA, batch=100, side=128) == 2 and chosen(128, CUDA) == 25
    assert chosen(128, CUDA, ranks=4) == 7  # one each, and the full images to the process with the rest


def test_batch_statistics_are_of_one_view_of_each_image_on_every_device(labelled: Path) -> None:
    dataset = ladd.load(labelled)
    assert has_batch_statistics(BATCH_NORM)
    for device in (CPU, CUDA):
        assert settle(Options(), dataset.manifest, recipe(), BATCH_NORM, device).views_per_pass == 1

    run = describe_run(dataset, BATCH_NORM, recipe(), real_images(dataset))
    assert run.document()["passes"] == "the full images; 25 views of each, 1 a pass; batch statistics are of each pass"
    own = describe_run(dataset, BATCH_NORM, recipe(), real_images(dataset), Options(views_per_pass=9))
    assert own.options.views_per_pass == 9  # who asks for others gets them, and the file says so


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_the_papers_networks_have_no_batch_statistics(name: str) -> None:
    side = 128 if name in ("vgg11", "vit", "convnet-d6") else 32
    assert not has_batch_statistics(describe_network(name, classes=10, channels=3, size=side))


def test_a_run_says_how_its_steps_were_cut(labelled: Path) -> None:
    dataset = ladd.load(labelled)

    def passes(*changes: str, **options: Any) -> str:
        return describe_run(dataset, NETWORK, recipe(*changes), real_images(dataset), Options(**options)).passes

    assert passes() == "the full images; 25 views of each, 25 a pass"
    assert passes(views_per_pass=7) == "the full images; 25 views of each, 7 a pass"
    assert passes("views_per_step=5", full=False, views_per_pass=2) == "5 views of each, 2 a pass"
    assert passes(sub=False) == "the full images"


def count_shapes(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Compile without a compiler; return what the numbers of pictures will be that graphs are made for."""
    real = torch.compile
    shapes: set[int] = set()

    def backend(graph: Any, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        shapes.update(len(one) for one in inputs if one.dim() == 4 and one.shape[1:] == (3, 32, 32))
        return graph.forward  # type: ignore[no-any-return]

    def compile_plainly(network: nn.Module, *, dynamic: bool, mode: str | None) -> Any:
        assert (dynamic, mode) == (False, None)
        return real(network, dynamic=False, backend=backend)

    monkeypatch.setattr(torch, "compile", compile_plainly)
    return shapes


def test_a_compiled_network_trains_the_same_in_few_shapes(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, shapes = ladd.load(labelled), count_shapes(monkeypatch)
    compiled = Options(compiled=True, views_per_pass=5)

    found = train_students(dataset, NETWORK, recipe(), real_images(dataset), 2, options=compiled).seeds

    expected = train_students(dataset, NETWORK, recipe(), real_images(dataset), 2).seeds
    assert [one.loss for one in found] == pytest.approx([one.loss for one in expected], rel=1e-4)
    assert [one.accuracy for one in found] == [one.accuracy for one in expected]
    assert len(dataset) == 6 and shapes == {
        4,
        20,
    }  # the last batch has two images: it is filled up, and they are masked


def test_what_cannot_be_compiled_is_refused_in_words(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(pictures: torch.Tensor) -> torch.Tensor:
        raise TorchDynamoException("InvalidCxxCompiler: No working C++ compiler found\n\nmore")

    monkeypatch.setattr(torch, "compile", lambda network, **options: fail)
    dataset = ladd.load(labelled)

    with pytest.raises(ladd.UsageError, match=r"--compile.*No working C.. compiler found.*leave --compile out"):
        last_loss(dataset, Options(compiled=True), recipe())
    with pytest.raises(ladd.UsageError, match="CUDA graphs need an NVIDIA GPU"):
        last_loss(dataset, Options(cuda_graphs=True), recipe())


def test_cuda_graphs_are_torch_compiles_own(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, modes = ladd.load(labelled), []
    settled = settle(Options(cuda_graphs=True), dataset.manifest, recipe(), NETWORK, CUDA)
    assert settled.compiled
    monkeypatch.setattr(torch, "compile", lambda network, **given: modes.append(given["mode"]))

    from ladd_data.deploy.student import compile_network

    compile_network(build_network(NETWORK), settled)
    assert modes == ["reduce-overhead"]


def test_processes_that_share_a_step_run_each_pass_once(labelled: Path) -> None:
    dataset, augmenter = ladd.load(labelled), Augmenter(Augmentation(dsa=DSA), (0.0, 0.0, 0.0))
    torch.manual_seed(0)
    network = build_network(NETWORK)
    batch, loss = next(iter(dataset.loader(4))), LADD(views_per_pass=7)

    def gradients(rank: int, count: int) -> tuple[int, list[torch.Tensor]]:
        network.zero_grad()
        student = AugmentedStudent(network, augmenter, Options(), 0, CPU, Team(rank, count))
        student.begin(3)
        parts = list(loss.parts(student, batch, dataset, student.takes))
        sum(parts).backward()  # type: ignore[union-attr]
        return len(parts), [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    passes, whole = gradients(0, 1)
    shares = [gradients(rank, 3) for rank in range(3)]

    assert passes == 5 and sorted(count for count, _ in shares) == [1, 2, 2]
    for number, expected in enumerate(whole):
        found = sum(share[number] for _, share in shares)
        assert torch.allclose(torch.as_tensor(found), expected, rtol=1e-4, atol=1e-6)


def test_processes_are_divided_or_refused(labelled: Path) -> None:
    dataset = ladd.load(labelled)

    assert make_teams(Ranks(3, 4), 1, CPU) == (3, Team())
    with pytest.raises(ladd.UsageError, match=r"found 1 process; expected a multiple of 2. Start with torchrun"):
        last_loss(dataset, Options(ranks_per_student=2), recipe())
    with pytest.raises(ladd.UsageError, match=r"1 pass to share .the full images"):
        last_loss(dataset, Options(ranks_per_student=2, sub=False), recipe())
    with pytest.raises(ladd.UsageError, match="share students, not steps"):
        plan = ladd.EvaluationPlan(recipe(), "convnet-d3", width=4, options=Options(ranks_per_student=2))
        ladd.evaluate(dataset, real_images(dataset), labelled.parent / "out", plan)


def test_torchrun_shares_the_seeds_and_gives_the_results_of_one_process(labelled: Path, tmp_path: Path) -> None:
    images = real_images(ladd.load(labelled))
    np.savez(tmp_path / "val.npz", images=images.images.transpose(0, 2, 3, 1), labels=images.labels)
    script = write_script(tmp_path / "ladd.py")
    common = ["train", labelled, "--val", tmp_path / "val.npz", "--width", "8", "--epochs", "1", "--seeds", "3", "-o"]

    alone = run_alone(script, *common, tmp_path / "alone.json")
    together = run_ranks(script, *common, tmp_path / "together.json")

    assert alone.returncode == 0 and together.returncode == 0, alone.stderr + together.stderr
    found = [json.loads((tmp_path / name).read_text()) for name in ("alone.json", "together.json")]
    for document in found:
        for seed in document["seeds"]:
            seed.pop("seconds")
    assert found[0] == found[1] and [seed["seed"] for seed in found[0]["seeds"]] == [0, 1, 2]
    assert together.stdout.count("seed ") == 3 and together.stdout.count("over 3 seeds") == 1


@pytest.mark.parametrize("model", ["convnet-d3", "torchvision:shufflenet_v2_x0_5"])
def test_two_processes_share_one_student(labelled: Path, tmp_path: Path, model: str) -> None:
    images = real_images(ladd.load(labelled))
    np.savez(tmp_path / "val.npz", images=images.images.transpose(0, 2, 3, 1), labels=images.labels)
    script = write_script(tmp_path / "ladd.py")
    common = ["train", labelled, "--val", tmp_path / "val.npz", "--model", model, "--epochs", "2", "--seeds", "2"]
    common += [
        "--batch-size",
        "4",
        "--recipe",
        "ladd",
        "--device",
        "cpu",
        *(["--width", "8"] if "conv" in model else []),
    ]

    alone = run_alone(script, *common, "--views-per-pass", "13", "-o", tmp_path / "alone.json")
    together = run_ranks(script, *common, "--ranks-per-student", "2", "-o", tmp_path / "together.json")

    assert alone.returncode == 0 and together.returncode == 0, alone.stderr + together.stderr
    found = [json.loads((tmp_path / name).read_text()) for name in ("together.json", "alone.json")]
    assert [seed["steps"] for seed in found[0]["seeds"]] == [4, 4] and together.stdout.count("seed ") == 2
    assert "shared by 2 processes" in found[0]["passes"]
    if model == "convnet-d3":
        assert found[0]["options"]["views_per_pass"] == 13
        losses = [[seed["loss"] for seed in one["seeds"]] for one in found]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        assert [seed["accuracy"] for seed in found[0]["seeds"]] == [seed["accuracy"] for seed in found[1]["seeds"]]
    else:
        assert "running ones are averaged" in found[0]["passes"] and found[0]["options"]["views_per_pass"] == 1
