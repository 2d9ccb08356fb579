"""Small networks on few digits, whose maps take no time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from analysis.data.predictions import Predictions
from trainer import models
from trainer.config import DataConfig, ModelConfig, TrainConfig

DIGITS = DataConfig(name="digits", train_limit=200, test_limit=100)


def small(model: str = "resnet18", **changes: Any) -> TrainConfig:
    config = TrainConfig(
        data=DIGITS, model=ModelConfig(name=model, width=0.125), epochs=1, batch_size=32
    )
    return config.override({"precision": "fp32"} | changes)


def untrained(config: TrainConfig) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """With statistics and weights of its norms away from their start, as training leaves them."""
    torch.manual_seed(0)
    model = models.build(config.model, 10).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and value.ndim == 1:
                spread = 0.5 * torch.rand_like(value)
                value.copy_(1 + spread if "var" in name or "weight" in name else spread - 0.25)
    return model, {name: value.clone() for name, value in model.state_dict().items()}


def predictions(logits: Any, labels: Any, index: Any = None) -> Predictions:
    logits = np.asarray(logits, np.float32)
    index = np.arange(len(logits)) if index is None else np.asarray(index)
    names = tuple(f"c{i}" for i in range(logits.shape[1]))
    return Predictions("t", index.astype(np.int32), np.asarray(labels), logits, names)
