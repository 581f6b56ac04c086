"""Networks from elsewhere: torchvision's and timm's by name, without weights, and a person's own `module:factory`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Network

_NOT_AUXILIARY = {"aux_logits": False, "init_weights": True}
_TORCHVISION_NEEDS: dict[str, Callable[[Network], dict[str, Any]]] = {
    "googlenet": lambda spec: _NOT_AUXILIARY,
    "inception_v3": lambda spec: _NOT_AUXILIARY,
    "vit": lambda spec: {"image_size": spec.size},
    "maxvit": lambda spec: {"input_size": (spec.size, spec.size)},
}
"""By the name up to its first `_`, or the whole name: what a builder must be told."""


class Grey(nn.Module):
    """A network of three channels that takes images of one: the channel is given to it three times."""

    def __init__(self, network: nn.Module) -> None:
        """Keep the network."""
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, 1, size, size]."""
        return cast(Tensor, self.network(images.expand(-1, 3, -1, -1)))


def build_from_torchvision(spec: Network) -> nn.Module:
    """Return one of torchvision's classifiers, `torchvision:NAME`, freshly initialised.

    Raises:
        UsageError: there is none of that name, or it cannot have such images or classes.
    """
    from torchvision import models

    name = spec.name.removeprefix("torchvision:")
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f'torchvision has no classifier "{name}". {nearest(name, known)}')
    needs = _TORCHVISION_NEEDS.get(name) or _TORCHVISION_NEEDS.get(name.partition("_")[0]) or (lambda spec: {})
    try:
        network: nn.Module = models.get_model(name, weights=None, num_classes=spec.classes, **needs(spec))
    except (ValueError, AssertionError, RuntimeError) as error:
        if isinstance(error, NotImplementedError):
            raise
        raise UsageError(f"{spec.name}: not with {spec.size} px and {spec.classes} classes ({error}).") from error
    return Grey(network) if spec.channels == 1 else network


def build_from_timm(spec: Network) -> nn.Module:
    """Return one of timm's classifiers, `timm:NAME`, freshly initialised; nothing is downloaded.

    Raises:
        UsageError: timm is not installed, has none of that name, or it cannot have such images or classes.
    """
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(f'{spec.name}: timm is not installed: run "pip install ladd-data[timm]".') from error
    name = spec.name.removeprefix("timm:")
    if not timm.is_model(name):  # "hf-hub:..." and the like load from elsewhere: no
        close = timm.list_models(f"*{name[:6]}*")[:20] or ["resnet18", "vit_tiny_patch16_224"]
        raise UsageError(f'timm has no network "{name}". {nearest(name, close)}')
    fields = {"pretrained": False, "num_classes": spec.classes, "in_chans": spec.channels}
    try:
        try:
            network = timm.create_model(name, **fields, img_size=spec.size)
        except TypeError:  # most convolutional networks take any size and know no such argument
            network = timm.create_model(name, **fields)
    except (ValueError, AssertionError, RuntimeError, TypeError) as error:
        raise UsageError(f"{spec.name}: not with {spec.size} px and {spec.classes} classes ({error}).") from error
    return cast(nn.Module, network)


def build_from_code(spec: Network) -> nn.Module:
    """Import `module`, call `factory(classes=, channels=, size=, **options)` and return the network it gives.

    Raises:
        UsageError: it cannot be imported, fails, or gives something else.
    """
    module, _, attribute = spec.name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        advice = "Install it, or put its folder in PYTHONPATH."
        raise UsageError(f"{spec.name}: cannot be imported ({error}). {advice}") from error
    try:
        network = factory(classes=spec.classes, channels=spec.channels, size=spec.size, **spec.options)
    except Exception as error:
        call = f"{attribute}(classes=, channels=, size={''.join(f', {name}=' for name in spec.options)})"
        raise UsageError(f"{spec.name}: {call} failed: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{spec.name}: gave a {type(network).__name__}; expected a torch.nn.Module.")
    return network
