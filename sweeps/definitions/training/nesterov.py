"""Nesterov's form of the momentum off and on, on ResNet-18.

    python -m sweeps.launch nesterov --seeds 3

Two trials a seed. The study used the plain form.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"optimizer.nesterov": [False, True]}))
