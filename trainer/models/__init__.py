"""The models: one file a family. trainer.models.registry has the table of them."""

from __future__ import annotations

import importlib
import typing

from trainer.models.registry import MODELS

if typing.TYPE_CHECKING:
    from torch import nn

    from trainer.config import ModelConfig


def build(config: ModelConfig, num_classes: int, image_size: int = 32) -> nn.Module:
    """The model, initialised from torch's global generator; maps (B, 3, H, W) to (B, classes).

    Raises InputError where a person's own network cannot be built."""
    if config.is_own:
        from trainer.models import own

        return own.build(config.name, num_classes, image_size)
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
