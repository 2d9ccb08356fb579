"""TrivialAugment off and on, on ResNet-18, before the reported crop, flip and cutout.

    python -m sweeps.launch trivial_augment --seeds 3

Two trials a seed. The study has none.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"augment.trivial_augment": [False, True]}))
