"""Each optimizer's learning rate: a few seconds for each of four trials.

python -m sweeps.launch examples/gan/gan_digits.py
"""

from train import train

from sweeps import Sweep, grid, minimize

sweep = Sweep(
    train,
    base={
        "width": 64, "generator_lr": 0.001, "discriminator_lr": 0.001, "epochs": 20, "seed": 0,
    },
    space=grid({"generator_lr": [0.001, 0.003], "discriminator_lr": [0.0003, 0.001]}),
    objective=minimize("distance"),
)  # fmt: skip
