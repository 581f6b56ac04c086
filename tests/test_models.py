"""Networks are the papers' own: their parameter counts, what they take, and what a file can make them do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from making import make_labeler
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ladd_data.errors import LabelError, UsageError
from ladd_data.labeling.labeler import HEADER_KEY, LabelerDescription, load_labeler, save_labeler
from ladd_data.manifest import Classes, Network, Normalization
from ladd_data.manifest_json import dump_manifest, parse_manifest
from ladd_data.models import NETWORK_NAMES, build_network, describe_network, sketch_network
from ladd_data.models.arithmetic import count_flops, count_training_flops

HALF = Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)


def network(name: str, size: int, channels: int = 3, **more: object) -> Network:
    return describe_network(name, classes=10, channels=channels, size=size, **more)  # type: ignore[arg-type]


def count_parameters(spec: Network) -> int:
    return sum(parameter.numel() for parameter in sketch_network(spec).parameters())


@pytest.mark.parametrize(
    ("name", "size", "channels", "parameters"),
    [
        ("convnet-d3", 32, 3, 320_010),  # the figure that the DC family's papers print
        ("convnet-d3", 28, 1, 317_706),  # idem, MNIST
        ("convnet-d4", 64, 3, 467_850),
        ("convnet-d5", 128, 3, 615_690),
        ("vgg11-cifar", 32, 3, 9_231_114),  # as the CIFAR VGG11 with batch norm
        ("resnet18", 32, 3, 11_173_962),  # as the CIFAR ResNet18 with batch norm
        ("alexnet", 32, 3, 1_872_202),
        ("vgg11", 128, 3, 9_231_114 + 48 * 512 * 10),  # a 7x7 head
        ("vit", 128, 3, 768 * 512 + 512 + 65 * 512 + 512 + 10 * 1_574_400 + 5_130),
        ("vit-cifar", 32, 3, 48 * 512 + 512 + 65 * 512 + 512 + 6 * (1_574_400 + 2048) + 1024 + 5_130),
        ("torchvision:resnet18", 224, 3, 11_181_642),
    ],
)
def test_parameters_are_as_many_as_published(name: str, size: int, channels: int, parameters: int) -> None:
    assert count_parameters(network(name, size, channels)) == parameters


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, 128) for name in NETWORK_NAMES),
        *((name, 28) for name in ("convnet-d3", "convnet-d4", "alexnet", "resnet18", "vit-cifar")),
        *((name, 224) for name in ("convnet-d6", "vit", "torchvision:regnet_x_400mf", "torchvision:googlenet")),
        *((name, 64) for name in ("torchvision:vit_b_16", "torchvision:swin_t", "vgg11")),
    ],
)
def test_every_network_takes_one_and_three_channels_and_many_sizes(name: str, size: int, channels: int) -> None:
    sketch = sketch_network(network(name, size, channels))

    image = torch.zeros(2, channels, size, size, device="meta")
    assert sketch(image).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("convnet-d6", 32, "64 the least"),
        ("vgg11", 28, "32 the least"),
        ("resnet18", 8, "9 the least"),
        ("vit", 28, "vit-cifar"),
        ("vit-cifar", 30, "multiple of its patches' 4 px"),
        ("torchvision:alexnet", 32, "cannot take 3x32x32"),
        ("torchvision:vit_b_16", 100, "not with 100 px"),
        ("torchvision:resnt18", 32, 'Did you mean "resnet18"'),
        ("convnet-d7", 32, "Did you mean"),
        ("nothing.at:all", 32, "code outside this package"),
    ],
)
def test_what_a_network_cannot_take_is_refused_in_words(name: str, size: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sketch_network(network(name, size))


def test_a_width_or_options_where_they_mean_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="one width only"):
        network("resnet18", 32, width=64)
    with pytest.raises(UsageError, match="takes no options"):
        network("torchvision:resnet18", 32, options={"weights": "DEFAULT"})
    assert network("convnet-d3", 32).width == 128
    with pytest.raises(UsageError, match="has no width"):
        build_network(Network(name="convnet-d3", classes=10, channels=3, size=32))


def test_timm_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(UsageError, match=r"pip install ladd-data\[timm\]"):
        build_network(network("timm:resnet18", 32))


def test_timm_networks_are_built_by_name_and_never_fetched() -> None:
    pytest.importorskip("timm", reason="the extra timm is not installed")

    assert sketch_network(network("timm:vit_tiny_patch16_224", 64, 1))(torch.zeros(1, 1, 64, 64, device="meta")).shape
    with pytest.raises(UsageError, match="no network"):
        build_network(network("timm:hf_hub:timm/resnet18", 64))


def test_operations_are_counted_forward_and_backward() -> None:
    spec = network("convnet-d3", 32, width=8)
    layers = [2 * 27 * 8 * 32 * 32, 2 * 72 * 8 * 16 * 16, 2 * 72 * 8 * 8 * 8, 2 * 8 * 16 * 10]

    assert count_flops(spec) == sum(layers)
    assert count_training_flops(spec) == 3 * sum(layers) - layers[0]  # the image needs no gradient


def test_groups_do_not_blow_up_the_backward_pass() -> None:
    spec = network("torchvision:regnet_x_400mf", 64)

    assert 2.9 < count_training_flops(spec) / count_flops(spec) < 3


def test_an_old_manifest_without_the_new_fields_is_read(labelled: Path) -> None:
    text = (labelled / "meta" / "ladd.json").read_bytes()
    manifest = parse_manifest(text)
    assert manifest.labels is not None and manifest.labels.labeler is not None

    document = manifest.model_dump(mode="json")
    document["labels"]["labeler"]["network"].pop("options")
    for name in ("training_seconds", "training_device", "training_libraries"):
        document["labels"]["labeler"].pop(name)

    assert dump_manifest(type(manifest).model_validate(document, strict=False)) == dump_manifest(manifest)


MODULE = """
import pathlib, torch
pathlib.Path(__file__).with_suffix(".ran").touch()

