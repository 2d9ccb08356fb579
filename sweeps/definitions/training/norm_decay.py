"""Weight decay on norms and biases too, as reported, or on weights alone, on ResNet-18.

    python -m sweeps.launch norm_decay --seeds 3

Two trials a seed. The study decayed them all alike.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(
    base=reported("resnet18"), space=grid({"optimizer.decay_norms_and_biases": [True, False]})
)
