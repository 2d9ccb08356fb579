"""Progressive resizing off and on, on ResNet-18: images that grow to 32 pixels from 24, or from 16.

    python -m sweeps.launch resizing --seeds 3

Three trials a seed. The study has none. From 24 pixels an epoch costs 78 % of the arithmetic, from
16 it costs 60 %; evaluation is at 32 pixels throughout.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"augment.first_size": [32, 24, 16]}))
