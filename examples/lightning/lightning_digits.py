"""Four perceptrons: a few seconds each.

python -m sweeps.launch examples/lightning/lightning_digits.py
"""

from train import main

from sweeps import Sweep, grid, maximize
from sweeps.bridges.lightning import SweepsCallback


def train(config, run):
    return main(config, SweepsCallback(run))


train.is_exact = True

sweep = Sweep(
    train,
    base={"width": 64, "lr": 0.001, "batch_size": 64, "epochs": 10, "seed": 0},
    space=grid({"width": [32, 128], "lr": [0.001, 0.01]}),
    objective=maximize("val_accuracy"),
)
