"""VGG11 of the dataset distillation papers: eight convolutions with instance norm, five max pools, one linear layer.

Source: VGG11 of the DC code family. GLaD's (LADD's test network at 128 px, Sec. 4.1) brings what the pools leave
to 7x7 by an adaptive max pool; the one for 32 px (VGG11 of DC and MTT, VGG11CIFAR of GLaD) does not.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ladd_data.manifest import Network
from ladd_data.models.convnet import halved, instance_norm

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Channels of the convolutions before each 2x2 max pool."""


class VGG11(nn.Module):
    """The stages, the adaptive pool to `head` x `head` if there is one, and the linear layer."""

    def __init__(self, spec: Network, head: int | None) -> None:
        """Build the layers.

        Raises:
            UsageError: the images are too small.
        """
        super().__init__()
        side = halved(spec, len(STAGES))
        channels: int = spec.channels
        layers: list[nn.Module] = []
        for stage in STAGES:
            for width in stage:
                padding = 3 if spec.channels == 1 and not layers else 1
                layers += [nn.Conv2d(channels, width, 3, padding=padding), instance_norm(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        if head is not None:
            layers.append(nn.AdaptiveMaxPool2d((head, head)))
            side = head
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * side * side, spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, size, size]."""
        features = self.features(images).flatten(1)  # [batch, 512 * side * side]
        return cast(Tensor, self.classifier(features))
