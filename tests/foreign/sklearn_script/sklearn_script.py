from sweeps import Sweep, grid, maximize

sweep = Sweep(
    command="python train.py {alpha} {epochs} {folder}",
    base={"alpha": 0.001, "epochs": 12},
    space=grid({"alpha": [0.001, 0.1]}),
    metrics="metrics.csv",
    objective=maximize("val_accuracy"),
)
