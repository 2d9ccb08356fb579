"""Three learning rates with two seeds each: a few seconds for each of six trials.

python -m sweeps.launch examples/reinforcement/cart_pole.py
"""

from train import train

from sweeps import Sweep, grid, maximize

sweep = Sweep(
    train,
    base={"lr": 0.01, "width": 32, "steps": 40, "seed": 0},
    space=grid({"lr": [0.003, 0.01, 0.03]}),
    seeds=2,
    objective=maximize("mean_return", "last"),
)
