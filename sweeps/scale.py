"""Scales: the same sweep at the study's size, or so small that it ends in minutes anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from trainer.config import TrainConfig


class Scale(StrEnum):
    FULL = "full"
    SMOKE = "smoke"


SMOKE_WIDTH = 0.125
SMOKE_TRAIN_IMAGES = 4000
SMOKE_TEST_IMAGES = 1000
SMOKE_EPOCHS_OF_100 = 8


def scaled(configs: Sequence[TrainConfig], scale: Scale) -> list[dict[str, Any]]:
    """The overrides that bring each configuration of one sweep to `scale`.

    Smoke keeps the grid: batch sizes stay, and epochs shrink in proportion but stay distinct where
    they were, so that nine cells are still nine cells.
    """
    if scale is Scale.FULL:
        return [{} for _ in configs]
    epochs = _shrink({config.epochs for config in configs})
    return [
        {
            "epochs": epochs[config.epochs],
            "schedule.warmup_epochs": (
                config.schedule.warmup_epochs * epochs[config.epochs] // config.epochs
            ),
            "data.train_limit": SMOKE_TRAIN_IMAGES,
            "data.test_limit": SMOKE_TEST_IMAGES,
            "model.width": config.model.width * SMOKE_WIDTH,
        }
        for config in configs
    ]


def _shrink(epochs: set[int]) -> dict[int, int]:
    """Scaled epoch counts, strictly rising with the original ones."""
    shrunk: dict[int, int] = {}
    last = 0
    for count in sorted(epochs):
        last = max(last + 1, round(count * SMOKE_EPOCHS_OF_100 / 100))
        shrunk[count] = last
    return shrunk
