from sweeps import Sweep, grid, minimize

sweep = Sweep(
    command="python train.py --out {folder}",
    args="argparse",  # adds --lr 0.1 --momentum 0.9 --epochs 12
    base={"lr": 0.1, "momentum": 0.9, "epochs": 12},
    space=grid({"lr": [0.1, 0.3]}),
    metrics="metrics.jsonl",
    objective=minimize("loss"),
)
