"""How fast is a ResNet trained, beside timm?

    python benchmarks/timm_training.py [--root FOLDER_OF_CIFAR10] [--model resnet18] [--batch 128]
        [--steps N] [--rounds 5]
        [--variants channels_last channels_last+bf16 channels_last+bf16+compile]
        [--ours precision=fp32]

timm comes from PyPI and is not a dependency of ours: install it where this is run, or put it on
PYTHONPATH. The package has the pieces of its training script and not the script: timm_loop.py puts
them together as that does. --variants adds its own options for speed. The figures are those of
training.py.

Last measured on two processors of an AMD EPYC without bf16, nothing else running, torch 2.14.1,
--root --batch 32 --steps 4 --rounds 3: ours 31.9 images/s (27.6 to 32.6), timm 33.5 (28.9 to 33.7):
0.95 x (0.82 to 1.13), both bound by fp32 convolutions; process start to first step 3.96 s, timm
6.72 s. No GPU was tried.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys

from training import arguments, compare, contenders
from trial import Contender


def main() -> None:
    options = arguments(__doc__, model="resnet18", steps=10).parse_args()
    if importlib.util.find_spec("timm") is None:
        sys.exit("error: there is no timm here\nhelp: pip install --target FOLDER timm --no-deps")
    ours = Contender("ours", model=options.model, batch=options.batch, steps=options.steps)
    peer = dataclasses.replace(ours, kind="timm")
    runs = contenders(ours, peer, options.ours, options.variants)
    compare(runs, "timm", options.root, options.rounds)


if __name__ == "__main__":
    main()
