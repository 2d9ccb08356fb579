"""Six architectures under the reported protocol, each with its own settings where it has them.

    python -m sweeps.launch architectures

Six trials, 600 passes over 45,000 images. Reported test accuracy: WRN-28-10 96.45 %, ResNet-18
95.77 %, ResNet-34 95.59 %, ResNet-50 95.03 %, DLA-34 90.69 %, ViT 53.48 %.
"""

from sweeps import Point, Sweep, grid
from trainer.config import TrainConfig
from trainer.recipes import ARCHITECTURES, reported


def base(point: Point) -> TrainConfig:
    return reported(point["model.name"])


sweep = Sweep(base=base, space=grid({"model.name": ARCHITECTURES}))
