from train import train

from sweeps import Sweep, grid, minimize

sweep = Sweep(
    train,
    base={"lr": 0.01, "seed": 0, "epochs": 12},
    space=grid({"lr": [0.01, 0.05]}),
    objective=minimize("loss"),
)
