"""Scales: a study's sweep at what a CPU does in hours, or in minutes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.config import TrainConfig


@dataclass(frozen=True)
class Size:
    """How far a scale shrinks."""

    width: float
    """Times the configuration's own."""
    train_images: int
    test_images: int
    epochs: Mapping[str, float]
    """By data set, times the square root of the epochs."""


# Smoke makes 25, 50, 100 epochs 3, 4, 6: in proportion, either the longest would take minutes or
# the shortest would learn nothing. The digits are half as many, so they are seen twice as often.
SIZES = {
    "smoke": Size(0.125, 3000, 1000, {"cifar10": 0.6, "digits": 1.2}),
    "cpu": Size(0.125, 5000, 2000, {"cifar10": 0.8, "digits": 1.6}),
}


def scaled(configs: Sequence[TrainConfig], scale: str) -> list[dict[str, Any]]:
    """The overrides that bring each configuration of one sweep to a scale of SIZES.

    The grid stays: batch sizes are kept, and epoch counts that differed still do, in the same
    order, so that nine cells are still nine cells.
    """
    size = SIZES[scale]
    epochs = _shrink({(config.epochs, config.data.name) for config in configs}, size)
    return [
        {
            "epochs": (count := epochs[config.epochs, config.data.name]),
            # Rounded up: five epochs of a hundred are still a warm-up.
            "schedule.warmup_epochs": min(
                math.ceil(config.schedule.warmup_epochs * count / config.epochs), count - 1
            ),
            "data.train_limit": _at_most(size.train_images, config.data.train_limit),
            "data.test_limit": _at_most(size.test_images, config.data.test_limit),
            "model.width": config.model.width * size.width,
        }
        for config in configs
    ]


def _at_most(images: int, limit: int | None) -> int:
    return images if limit is None else min(images, limit)


def _shrink(epochs: set[tuple[int, str]], size: Size) -> dict[tuple[int, str], int]:
    """Scaled epoch counts by (epochs, data set), strictly rising with the original ones."""
    shrunk: dict[tuple[int, str], int] = {}
    last: dict[str, int] = {}
    for count, data in sorted(epochs):
        last[data] = max(last.get(data, 0) + 1, round(size.epochs[data] * math.sqrt(count)))
        shrunk[count, data] = last[data]
    return shrunk
