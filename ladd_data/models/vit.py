"""ViT of the 5-CAE protocol: 512 dimensions, 8 heads of 64, MLP of 512, dropout 0.1, a class token.

Source: GLaD's two ViTs, which go back to vit-pytorch. `vit` (LADD's test network at 128 px, Sec. 4.1): patches of
16 px, 10 layers, and no layer norm anywhere; `vit-cifar`: patches of 4 px, 6 layers, layer norm before each
attention, each MLP and the head.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ladd_data.errors import UsageError
from ladd_data.manifest import Network

DIMENSION = 512
HEADS = 8
DROPOUT = 0.1


class ViT(nn.Module):
    """Patches to tokens, a class token and learned positions, `depth` layers, one linear layer on the class token."""

    def __init__(self, spec: Network, patch: int, depth: int, norm: bool) -> None:
        """Build the layers.

        Raises:
            UsageError: the image is not made of whole patches.
        """
        super().__init__()
        if spec.size % patch:
            other = ' "vit-cifar" has patches of 4.' if patch > 4 and spec.size % 4 == 0 else ""
            raise UsageError(f"{spec.name}: {spec.size} px is not a multiple of its patches' {patch} px.{other}")
        tokens = (spec.size // patch) ** 2 + 1
        self.patches = nn.Conv2d(spec.channels, DIMENSION, patch, stride=patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, DIMENSION))
        self.positions = nn.Parameter(torch.randn(1, tokens, DIMENSION))
        self.dropout = nn.Dropout(DROPOUT)
        self.layers = nn.Sequential(*(_Layer(norm) for _ in range(depth)))
        self.norm = nn.LayerNorm(DIMENSION) if norm else nn.Identity()
        self.classifier = nn.Linear(DIMENSION, spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, classes] for images [batch, channels, size, size]."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # [batch, patches, 512]
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], 1) + self.positions
        tokens = self.layers(self.dropout(tokens))
        return cast(Tensor, self.classifier(self.norm(tokens[:, 0])))


class _Layer(nn.Module):
    """Attention and an MLP, each added to what comes in."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(DIMENSION) if norm else nn.Identity(), _Attention())
        self.mlp = nn.Sequential(
            nn.LayerNorm(DIMENSION) if norm else nn.Identity(),
            nn.Linear(DIMENSION, DIMENSION),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(DIMENSION, DIMENSION),
            nn.Dropout(DROPOUT),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(tokens)
        return cast(Tensor, tokens + self.mlp(tokens))


class _Attention(nn.Module):
    """Self-attention written out, so that it is the same sum on every device and its operations are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(DIMENSION, 3 * DIMENSION, bias=False)
        self.out = nn.Linear(DIMENSION, DIMENSION)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, _ = tokens.shape
        parts = self.query_key_value(tokens).reshape(batch, count, 3, HEADS, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [batch, heads, tokens, 64]
        weights = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, -1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, count, DIMENSION)
        return cast(Tensor, self.dropout(self.out(mixed)))
