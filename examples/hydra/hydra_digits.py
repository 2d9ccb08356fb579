"""Two optimizers, each of which is a configuration of its own: seconds.

python -m sweeps.launch examples/hydra/hydra_digits.py
"""

from pathlib import Path

from sweeps import Sweep, grid, maximize

sweep = Sweep(
    command="python train.py hydra.run.dir={folder} hydra.job.chdir=true",
    directory=str(Path(__file__).parent),
    args="hydra",  # adds epochs=8 l2=0.0001 optimizer=sgd seed=0
    base={"optimizer": "sgd", "l2": 0.0001, "epochs": 8, "seed": 0},
    space=grid({"optimizer": ["sgd", "adam"]}),
    metrics="metrics.csv",
    objective=maximize("val_accuracy"),
)
