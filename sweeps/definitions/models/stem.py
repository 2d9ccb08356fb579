"""DLA-34 behind a CIFAR stem and behind an ImageNet stem.

    python -m sweeps.launch stem --seeds 3

Two trials a seed. The ImageNet stem leaves a 32x32 image a last map of 1x1, which would explain
the reported 90.69 %.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("dla34"), space=grid({"model.stem": ["cifar", "imagenet"]}))
