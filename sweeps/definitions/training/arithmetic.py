"""What makes a trial fast against plain PyTorch in fp32: bf16 and a compiled step, on ResNet-18.

    python -m sweeps.launch arithmetic --seeds 3

Four trials a seed. The same seeds draw the same weights, order and augmentation, so that the
trials of a seed differ by their rounding alone; accuracy should differ by less than it does
between seeds.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(
    base=reported("resnet18"),
    space=grid({"precision": ["fp32", "bf16"], "compile": ["off", "on"]}),
)
