"""Batch size x epochs on DLA-34: which of each to use from here on.

    python -m sweeps.launch grid_bs_epoch

Nine trials, 525 passes over 45,000 images. Reported: 90.69 % test accuracy at batch 256 x 100
epochs, the cell that was chosen; 52.11 % at 128 x 100.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(
    base=reported("dla34"),
    space=grid({"batch_size": [64, 128, 256], "epochs": [25, 50, 100]}),
)
