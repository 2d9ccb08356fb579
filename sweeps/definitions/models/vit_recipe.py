"""The ViT under the reported recipe, and under one that trains it.

    python -m sweeps.launch vit_recipe --seeds 3

Two trials a seed. Reported: 53.48 % test accuracy at a training accuracy of 50.75 %, with SGD at
0.1 and no warm-up.
"""

from sweeps import Point, Sweep, grid
from trainer.config import TrainConfig
from trainer.recipes import reported, vit_trained


def base(point: Point) -> TrainConfig:
    return vit_trained() if point["optimizer.name"] == "adamw" else reported("vit")


sweep = Sweep(base=base, space=grid({"optimizer.name": ["sgd", "adamw"]}))
