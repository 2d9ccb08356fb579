from sweeps import Sweep, grid, minimize

sweep = Sweep(
    command="python train.py {lr} {epochs} {folder}",
    base={"lr": 0.01, "epochs": 12},
    space=grid({"lr": [0.01, 0.05]}),
    metrics="metrics.csv",
    objective=minimize("loss"),
    processes="per_rank",
)
