from sweeps import Sweep, grid, minimize

sweep = Sweep(
    command="./train {step} {epochs} {folder}",
    base={"step": 0.01, "epochs": 12},
    space=grid({"step": [0.01, 0.02]}),
    metrics="metrics.csv",
    objective=minimize("value"),
)
