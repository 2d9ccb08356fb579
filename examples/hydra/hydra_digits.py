"""Two optimizers, which are configurations of their own, and two widths.

python -m sweeps.launch examples/hydra/hydra_digits.py
"""

from pathlib import Path

from sweeps import Sweep, grid, maximize

sweep = Sweep(
    command="python train.py hydra.run.dir={folder} hydra.job.chdir=true",
    directory=str(Path(__file__).parent),
    args="hydra",  # adds epochs=8 optimizer=sgd seed=0 width=64
    base={"optimizer": "sgd", "width": 64, "epochs": 8, "seed": 0},
    space=grid({"optimizer": ["sgd", "adam"], "width": [32, 128]}),
    metrics="metrics.csv",
    objective=maximize("val_accuracy"),
)