class Net(torch.nn.Module):
    def __init__(self, classes, channels, size, hidden=4):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(channels * size * size, hidden), torch.nn.Linear(hidden, classes))
    def forward(self, x):
        return self.layers(x)

make = Net
def fails(classes, channels, size): raise KeyError("my mistake")
def wrong(classes, channels, size): return 7
def narrow(classes, channels, size): return Net(classes + 1, channels, size)
"""


@pytest.fixture
def my_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path; the file beside it appears when it is imported."""
    (tmp_path / "my_code.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_code", raising=False)
    return tmp_path / "my_code.ran"


def save_mine(path: Path, my_code: Path) -> None:
    spec = network("my_code:make", 8, options={"hidden": 6})
    description = LabelerDescription(
        network=spec, classes=Classes(names=tuple("0123456789")), normalization=HALF, epochs_done=1
    )
    save_labeler(path, build_network(spec, allow_code=True), description)
    sys.modules.pop("my_code")
    my_code.unlink()


def test_a_file_does_not_make_its_authors_code_run(tmp_path: Path, my_code: Path) -> None:
    save_mine(tmp_path / "mine.safetensors", my_code)

    with pytest.raises(UsageError, match=r"--arch my_code:make"):
        load_labeler(tmp_path / "mine.safetensors")
    with pytest.raises(UsageError, match='not "convnet-d3"'):
        load_labeler(tmp_path / "mine.safetensors", network="convnet-d3")
    assert not my_code.exists() and "my_code" not in sys.modules

    loaded = load_labeler(tmp_path / "mine.safetensors", network="my_code:make")
    assert my_code.exists()
    assert loaded.network(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_code:nothing", "cannot be imported"),
        ("no_such_module:make", "PYTHONPATH"),
        ("my_code:fails", "KeyError: 'my mistake'"),
        ("my_code:wrong", "gave a int"),
        ("my_code:narrow", r"gives shape \[1, 11\]"),
    ],
)
def test_code_that_makes_no_classifier_is_refused(my_code: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sketch_network(network(name, 8), allow_code=True)


def rewrite(path: Path, change: dict[str, object]) -> None:
    """Change fields of a labeler's network, leaving its weights."""
    with safe_open(path, framework="pt") as file:
        description = LabelerDescription.model_validate_json(file.metadata()[HEADER_KEY])
    other = description.model_copy(update={"network": description.network.model_copy(update=change)})
    save_file(load_file(path), path, metadata={HEADER_KEY: other.model_dump_json()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 10**6, "size": 4096}, "expected"),  # petabytes, were they asked for
        ({"name": "resnet18", "width": None}, "absent"),
        ({"name": "torchvision:alexnet", "width": None}, "cannot take 3x32x32"),
        ({"name": "timm:hf_hub:someone/evil", "width": None}, "timm"),
    ],
)
def test_a_description_of_another_network_is_refused_before_it_costs_memory(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = make_labeler(tmp_path / "labeler.safetensors")
    rewrite(path, change)

    with pytest.raises(LabelError, match=message):
        load_labeler(path)


def test_weights_that_are_not_numbers_are_named(tmp_path: Path) -> None:
    path = make_labeler(tmp_path / "labeler.safetensors")
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    weights = load_file(path)
    weights["features.4.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, path, metadata=header)

    with pytest.raises(LabelError, match=r"features\.4\.weight hold NaN"):
        load_labeler(path)
