"""MixUp off and on, on ResNet-18, at three strengths.

    python -m sweeps.launch mixup --seeds 3

Four trials a seed. Reported without figures: MixUp lowered accuracy and was left off.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"augment.mixup": [0.0, 0.2, 0.5, 1.0]}))
