"""ResNet-18, -34 and -50 (He et al. 2016, "Deep Residual Learning for Image Recognition").

The last map of a 32x32 image is 4x4 behind the cifar stem and 1x1 behind the imagenet stem.
`conv`, `head` and `basic` are also what the other residual networks are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models import scaled
from trainer.models.head import Head
from trainer.models.norm import BatchNorm

if TYPE_CHECKING:
    from trainer.config import ModelConfig


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution padded to keep the size at stride 1, without bias: a normalisation follows."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    # He normal over fan_out (He et al. 2015), as all three papers' own code has it.
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def head(features: int, classes: int) -> Head:
    """The classifier: weights uniform in +-1/sqrt(features), torch's default, and bias zero."""
    layer = Head(features, classes)
    nn.init.zeros_(layer.bias)
    return layer


def basic(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """The residual branch of a basic block. BN starts at gamma 1, beta 0, here and elsewhere."""
    return nn.Sequential(
        conv(inputs, outputs, 3, stride),
        BatchNorm(outputs),
        nn.ReLU(inplace=True),
        conv(outputs, outputs, 3),
        BatchNorm(outputs),
    )


def bottleneck(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """The residual branch of a bottleneck block, a quarter as wide inside.

    The stride is in the 3x3 convolution, as in every later implementation; the paper has it in
    the first 1x1, which skips three pixels of four.
    """
    inside = outputs // 4
    return nn.Sequential(
        conv(inputs, inside, 1),
        BatchNorm(inside),
        nn.ReLU(inplace=True),
        conv(inside, inside, 3, stride),
        BatchNorm(inside),
        nn.ReLU(inplace=True),
        conv(inside, outputs, 1),
        BatchNorm(outputs),
    )


Branch = Callable[[int, int, int], nn.Sequential]


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)); the shortcut is a projection where the shape changes."""

    def __init__(self, branch: Branch, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = branch(inputs, outputs, stride)
        self.shortcut = (
            nn.Sequential(conv(inputs, outputs, 1, stride), BatchNorm(outputs))
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.branch(x).add_(shortcut), inplace=True)


class ResNet(nn.Module):
    """(B, 3, H, W) to (B, num_classes). `cam_layer` names the last stage, whose map is pooled."""

    cam_layer: ClassVar[str | None] = "stages.3"

    def __init__(
        self,
        config: ModelConfig,
        branch: Branch,
        depths: tuple[int, int, int, int],
        expansion: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        channels = scaled(64, config.width)
        if config.stem == "cifar":
            self.stem = nn.Sequential(
                conv(3, channels, 3), BatchNorm(channels), nn.ReLU(inplace=True)
            )
        else:
            self.stem = nn.Sequential(
                conv(3, channels, 7, stride=2),
                BatchNorm(channels),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        self.stages = nn.Sequential()
        for number, depth in enumerate(depths):
            stage = nn.Sequential()
            for index in range(depth):
                outputs = expansion * scaled(64 << number, config.width)
                stride = 2 if number > 0 and index == 0 else 1
                stage.append(Residual(branch, channels, outputs, stride))
                channels = outputs
            self.stages.append(stage)
        self.head = head(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x)).mean((2, 3)))
        return logits


def resnet18(config: ModelConfig, num_classes: int, image_size: int) -> ResNet:
    return ResNet(config, basic, (2, 2, 2, 2), 1, num_classes)


def resnet34(config: ModelConfig, num_classes: int, image_size: int) -> ResNet:
    return ResNet(config, basic, (3, 4, 6, 3), 1, num_classes)


def resnet50(config: ModelConfig, num_classes: int, image_size: int) -> ResNet:
    return ResNet(config, bottleneck, (3, 4, 6, 3), 4, num_classes)
