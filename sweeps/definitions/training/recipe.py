"""The recipe of ResNet-18 as a whole: five fields at once, from the reported values.

    python -m sweeps.search recipe --workers 4

Sixty trials at most, most of which end early.
"""

from sweeps import Search, choice, integers, log_uniform, uniform
from trainer.recipes import reported

search = Search(
    base=reported("resnet18"),
    space={
        "optimizer.lr": log_uniform(0.01, 1.0),
        "optimizer.weight_decay": log_uniform(1e-5, 1e-2),
        "label_smoothing": uniform(0.0, 0.2),
        "augment.cutout": integers(0, 20),
        "batch_size": choice([64, 128, 256]),
    },
    start=[
        {
            "optimizer.lr": 0.1,
            "optimizer.weight_decay": 1e-3,
            "label_smoothing": 0.1,
            "augment.cutout": 12,
            "batch_size": 256,
        }
    ],
    trials=60,
)
