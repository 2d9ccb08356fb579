"""Optimizers, learning-rate schedules and early stopping."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import torch
from torch import nn

from trainer.config import EarlyStoppingConfig, OptimizerConfig, TrainConfig


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """All trainable parameters; where norms and biases do not decay, they are a group of their own.

    What decays are the weights of products: parameters called weight with two dimensions or more.
    """
    if config.decay_norms_and_biases:
        return [{"params": list(model.parameters()), "weight_decay": config.weight_decay}]
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_weight = parameter.ndim >= 2 and name.endswith("weight")
        (weights if is_weight else others).append(parameter)
    return [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


# torch's optimizers import its compiler, a third of a worker's start, to say that it should leave
# their methods alone. We compile no optimizer, so that the methods do as they are. Where another
# version of torch does this otherwise, nothing here has an effect.
for _name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
    _method = inspect.unwrap(getattr(torch.optim.Optimizer, _name))
    vars(_method).setdefault("__dynamo_disable", _method)


class _SGD(torch.optim.SGD):
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class _AdamW(torch.optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with L2 decay, or AdamW; fused into one kernel a step on a CPU and on CUDA alike."""
    groups = parameter_groups(model, config)
    if config.name == "adamw":
        return _AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)
    return _SGD(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True
    )


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
