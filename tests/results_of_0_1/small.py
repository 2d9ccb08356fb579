"""Three learning rates on the digits, written for version 0.1: with its import paths."""

from sweeps.space import grid
from sweeps.sweep import Sweep

from trainer.recipes import reported

SMALL = {
    "data.name": "digits",
    "data.train_limit": 400,
    "data.test_limit": 100,
    "augment.cutout": 4,
    "precision": "fp32",
    "epochs": 25,
    "batch_size": 20,
}
sweep = Sweep(
    base=reported("wrn_10_1").override(SMALL),
    space=grid({"optimizer.lr": [0.1, 0.05, 0.01]}),
)
