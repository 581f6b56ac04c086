"""ConvNet, the field's standard network: blocks of 3x3 convolution, instance norm, ReLU, 2x2 average pool.

Source: Gidaris and Komodakis 2018, as used by DC, DM, MTT, GLaD and LADD (ConvNetD3 at 32 px, ConvNetD5
at 128 px, width 128). Instance norm is a group norm with one channel a group, affine. For one channel the first
convolution pads by 3 in place of 1, so that MNIST's 28 px become 32.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ladd_data.errors import UsageError
from ladd_data.manifest import Network

GREY_MARGIN = 4
"""Pixels by which the first layer widens an image of one channel, in all convolutional networks but ResNet."""


class ConvNet(nn.Module):
    """`depth` blocks of `spec.width` channels, then one linear layer."""

    def __init__(self, spec: Network, depth: int) -> None:
        """Build the layers.

        Raises:
            UsageError: the images are too small to be halved `depth` times.
        """
        super().__init__()
        side = halved(spec, depth)
        channels: int = spec.channels
        width = spec.width or 0
        blocks: list[nn.Module] = []
        for block in range(depth):
            padding = 3 if spec.channels == 1 and block == 0 else 1
            blocks += [
                nn.Conv2d(channels, width, kernel_size=3, padding=padding),
                instance_norm(width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
            channels = width
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * side * side, spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, size, size]."""
        features = self.features(images).flatten(1)  # [batch, width * side * side]
        return cast(Tensor, self.classifier(features))


def instance_norm(channels: int) -> nn.Module:
    """Return the code family's "instancenorm": a group norm with one channel a group, affine."""
    return nn.GroupNorm(channels, channels, affine=True)


def halved(spec: Network, times: int) -> int:
    """Return the side in pixels that is left after the image was halved so many times.

    Raises:
        UsageError: nothing is left.
    """
    margin = GREY_MARGIN if spec.channels == 1 else 0
    side = (spec.size + margin) >> times
    if side < 1:
        least = 2**times - margin
        raise UsageError(f"{spec.name} halves the image {times} times: {spec.size} px is too small, {least} the least.")
    return side
