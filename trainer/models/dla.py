"""DLA-34 (Yu et al. 2018, "Deep Layer Aggregation").

The imagenet stem is the paper's network: a 7x7 base layer and a total stride of 32, which leaves
a 32x32 image a last map of 1x1. The cifar stem has a 3x3 base layer and keeps full resolution
through the first three levels, which leaves 4x4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models import scaled
from trainer.models.norm import BatchNorm
from trainer.models.resnet import basic, conv, head

if TYPE_CHECKING:
    from trainer.config import ModelConfig

CHANNELS = (16, 32, 64, 128, 256, 512)
# Of the last four levels: the trees' depths, and whether the root also takes the level's input.
DEPTHS = (1, 2, 2, 1)
LEVEL_ROOTS = (False, True, True, True)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        conv(inputs, outputs, kernel, stride), BatchNorm(outputs), nn.ReLU(inplace=True)
    )


class Node(nn.Module):
    """Two basic blocks one after the other, and the root that aggregates both.

    The root is a 1x1 convolution of everything concatenated, without a residual of its own (as
    published for DLA-34); `also` counts the channels that it takes besides the two blocks'.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, also: int) -> None:
        super().__init__()
        self.project = (
            nn.Sequential(conv(inputs, outputs, 1), BatchNorm(outputs))
            if inputs != outputs
            else None
        )
        self.block1 = basic(inputs, outputs, stride)
        self.block2 = basic(outputs, outputs, 1)
        self.root = convolution(2 * outputs + also, outputs, 1)

    def forward(self, x: Tensor, pooled: Tensor, *others: Tensor) -> Tensor:
        """`pooled` is x at the size of the output; `others` go to the root, as they are."""
        shortcut = pooled if self.project is None else self.project(pooled)
        first = F.relu(self.block1(x).add_(shortcut), inplace=True)
        second = F.relu(self.block2(first).add_(first), inplace=True)
        out: Tensor = self.root(torch.cat((second, first, *others), 1))
        return out


class Tree(nn.Module):
    """Two trees one after the other; the first one's output goes also to the root of the second.

    The authors' code has a projection here too, whose output nothing reads: 41,728 parameters
    of 15,783,832 that never train, and that this network does not have.
    """

    def __init__(self, depth: int, inputs: int, outputs: int, stride: int, also: int) -> None:
        super().__init__()
        self.tree1 = tree(depth - 1, inputs, outputs, stride, 0)
        self.tree2 = tree(depth - 1, outputs, outputs, 1, also + outputs)

    def forward(self, x: Tensor, pooled: Tensor, *others: Tensor) -> Tensor:
        first = self.tree1(x, pooled)
        out: Tensor = self.tree2(first, first, *others, first)
        return out


def tree(depth: int, inputs: int, outputs: int, stride: int, also: int) -> Node | Tree:
    if depth == 1:
        return Node(inputs, outputs, stride, also)
    return Tree(depth, inputs, outputs, stride, also)


class Level(nn.Module):
    """One tree at one resolution; with `level_root`, the level's pooled input goes to its root."""

    def __init__(
        self, depth: int, inputs: int, outputs: int, stride: int, level_root: bool
    ) -> None:
        super().__init__()
        self.stride = stride
        self.level_root = level_root
        self.tree = tree(depth, inputs, outputs, stride, inputs if level_root else 0)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x if self.stride == 1 else F.max_pool2d(x, self.stride)
        out: Tensor = self.tree(x, pooled, pooled) if self.level_root else self.tree(x, pooled)
        return out


class DLA(nn.Module):
    """(B, 3, H, W) to (B, num_classes). `cam_layer` names the last level, whose map is pooled."""

    cam_layer: ClassVar[str | None] = "levels.5"

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        kernel, strides = (3, (1, 1, 2, 2, 2)) if config.stem == "cifar" else (7, (2, 2, 2, 2, 2))
        base, *widths = [scaled(channels, config.width) for channels in CHANNELS]
        self.base = convolution(3, base, kernel)
        self.levels = nn.Sequential(
            convolution(base, base, 3), convolution(base, widths[0], 3, strides[0])
        )
        for inputs, outputs, stride, depth, level_root in zip(
            widths[:-1], widths[1:], strides[1:], DEPTHS, LEVEL_ROOTS, strict=True
        ):
            self.levels.append(Level(depth, inputs, outputs, stride, level_root))
        # The authors start this layer over its fan_out too, made for 1000 classes: with 10 its
        # weights would be ten times as large, so it starts as the other networks' heads do.
        self.head = head(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.levels(self.base(x)).mean((2, 3)))
        return logits


def dla34(config: ModelConfig, num_classes: int, image_size: int) -> DLA:
    return DLA(config, num_classes)
