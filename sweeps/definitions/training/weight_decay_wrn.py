"""Weight decay for WRN-28-10, searched from the two values that the study reports.

    python -m sweeps.search weight_decay_wrn

Twenty trials at most, most of which end early. Reported choice: 5e-4.
"""

from sweeps import Search, log_uniform
from trainer.recipes import reported

search = Search(
    base=reported("wrn_28_10"),
    space={"optimizer.weight_decay": log_uniform(1e-5, 1e-1)},
    start=[{"optimizer.weight_decay": 5e-4}, {"optimizer.weight_decay": 1e-3}],
)
