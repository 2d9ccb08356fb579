"""Weight decay on norms and biases too, as reported, or on weights alone, on WRN-28-10.

    python -m sweeps.launch norm_decay_wrn --seeds 3

Two trials a seed. The strong recipe decays weights alone (He et al. 2019, for ResNets); the code of
google-research/sam decays all of a WRN's parameters, BatchNorm's among them, unless it is told not
to. This says which of them suits a WRN.
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

sweep = Sweep(
    base=reported("wrn_28_10"), space=grid({"optimizer.decay_norms_and_biases": [True, False]})
)
