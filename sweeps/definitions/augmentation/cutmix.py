"""CutMix off and on, on ResNet-18, at two strengths.

    python -m sweeps.launch cutmix --seeds 3

Three trials a seed. The study has none; `mixup` is the sweep beside it.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"augment.cutmix": [0.0, 0.5, 1.0]}))
