"""Learning-rate schedules on ResNet-18: cosine, step, multi-step and constant.

    python -m sweeps.launch schedules --seeds 3

Four trials a seed. Reported without figures: cosine was chosen over step and multi-step.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(
    base=reported("resnet18"),
    space=grid({"schedule.name": ["cosine", "step", "multi_step", "constant"]}),
)
