"""What moves over the epochs: learning rate and image size; and early stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from trainer.config import EarlyStoppingConfig, TrainConfig

# By how many pixels images grow. Each side is another shape to compile, so that few steps are best.
FULL_SIDE, SIDE_STEP = 32, 8


def lr_at(config: TrainConfig, epoch: int, step: int = 0, steps_per_epoch: int = 1) -> float:
    """Learning rate in `epoch` (from 0) at `step` (from 0) of that epoch.

    Linear warm-up (Goyal et al. 2017), then a half cosine to 0 (Loshchilov and Hutter 2017), or
    powers of gamma. Counted in epochs or in steps, as `schedule.every` says: counted in epochs,
    epoch 99 of 100 has 0.1 * (1 - cos(pi / 100)) / 2 = 2.467e-5.
    """
    schedule = config.schedule
    if schedule.every == "epoch":
        step, steps_per_epoch = 0, 1
    now = epoch * steps_per_epoch + step
    total = config.epochs * steps_per_epoch
    warmup = schedule.warmup_epochs * steps_per_epoch
    peak = config.optimizer.lr
    if now < warmup:
        return peak * ((now + 1) / warmup)
    if schedule.name == "cosine":
        return peak * 0.5 * (1.0 + math.cos(math.pi * (now - warmup) / (total - warmup)))
    if schedule.name == "step":
        return peak * schedule.gamma ** (now // max(1, round(schedule.step_fraction * total)))
    if schedule.name == "multi_step":
        milestones = (max(1, round(part * total)) for part in schedule.milestones)
        return peak * schedule.gamma ** sum(now >= milestone for milestone in milestones)
    return peak


def side_at(config: TrainConfig, epoch: int, side: int = FULL_SIDE) -> int:
    """Side of the training images in `epoch` (from 0), in pixels, of images that have `side`: small
    images first, which take less time (Howard 2018, fast.ai's entry to DAWNBench), and the last
    part of the epochs at full size, at which the network is evaluated. Only images of FULL_SIDE
    begin small."""
    if side != FULL_SIDE:
        return side
    sides = range(config.augment.first_size, FULL_SIDE + 1, SIDE_STEP)
    return sides[epoch * len(sides) // config.epochs]


@dataclass
class EarlyStopping:
    """Stops once `patience` epochs in a row brought no improvement of validation accuracy.

    Counts images, not fractions, so that every rank and every run decides alike: an epoch improves
    when it gets more than `min_delta * images` images more right than the best before it.
    """

    config: EarlyStoppingConfig
    images: int
    best: int = -1
    waited: int = 0

    def update(self, correct: int) -> bool:
        """Takes an epoch's correct count; True when training should stop."""
        # Decimal: 0.043 * 5000 is 214.99... in floats, which a gain of exactly 215 would exceed.
        least = Decimal(repr(self.config.min_delta)) * self.images
        if self.best < 0 or correct - self.best > least:
            self.best, self.waited = correct, 0
        else:
            self.waited += 1
        return 0 < self.config.patience <= self.waited
