"""Accuracy of a network on real pictures."""

from __future__ import annotations

import torch
from torch import nn

from ladd_data.manifest import Affine
from ladd_data.types import I64, U8
from ladd_data.views.device import apply_affine

BATCH = 512


def accuracy(network: nn.Module, images: U8, labels: I64, affine: Affine, device: torch.device | str = "cpu") -> float:
    """Return the share of pictures whose highest logit is their label.

    Args:
        network: in any mode; left as it was found.
        images: uint8 [n, channels, height, width], natural pictures.
        labels: int64 [n].
        affine: picture to model input.
        device: where the network is.
    """
    training = network.training
    network.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(labels), BATCH):
            pixels = torch.from_numpy(images[start : start + BATCH]).to(device)
            target = torch.from_numpy(labels[start : start + BATCH]).to(device)
            right += int((network(apply_affine(affine, pixels)).argmax(1) == target).sum())
    network.train(training)
    return right / len(labels)
