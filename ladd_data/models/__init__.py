"""Networks by name, as the papers use them: labelers and students are built here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Network
from ladd_data.models.alexnet import AlexNet
from ladd_data.models.convnet import ConvNet
from ladd_data.models.elsewhere import build_from_code, build_from_timm, build_from_torchvision
from ladd_data.models.resnet import ResNet18
from ladd_data.models.vgg import VGG11
from ladd_data.models.vit import ViT

CONVNET_WIDTH = 128
"""Channels of a ConvNet's blocks in all the papers."""

DEPTHS = {f"convnet-d{depth}": depth for depth in (3, 4, 5, 6)}

_BUILDERS: dict[str, Callable[[Network], nn.Module]] = {
    **dict.fromkeys(DEPTHS, lambda spec: ConvNet(spec, DEPTHS[spec.name])),
    "alexnet": AlexNet,
    "resnet18": ResNet18,
    "vgg11": lambda spec: VGG11(spec, head=7),
    "vgg11-cifar": lambda spec: VGG11(spec, head=None),
    "vit": lambda spec: ViT(spec, patch=16, depth=10, norm=False),
    "vit-cifar": lambda spec: ViT(spec, patch=4, depth=6, norm=True),
}
NETWORK_NAMES = tuple(_BUILDERS)
"""The networks of this package; beside them torchvision:NAME, timm:NAME and module:factory."""


def describe_network(
    name: str,
    *,
    classes: int,
    channels: int,
    size: int,
    width: int | None = None,
    options: Mapping[str, bool | int | float | str] | None = None,
) -> Network:
    """Return the description of a network; a ConvNet without a width gets the papers' 128.

    Raises:
        UsageError: a width or options are given to a network that has none.
    """
    if name in DEPTHS and width is None:
        width = CONVNET_WIDTH
    fields = {"name": name, "width": width, "classes": classes, "channels": channels, "size": size}
    spec = Network.model_validate({**fields, "options": dict(options or {})})
    _refuse_what_has_no_meaning(spec)
    return spec


def is_code(name: str) -> bool:
    """Tell whether a network's name is `module:factory`: somebody's code, which a file must not make us run."""
    family, colon, _ = name.partition(":")
    return bool(colon) and family not in ("torchvision", "timm")


def build_network(spec: Network, *, allow_code: bool = False) -> nn.Module:
    """Return a freshly initialised network that maps float32 [batch, channels, size, size] to logits.

    Args:
        spec: what to build.
        allow_code: whether a `module:factory` may be imported and called. True only where a person named it
            in this very call: a description read from a file is not a request to run code.

    Raises:
        UsageError: the name is not known, needs code that was not allowed or a package that is not installed,
            or the network cannot take such images.
    """
    _refuse_what_has_no_meaning(spec)
    if spec.name in _BUILDERS:
        return _BUILDERS[spec.name](spec)
    if spec.name.startswith("torchvision:"):
        return build_from_torchvision(spec)
    if spec.name.startswith("timm:"):
        return build_from_timm(spec)
    if not is_code(spec.name):
        known = (*NETWORK_NAMES, "torchvision:NAME", "timm:NAME", "module:factory")
        raise UsageError(f'network "{spec.name}" is not known. {nearest(spec.name, known)}')
    if not allow_code:
        raise UsageError(
            f'network "{spec.name}" is code outside this package, and a file does not make it run. '
            f'If you trust it, name it yourself: "--arch {spec.name}" or network="{spec.name}".'
        )
    return build_from_code(spec)


def sketch_network(spec: Network, *, allow_code: bool = False) -> nn.Module:
    """Return the network on the meta device, without memory for weights, after a forward pass that proves it works.

    Networks that cannot be built there, a few of torchvision's and all of `module:factory`, come on the CPU.

    Raises:
        UsageError: as `build_network`; or the network does not turn one such image into `classes` logits.
    """
    try:
        with torch.device("cpu" if is_code(spec.name) else "meta"):
            network = build_network(spec, allow_code=allow_code)
    except NotImplementedError:  # torchvision's RegNets ask for values while they are built
        network = build_network(spec).to("meta")
    place = "cpu" if is_code(spec.name) else "meta"
    image = torch.zeros(1, spec.channels, spec.size, spec.size, device=place)
    asked = f"{spec.name}: cannot take {spec.channels}x{spec.size}x{spec.size} images"
    try:
        with torch.no_grad():
            logits = network.eval()(image)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise UsageError(f"{asked} ({str(error).splitlines()[0]}). Choose another network or size.") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, spec.classes):
        found = f"shape {list(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UsageError(f"{spec.name}: gives {found}; expected logits of shape [1, {spec.classes}].")
    return network


def _refuse_what_has_no_meaning(spec: Network) -> None:
    if spec.name in DEPTHS and spec.width is None:
        raise UsageError(f"{spec.name}: has no width; expected the channels of each block, {CONVNET_WIDTH} as a rule.")
    if spec.name not in DEPTHS and spec.width is not None:
        raise UsageError(f"{spec.name}: has one width only; leave out {spec.width}. Widths are for convnet-d3 to -d6.")
    if spec.options and not is_code(spec.name):
        raise UsageError(f"{spec.name}: takes no options, found {sorted(spec.options)}. They are for module:factory.")
