from sweeps import Sweep, grid, minimize

sweep = Sweep(
    command="sh train.sh {rate} {epochs} {folder}",
    base={"rate": 0.5, "epochs": 12},
    space=grid({"rate": [0.25, 0.5]}),
    metrics="output: epoch {epoch}: error {error}",
    objective=minimize("error"),
)
