"""Weight decay on a logarithmic grid, for ResNet-18 and for WRN-28-10; and searched for ResNet-18.

    python -m sweeps.launch weight_decay
    python -m sweeps.search weight_decay

The grid is fourteen trials, 1,400 passes over 45,000 images; the search twenty trials at most, most
of which end early. Reported choice: 1e-3 for ResNet-18, 5e-4 for WRN-28-10.
"""

from sweeps import Point, Search, Sweep, grid, log_uniform
from trainer.config import TrainConfig
from trainer.recipes import reported


def base(point: Point) -> TrainConfig:
    return reported(point["model.name"])


sweep = Sweep(
    base=base,
    space=grid(
        {
            "model.name": ["resnet18", "wrn_28_10"],
            "optimizer.weight_decay": [1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 2e-3, 5e-3],
        }
    ),
)

search = Search(
    base=reported("resnet18"),
    space={"optimizer.weight_decay": log_uniform(1e-5, 1e-1)},
    start=[{"optimizer.weight_decay": 1e-3}, {"optimizer.weight_decay": 5e-4}],
)
