"""DLA-34 at batch 128 x 100 epochs with early stopping, as reported, and without.

    python -m sweeps.launch early_stopping --seeds 5

Two trials a seed. Reported: 52.11 % test accuracy, far below the cells around it: an early stop, a
divergence or bad luck would each explain it.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(
    base=reported("dla34").override({"batch_size": 128}),
    space=grid({"early_stopping.patience": [15, 0]}),
)
