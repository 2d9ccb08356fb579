"""Cutout's side on ResNet-18: none, the reported 12 and 16, and one to either side.

    python -m sweeps.launch cutout --seeds 3

Four trials a seed. The study used 12 in general and 16 for WRN-28-10, and does not compare them.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"augment.cutout": [0, 8, 12, 16]}))
