"""timm's training loop from timm's pieces: loader, model, loss, optimizer, schedule.

Its defaults where they make sense for images of 32 pixels: a random resized crop and a flip in four
workers, normalised behind its prefetcher; label smoothing 0.1; SGD; the loss is read every 50
steps. Colour jitter, which the script has on, is off: ours does nothing like it. ResNets get the
stem that ours has for CIFAR: a 3x3 convolution and no pooling.
"""

from __future__ import annotations

import contextlib
import importlib
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peers import Cifar
from torch import nn

# By name, since mypy is also run where there is no timm.
PARTS = ("data", "loss", "models", "optim", "scheduler", "utils")
timm: Any = types.SimpleNamespace(
    **{part: importlib.import_module(f"timm.{part}") for part in PARTS}
)

WORKERS, LOG_INTERVAL, EPOCHS = 4, 50, 100
# trainer.data.datasets's, whose import is not timm's to wait for.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def run(
    model: str, batch: int, options: Sequence[str], arrays: Path, tick: Callable[[], None]
) -> None:
    """Train, and call `tick` after each step, until it raises. `options`: channels_last, bf16 and
    compile, as --channels-last, --amp --amp-dtype bfloat16 and --torchcompile."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    net = timm.models.create_model(model, num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    channels_last = torch.channels_last if "channels_last" in options else torch.contiguous_format
    net.to(device).to(memory_format=channels_last)
    optimizer = timm.optim.create_optimizer_v2(net, "sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    loader = timm.data.create_loader(
        Cifar(arrays),
        input_size=(3, 32, 32),
        batch_size=batch,
        is_training=True,
        color_jitter=0.0,
        interpolation="random",
        mean=MEAN,
        std=STD,
        num_workers=WORKERS,
        device=device,
    )
    scheduler, _ = timm.scheduler.create_scheduler_v2(
        optimizer, "cosine", num_epochs=EPOCHS, updates_per_epoch=len(loader)
    )
    loss_of = timm.loss.LabelSmoothingCrossEntropy(0.1).to(device)
    network: Any = torch.compile(net) if "compile" in options else net
    bf16 = "bf16" in options
    losses = timm.utils.AverageMeter()
    updates = 0
    for epoch in range(EPOCHS):
        network.train()
        for index, (images, labels) in enumerate(loader):
            images = images.contiguous(memory_format=channels_last)
            with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
                loss = loss_of(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            updates += 1
            if index % LOG_INTERVAL == 0:
                losses.update(loss.item(), len(images))
            scheduler.step_update(num_updates=updates, metric=losses.avg)
            tick()
        scheduler.step(epoch + 1)
