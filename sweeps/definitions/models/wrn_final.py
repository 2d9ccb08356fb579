"""WRN-28-10 as finally chosen: weight decay 5e-4, cutout 16, dropout 0.3.

    python -m sweeps.launch wrn_final --seeds 3

One trial a seed, 100 passes over 45,000 images. Reported: 96.54 % validation, 96.45 % test.
"""

from sweeps import Sweep
from trainer.recipes import reported

sweep = Sweep(base=reported("wrn_28_10"))
