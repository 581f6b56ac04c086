"""ConvNet, the field's standard network: blocks of 3x3 convolution, instance norm, ReLU, 2x2 average pool.

Source: Gidaris and Komodakis 2018, as used by DC, DM, MTT, GLaD and LADD (ConvNetD3 at 32 px, ConvNetD5
at 128 px, width 128). Instance norm is a group norm with one channel a group, affine.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class ConvNet(nn.Module):
    """`depth` blocks of `width` channels, then one linear layer."""

    def __init__(self, channels: int, classes: int, width: int, depth: int, size: int) -> None:
        """Build the layers; `size` is the side of the square input in pixels."""
        super().__init__()
        blocks: list[nn.Module] = []
        for _ in range(depth):
            blocks += [
                nn.Conv2d(channels, width, kernel_size=3, padding=1),
                nn.GroupNorm(width, width, affine=True),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
            channels, size = width, size // 2
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * size * size, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, size, size]."""
        features = self.features(images).flatten(1)  # [batch, width * size * size]
        return cast(Tensor, self.classifier(features))
