"""Label smoothing off and on, on ResNet-18: none, as reported, and twice that.

    python -m sweeps.launch label_smoothing --seeds 3

Three trials a seed. The study smoothed by 0.1 and does not compare.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"label_smoothing": [0.0, 0.1, 0.2]}))
