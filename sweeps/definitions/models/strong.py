"""Six architectures under the reported recipe and under the strong one, in as many epochs.

    python -m sweeps.launch strong --seeds 3

Twelve trials a seed, 1,200 passes over 45,000 images. What the parts of the strong recipe bring
each is asked by `ema`, `trivial_augment`, `nesterov`, `norm_decay` and `warmup`. Reported
test accuracy: WRN-28-10 96.45 %, ResNet-18 95.77 %, ResNet-34 95.59 %, ResNet-50 95.03 %, DLA-34
90.69 %, ViT 53.48 %.
"""

from sweeps import Point, Sweep, grid
from trainer.config import TrainConfig
from trainer.recipes import ARCHITECTURES, reported, strong


def base(point: Point) -> TrainConfig:
    recipe = strong if point["augment.trivial_augment"] else reported
    return recipe(point["model.name"])


# TrivialAugment stands for the whole recipe that comes with it.
sweep = Sweep(
    base=base,
    space=grid({"model.name": ARCHITECTURES, "augment.trivial_augment": [False, True]}),
)
