"""A person's own network, loss, optimizer and metrics, in a file of theirs."""

from __future__ import annotations

from pathlib import Path

from trainer.config import TrainConfig

CODE = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, num_classes, channels=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1)
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        return self.head(self.drop(self.features(x).relu().mean((2, 3))))


def loss(logits, targets):
    return F.cross_entropy(logits, targets)


def optimizer(parameters, lr, momentum):
    return torch.optim.RMSprop(parameters, lr=lr, momentum=momentum)


def macro_recall(predictions, targets):
    each = [(predictions[targets == one] == one).float().mean() for one in targets.unique()]
    return sum(each) / len(each)


def confidence(logits, targets):
    return logits.softmax(1).max(1).values.mean().item()
"""
DEFINITION = """
from sweeps import Search, Sweep, choice, grid, maximize
from trainer.config import TrainConfig

base = TrainConfig().override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "epochs": 1,
    "batch_size": 50, "model.name": "own.py:Net", "loss": "own.py:loss",
    "optimizer.name": "own.py:optimizer", "optimizer.lr": 0.01,
    "metrics": ["own.py:macro_recall", "own.py:confidence"],
})
sweep = Sweep(base)
"""
TINY = TrainConfig().override(
    {
        "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "epochs": 2,
        "batch_size": 50, "model.name": "resnet18", "optimizer.lr": 0.01,
    }
)  # fmt: skip


def written(folder: Path, code: str = CODE, name: str = "own.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(code)
    return folder / name


def all_own(file: Path) -> TrainConfig:
    return TINY.override(
        {
            "model.name": f"{file}:Net",
            "loss": f"{file}:loss",
            "optimizer.name": f"{file}:optimizer",
            "metrics": [f"{file}:macro_recall", f"{file}:confidence"],
        }
    )
