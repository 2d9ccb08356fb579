"""Scales: the same sweep at the study's size, or so small that it ends in minutes anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from trainer.config import TrainConfig


class Scale(StrEnum):
    FULL = "full"
    SMOKE = "smoke"


SMOKE_WIDTH = 0.125
SMOKE_TRAIN_IMAGES = 3000
SMOKE_TEST_IMAGES = 1000
# Smoke runs this times the square root of the epochs: 25, 50, 100 become 3, 4, 6. In proportion,
# either the longest would take minutes or the shortest would learn nothing. The digits are half
# as many images, so they are seen twice as often.
SMOKE_EPOCHS = {"cifar10": 0.6, "digits": 1.2}


def scaled(configs: Sequence[TrainConfig], scale: Scale) -> list[dict[str, Any]]:
    """The overrides that bring each configuration of one sweep to `scale`.

    Smoke keeps the grid: batch sizes stay, and epoch counts that differed still do, in the same
    order, so that nine cells are still nine cells.
    """
    if scale is Scale.FULL:
        return [{} for _ in configs]
    epochs = _shrink({(config.epochs, config.data.name) for config in configs})
    return [
        {
            "epochs": (count := epochs[config.epochs, config.data.name]),
            # Rounded up: five epochs of a hundred are still a warm-up.
            "schedule.warmup_epochs": min(
                math.ceil(config.schedule.warmup_epochs * count / config.epochs), count - 1
            ),
            "data.train_limit": _at_most(SMOKE_TRAIN_IMAGES, config.data.train_limit),
            "data.test_limit": _at_most(SMOKE_TEST_IMAGES, config.data.test_limit),
            "model.width": config.model.width * SMOKE_WIDTH,
        }
        for config in configs
    ]


def _at_most(images: int, limit: int | None) -> int:
    return images if limit is None else min(images, limit)


def _shrink(epochs: set[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Scaled epoch counts by (epochs, data set), strictly rising with the original ones."""
    shrunk: dict[tuple[int, str], int] = {}
    last: dict[str, int] = {}
    for count, data in sorted(epochs):
        last[data] = max(last.get(data, 0) + 1, round(SMOKE_EPOCHS[data] * math.sqrt(count)))
        shrunk[count, data] = last[data]
    return shrunk
