"""Epochs of linear warm-up before the cosine, on ResNet-18: none, as reported, and 5.

    python -m sweeps.launch warmup --seeds 3

Two trials a seed. The learning rate moves once an epoch, as in the study.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"schedule.warmup_epochs": [0, 5]}))
