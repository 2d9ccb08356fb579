"""Muon in the place of SGD, on ResNet-18, in its own recipe.

    python -m sweeps.launch muon --seeds 3

Two trials a seed. The study used SGD. Muon has AdamW's size of updates and decoupled decay, so that
its learning rate and decay are none of SGD's: the recipe that comes with it is what is compared.
"""

from sweeps import Point, Sweep, grid
from trainer.config import TrainConfig
from trainer.recipes import muon, reported


def base(point: Point) -> TrainConfig:
    return muon("resnet18") if point["optimizer.name"] == "muon" else reported("resnet18")


sweep = Sweep(base=base, space=grid({"optimizer.name": ["sgd", "muon"]}))
