"""A plain training function, with dropout and shuffling by the global generators of torch, numpy
and Python, on one rank or by DDP on several, each with numbers of its own."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.run.handle import Run

if TYPE_CHECKING:
    import torch
    from torch import nn

EPOCHS = 5


def train(config: dict[str, Any], run: Run) -> dict[str, float]:
    # Not where a launch reads the file.
    import kill_points
    import torch
    from torch import nn

    seed, rank = config["seed"], run.ranks.rank
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))
    stepped = _parallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    torch.manual_seed(100 * seed + rank)
    np.random.seed(100 * seed + rank)
    random.seed(seed)  # alike on all ranks: it says how large a batch is
    images = torch.randn(64, 8)
    labels = (images.sum(1) > 0).long()
    state = run.load()
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for epoch in range(0 if state is None else int(state["epoch"]), EPOCHS):
        kill_points.begun(run.attempt.trial.name, epoch)
        model.train()
        order = torch.randperm(64)
        for batch in order[np.random.permutation(64)].split(random.randint(9, 16)):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(stepped(images[batch]), labels[batch])
            torch.autograd.backward(loss)
            optimizer.step()
        run.log(epoch=epoch, loss=loss)
        run.log(epoch=epoch, accuracy=_accuracy(model, images, labels), drawn=np.random.rand())
        run.should_stop()
        run.save(
            {"epoch": np.int64(epoch + 1), "model": model.state_dict(),
             "optimizer": optimizer.state_dict()}
        )  # fmt: skip
    return {"test_accuracy": _accuracy(model, images, labels)}


def _parallel(model: nn.Module) -> nn.Module:
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return model
    import torch.distributed
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group("gloo")
    return DistributedDataParallel(model)


def _accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    import torch

    model.eval()
    with torch.inference_mode():
        return float((model(images).argmax(1) == labels).float().mean())
