"""Wide ResNets with pre-activation blocks (Zagoruyko and Komodakis 2016, "Wide Residual Networks").

wrn_D_K is depth D = 6n + 4 (three stages of n blocks) and K times the width of the thin network.
The last map of a 32x32 image is 8x8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models import scaled
from trainer.models.norm import BatchNorm
from trainer.models.registry import WRN_NAME
from trainer.models.resnet import conv, head

if TYPE_CHECKING:
    from trainer.config import ModelConfig


def activation(channels: int) -> nn.Sequential:
    return nn.Sequential(BatchNorm(channels), nn.ReLU(inplace=True))


class Block(nn.Module):
    """x + conv(dropout(activation(conv(activation(x))))).

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.active1 = activation(inputs)
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.active2 = activation(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        changes = stride != 1 or inputs != outputs
        self.shortcut = conv(inputs, outputs, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.active1(x)
        shortcut = x if self.shortcut is None else self.shortcut(active)
        # Not in place: the backward of the ReLU before it reads the ReLU's output.
        between = F.dropout(self.active2(self.conv1(active)), self.dropout, self.training)
        out: Tensor = self.conv2(between).add_(shortcut)
        return out


class WideResNet(nn.Module):
    """(B, 3, H, W) to (B, num_classes).

    `cam_layer` names the activation behind the last stage: the map that is pooled, rectified as
    the other networks' last maps are.
    """

    cam_layer: ClassVar[str | None] = "active"

    def __init__(self, config: ModelConfig, depth: int, widen: int, num_classes: int) -> None:
        super().__init__()
        channels = scaled(16, config.width)
        self.stem = conv(3, channels, 3)
        self.stages = nn.Sequential()
        for number in range(3):
            stage = nn.Sequential()
            for index in range((depth - 4) // 6):
                outputs = scaled((16 << number) * widen, config.width)
                stride = 2 if number > 0 and index == 0 else 1
                stage.append(Block(channels, outputs, stride, config.dropout))
                channels = outputs
            self.stages.append(stage)
        self.active = activation(channels)
        self.head = head(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.active(self.stages(self.stem(x))).mean((2, 3)))
        return logits


def wrn(config: ModelConfig, num_classes: int, image_size: int) -> WideResNet:
    """Depth and width are read from the name, which ModelConfig has checked."""
    name = WRN_NAME.fullmatch(config.name)
    assert name is not None, config.name
    return WideResNet(config, int(name[1]), int(name[2]), num_classes)
