"""A moving average of the weights off and on, on ResNet-18, at two decays.

    python -m sweeps.launch ema --seeds 3

Three trials a seed. The study has none. A decay of 0.999 a step looks back over six of the epochs
of 176 steps, 0.99 over half of one.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"optimizer.ema_decay": [0.0, 0.99, 0.999]}))
