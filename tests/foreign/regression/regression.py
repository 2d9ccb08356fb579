from sweeps import Sweep, grid, minimize

sweep = Sweep(
    command="python train.py {degree} {ridge} {epochs} {folder}",
    base={"degree": 5, "ridge": 0.0, "epochs": 12},
    space=grid({"degree": [3, 9]}),
    metrics="metrics.csv",
    objective=minimize("val_rmse"),
    done="predictions.txt",
)
