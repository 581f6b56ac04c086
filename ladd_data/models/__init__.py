"""Networks by name, as the papers use them: labelers and students are built here and nowhere else."""

from __future__ import annotations

from torch import nn

from ladd_data.errors import UsageError, nearest
from ladd_data.manifest import Network
from ladd_data.models.convnet import ConvNet

DEPTHS = {f"convnet-d{depth}": depth for depth in (3, 4, 5)}
NETWORK_NAMES = tuple(DEPTHS)


def build_network(spec: Network) -> nn.Module:
    """Return a freshly initialised network that maps float32 [batch, channels, size, size] to logits.

    Raises:
        UsageError: the name is not known, or the images are too small for the depth.
    """
    if spec.name not in DEPTHS:
        raise UsageError(f'network "{spec.name}" is not known. {nearest(spec.name, NETWORK_NAMES)}')
    depth = DEPTHS[spec.name]
    if spec.size < 2**depth:
        raise UsageError(
            f"{spec.name} halves the image {depth} times: {spec.size} px is too small, {2**depth} the least."
        )
    return ConvNet(spec.channels, spec.classes, spec.width, depth, spec.size)
