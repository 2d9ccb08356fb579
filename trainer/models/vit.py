"""A small Vision Transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words").

Pre-norm, learned positions, seven blocks of ViT-S's width: 384 channels in six heads of 64. The
MLP is twice as wide as the stream, as in CCT-7 (Hassani et al. 2021), since 45,000 small images
do not fill the paper's four times. The patches' mean is classified, without a class token (Beyer
et al. 2022): 64 tokens suit kernels better than 65.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from local_machine.errors import InputError
from trainer.models import scaled
from trainer.models.head import Head

if TYPE_CHECKING:
    from trainer.config import ModelConfig

CHANNELS = 384
HEADS = 6
DEPTH = 7
MLP_RATIO = 2


def initialise(weight: Tensor) -> None:
    """Normal of deviation 0.02, truncated at two deviations; torch's own bounds are +-2."""
    nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); (B, tokens, channels) to the same.

    Dropout follows every dense layer but the one to queries, keys and values, as in the paper.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp1 = nn.Linear(channels, MLP_RATIO * channels)
        self.mlp2 = nn.Linear(MLP_RATIO * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind()).transpose(1, 2).flatten(2)
        x = x + F.dropout(self.project(mixed), self.dropout, self.training)
        hidden = F.dropout(F.gelu(self.mlp1(self.norm2(x))), self.dropout, self.training)
        return x + F.dropout(self.mlp2(hidden), self.dropout, self.training)


class ViT(nn.Module):
    """(B, 3, image_size, image_size) to (B, num_classes); it has no convolutional map to show."""

    cam_layer: ClassVar[str | None] = None

    def __init__(self, config: ModelConfig, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        # The width goes into the number of heads, which stay near 64 channels each.
        heads = max(1, round(HEADS * config.width))
        channels = heads * scaled(CHANNELS // HEADS, HEADS * config.width / heads)
        self.patches = nn.Conv2d(3, channels, config.patch, stride=config.patch)
        self.positions = nn.Parameter(torch.empty(1, (image_size // config.patch) ** 2, channels))
        self.blocks = nn.Sequential(*(Block(channels, heads, config.dropout) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(channels)
        self.head = Head(channels, num_classes)
        initialise(self.positions)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                initialise(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        tokens = self.blocks(F.dropout(tokens, self.dropout, self.training))
        logits: Tensor = self.head(self.norm(tokens).mean(1))
        return logits


def vit(config: ModelConfig, num_classes: int, image_size: int) -> ViT:
    """Raises InputError where the patches do not tile the image."""
    if image_size % config.patch:
        raise InputError(
            f"model.patch={config.patch} does not divide the image's side of {image_size} pixels",
            "choose model.patch from 2, 4, 8 and 16 so that it divides the side",
        )
    return ViT(config, num_classes, image_size)
