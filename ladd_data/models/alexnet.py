"""AlexNet as the dataset distillation papers shrink it: five convolutions, no norm, no dropout, one linear layer.

Source: AlexNet of the DC code family (DC, MTT, GLaD); GLaD fits the linear layer to the image's size, and at
32 px that is the family's own. One of LADD's five test networks (Sec. 4.1).
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ladd_data.manifest import Network
from ladd_data.models.convnet import halved


class AlexNet(nn.Module):
    """Channels 128, 192, 256, 192, 192; max pools after the first, second and last convolution."""

    def __init__(self, spec: Network) -> None:
        """Build the layers.

        Raises:
            UsageError: the images are too small.
        """
        super().__init__()
        side = halved(spec, 3)
        self.features = nn.Sequential(
            nn.Conv2d(spec.channels, 128, kernel_size=5, padding=4 if spec.channels == 1 else 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(128, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 192, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(192, 192, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(192 * side * side, spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, size, size]."""
        features = self.features(images).flatten(1)  # [batch, 192 * side * side]
        return cast(Tensor, self.classifier(features))
