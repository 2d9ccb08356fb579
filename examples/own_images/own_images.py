"""The project's own trainer on your own images: two learning rates of a small ResNet.

python examples/own_images/make_images.py my_images
python -m sweeps.launch examples/own_images/own_images.py --set data.root=my_images
"""

from sweeps import Sweep, grid
from trainer.recipes import reported

base = reported("wrn_10_1").override(
    {"data.root": "my_images", "model.width": 0.5, "epochs": 6, "batch_size": 16}
)
sweep = Sweep(base=base, space=grid({"optimizer.lr": [0.02, 0.05]}))
