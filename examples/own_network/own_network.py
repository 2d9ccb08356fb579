"""The project's own trainer on your own network: two depths of an MLP-Mixer, by a metric of yours.

python -m sweeps.launch examples/own_network/own_network.py
"""

from sweeps import Sweep, grid, maximize
from trainer.recipes import reported

base = reported("resnet18").override(
    {
        "data.name": "digits",
        "model.name": "network.py:Mixer",
        "metrics": ["network.py:worst_recall"],
        "epochs": 8,
        "batch_size": 64,
    }
)
sweep = Sweep(
    base=base,
    space=grid({"model.name": ["network.py:Mixer", "network.py:deep"]}),
    objective=maximize("worst_recall"),
)
