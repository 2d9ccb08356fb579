"""How long from nothing to the end of the first training step?

    python benchmarks/startup.py --peer CHECKOUT_OF_PYTORCH_CIFAR [--root FOLDER_OF_CIFAR10]
        [--batch 128] [--width 0.25] [--rounds 5]

A fresh process each time, in turns: `import torch` and no more; pytorch-cifar's main.py as shipped
(peers.py says what is changed); ours, `python -m trainer` on all images, decoded before, as they
are for every trial of a sweep but the first. What our step compiles is thrown away after each
round; the contender "with its cache" keeps it, as the workers of a sweep do. The peer's images are
arrays read in one piece, which spares it the pickles and checksums of torchvision's CIFAR10.

Last measured on two processors of an AMD EPYC without bf16 (AVX2), torch 2.14.1, nothing else
running, --root --width 0.25, five rounds: the import 1.90 s, ours 3.21 s, the peer 4.67 s: ours is
1.35 x as fast (1.16 to 1.88) and takes 1.6 of the import. No GPU was tried.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path

from images import prepared
from rounds import alternate, machine, show
from trial import Contender, measure, on_cuda


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="checkout of kuangliu/pytorch-cifar")
    parser.add_argument("--root", help="CIFAR-10 as Parquet or class folders; none: random images")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    ours = Contender("ours", batch=options.batch, width=options.width)
    peer = Contender(
        "pytorch-cifar", str(Path(options.peer).resolve()), batch=options.batch, width=options.width
    )
    with prepared(options.root) as images, tempfile.TemporaryDirectory() as compiled:
        runs = {
            "import torch": functools.partial(measure, Contender("torch"), images),
            "pytorch-cifar": functools.partial(measure, peer, images),
            "ours": functools.partial(measure, ours, images),
        }
        if on_cuda():
            runs["ours, with its cache"] = functools.partial(measure, ours, images, Path(compiled))
            runs["ours, with its cache"]()
        samples = alternate(runs, options.rounds)
    seconds = {name: [sample.first_step for sample in own] for name, own in samples.items()}
    print(f"{machine()}\nresnet18, batch {options.batch}, width {options.width}")
    show(
        "process start to the end of the first step, beside the peer", seconds, "pytorch-cifar", "s"
    )
    show("the same, beside the import", seconds, "import torch", "s")


if __name__ == "__main__":
    main()
