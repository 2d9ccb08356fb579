"""Four tiny GPTs: a few seconds each.

python -m sweeps.launch examples/hugging_face/tiny_gpt.py
"""

from train import main

from sweeps import Sweep, grid, minimize
from sweeps.bridges.hugging_face import SweepsCallback


def train(config, run):
    return main(config, run.folder / "checkpoints", SweepsCallback(run))


train.is_exact = True

sweep = Sweep(
    train,
    base={"width": 16, "lr": 0.003, "epochs": 6, "seed": 0},
    space=grid({"width": [16, 32], "lr": [0.003, 0.01]}),
    objective=minimize("eval_loss"),
)
