"""Weight decay on a logarithmic grid, for ResNet-18 and for WRN-28-10.

    python -m sweeps.launch weight_decay

Fourteen trials, 1,400 passes over 45,000 images. Reported choice: 1e-3 for ResNet-18, 5e-4 for
WRN-28-10.
"""

from sweeps.space import Point, grid
from sweeps.sweep import Sweep
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
