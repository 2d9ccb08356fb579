"""The architectures: one file a family, one table.

MODELS maps a name to `module:function`, so that configurations are checked without importing
torch. A new architecture is a new file and a line here.
"""

from __future__ import annotations

import importlib
import re
import typing

if typing.TYPE_CHECKING:
    from torch import nn

    from trainer.config import ModelConfig

MODELS: dict[str, str] = {
    "resnet18": "trainer.models.resnet:resnet18",
    "resnet34": "trainer.models.resnet:resnet34",
    "resnet50": "trainer.models.resnet:resnet50",
    "wrn_28_10": "trainer.models.wrn:wrn",
    "dla34": "trainer.models.dla:dla34",
    "vit": "trainer.models.vit:vit",
}

# Any Wide ResNet may be asked for by name: wrn_40_2 is depth 40, widening factor 2.
WRN_NAME = re.compile(r"wrn_([1-9][0-9]*)_([1-9][0-9]*)")


def build(config: ModelConfig, num_classes: int, image_size: int = 32) -> nn.Module:
    """The model, initialised from torch's global generator; maps (B, 3, H, W) to (B, classes)."""
    entry = MODELS.get(config.name) or MODELS["wrn_28_10"]
    module, function = entry.split(":")
    make = getattr(importlib.import_module(module), function)
    model: nn.Module = make(config, num_classes, image_size)
    return model


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest multiple of 8 and at least 8.

    Kernels in bf16 and channels_last are fast at multiples of 8. Width 1 changes no multiple of 8.
    """
    return max(8, 8 * int(channels * width / 8 + 0.5))
