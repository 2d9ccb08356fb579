"""Training on all images of a batch, or on those that a narrow network finds hardest, on ResNet-18.

    python -m sweeps.launch hard_examples --seeds 3

Three trials a seed. The study has none. airbench96 trains on half of each batch of 1024: half of
the images cost half of the arithmetic, and the narrow network 3 % of it.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"hard_fraction": [1.0, 0.75, 0.5]}))
