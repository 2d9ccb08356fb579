from sweeps import Sweep, grid, minimize

sweep = Sweep(
    command="python train.py hydra.run.dir={folder} hydra.job.chdir=true",
    args="hydra",  # adds epochs=12 optimizer.lr=0.1 optimizer.name=sgd
    base={"epochs": 12, "optimizer": {"lr": 0.1, "name": "sgd"}},
    space=grid({"optimizer.name": ["sgd", "sign"]}),
    metrics="metrics.csv",
    objective=minimize("val_loss"),
)
