"""ResNet18 of the dataset distillation papers: a 3x3 stem without a pool, instance norm in place of batch norm.

Source: He et al. 2016, ResNet18 of the DC code family (DC, MTT, GLaD; one of LADD's test networks, Sec. 4.1). The
ResNet-18 of the ImageNet-1K tables (SRe2L, RDED) is torchvision:resnet18.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from ladd_data.errors import UsageError
from ladd_data.manifest import Network
from ladd_data.models.convnet import instance_norm

LEAST = 9
"""Pixels: below, the last feature map is a single one, and instance norm would erase it."""


class ResNet18(nn.Module):
    """Four stages of two basic blocks, 64, 128, 256 and 512 channels; the mean of the last map; one linear layer."""

    def __init__(self, spec: Network) -> None:
        """Build the layers.

        Raises:
            UsageError: the images are too small.
        """
        super().__init__()
        if spec.size < LEAST:
            raise UsageError(f"{spec.name}: {spec.size} px is too small, {LEAST} the least.")
        self.stem = nn.Sequential(nn.Conv2d(spec.channels, 64, 3, padding=1, bias=False), instance_norm(64), nn.ReLU())
        blocks: list[nn.Module] = []
        channels = 64
        for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [_BasicBlock(channels, width, stride), _BasicBlock(width, width, 1)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, size, size]."""
        features = self.blocks(self.stem(images)).mean((2, 3))  # [batch, 512]
        return cast(Tensor, self.classifier(features))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            instance_norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            instance_norm(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            convolution = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, instance_norm(width))

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.main(features) + self.shortcut(features))
