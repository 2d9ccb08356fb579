"""CutMix off and on, on ResNet-18, at two strengths.

    python -m sweeps.launch cutmix --seeds 3

Three trials a seed. The study has none; `mixup` is the sweep beside it.
"""

from sweeps.spec.grid import grid
from sweeps.spec.sweep import Sweep
from trainer.recipes import reported

sweep = Sweep(base=reported("resnet18"), space=grid({"augment.cutmix": [0.0, 0.5, 1.0]}))
