"""The rehearsal of a person's own code: network, loss, optimizer and metrics, on a few images of
noise, on the CPU. A launch runs it in a process of its own, before it sends anything."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from local_machine.code import references
from trainer import models
from trainer.config import TrainConfig
from trainer.data import datasets
from trainer.optim.optimizers import make_optimizer
from trainer.own import loss, metrics


def rehearse(configs: Iterable[TrainConfig]) -> None:
    """Raises InputError for the first thing that does not work."""
    done = set()
    for config in configs:
        what = (config.model, config.loss, config.optimizer, config.metrics, config.data)
        more = (loss.is_soft(config), config.augment.first_size)
        if config.own and (what, more) not in done:
            done.add((what, more))
            _rehearse(config)


def _rehearse(config: TrainConfig) -> None:
    """Images in number like twice the classes, so that a metric sees each of them."""
    known = datasets.facts(config.data)
    classes, side = len(known.labels.classes), known.side
    torch.manual_seed(config.seed)
    network = models.build(config.model, classes, side)
    optimizer = make_optimizer(network, config.optimizer)
    label = torch.arange(classes).repeat(2)
    first = config.augment.first_size if side == datasets.SIDE else side
    for size in {first, side}:
        images = torch.randn(2 * classes, 3, size, size)
        called = f"model.name={config.model.name} on images of shape {list(images.shape)}"
        logits = references.call(network, (images,), {}, called)
    if (own := loss.own_loss(config)) is not None:
        given = loss.targets(label, None, None, classes, config)
        called = f"loss={config.loss} on logits {list(logits.shape)} and "
        called += (
            f"probabilities {list(given.shape)}, since label_smoothing, MixUp or CutMix are on,"
            if loss.is_soft(config)
            else f"class indices {list(given.shape)}"
        )
        found = references.call(own, (logits, given), {}, called)
        mean = loss.checked(found, config.loss)
    else:
        mean = torch.nn.functional.cross_entropy(logits, label)
    references.call(mean.backward, (), {}, f"the gradient of loss={config.loss}")
    references.call(optimizer.step, (), {}, f"a step of optimizer.name={config.optimizer.name}")
    for name, function in metrics.own_metrics(config).items():
        seen = {name: function}, logits.detach(), label
        references.call(metrics.measured, seen, {}, f"the metric {name}")
