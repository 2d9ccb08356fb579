"""Scales: a study's sweep at what a CPU does in hours, or in minutes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.config import TrainConfig


@dataclass(frozen=True)
class Size:
    """How far a scale shrinks."""

    width: float
    """Times the configuration's own."""
    epochs: Mapping[str, float]
    """By data set, times the square root of the epochs; images of one's own are as CIFAR-10."""
    train_images: int | None = None
    """At most; None: all."""
    test_images: int | None = None
    narrower: Mapping[str, float] = field(default_factory=dict)
    """The `width` of architectures whose images take much longer than others', by name."""
    shrinks_patience: bool = False
    """Whether early stopping has as much less patience as there are fewer epochs."""


# Smoke makes 25, 50, 100 epochs 3, 4, 6, and cpu 4, 6, 8: in proportion, either the longest would
# take too long or the shortest would learn nothing. The digits are few, so they are seen twice as
# often.
SIZES = {
    "smoke": Size(0.125, {"cifar10": 0.6, "digits": 1.2}, train_images=3000, test_images=1000),
    "cpu": Size(
        0.25,
        {"cifar10": 0.8, "digits": 1.6},
        narrower={"wrn_28_10": 0.05, "vit": 0.125},
        shrinks_patience=True,
    ),
}


def scaled(configs: Sequence[TrainConfig], scale: str) -> list[dict[str, Any]]:
    """The overrides that bring each configuration of one sweep to a scale of SIZES.

    The grid stays: batch sizes are kept, and epoch counts that differed still do, in the same
    order, so that nine cells are still nine cells.
    """
    size = SIZES[scale]
    epochs = _shrink({(config.epochs, config.data.name) for config in configs}, size)
    return [_changes(config, size, epochs[config.epochs, config.data.name]) for config in configs]


def _changes(config: TrainConfig, size: Size, epochs: int) -> dict[str, Any]:
    patience = config.early_stopping.patience
    if size.shrinks_patience and patience:
        # Less than the epochs, or it would never act.
        patience = min(_fewer(patience, size, config.data.name), max(1, epochs - 1))
    return {
        "epochs": epochs,
        # Rounded up: five epochs of a hundred are still a warm-up.
        "schedule.warmup_epochs": min(
            math.ceil(config.schedule.warmup_epochs * epochs / config.epochs), epochs - 1
        ),
        "early_stopping.patience": patience,
        "data.train_limit": _at_most(size.train_images, config.data.train_limit),
        "data.test_limit": _at_most(size.test_images, config.data.test_limit),
        # A person's own network is as wide as it is.
        "model.width": config.model.width
        * (1 if config.model.is_own else size.narrower.get(config.model.name, size.width)),
    }


def _at_most(images: int | None, limit: int | None) -> int | None:
    return min((one for one in (images, limit) if one is not None), default=None)


def _fewer(epochs: int, size: Size, data: str) -> int:
    factor = size.epochs.get(data, size.epochs["cifar10"])
    return max(1, round(factor * math.sqrt(epochs)))


def _shrink(epochs: set[tuple[int, str]], size: Size) -> dict[tuple[int, str], int]:
    """Scaled epoch counts by (epochs, data set), strictly rising with the original ones."""
    shrunk: dict[tuple[int, str], int] = {}
    last: dict[str, int] = {}
    for count, data in sorted(epochs):
        last[data] = max(last.get(data, 0) + 1, _fewer(count, size, data))
        shrunk[count, data] = last[data]
    return shrunk
