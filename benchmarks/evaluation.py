"""How fast are the 10,000 test images evaluated, beside pytorch-cifar's test loop?

    python benchmarks/evaluation.py --peer CHECKOUT_OF_PYTORCH_CIFAR [--root FOLDER_OF_CIFAR10]
        [--width 0.25] [--rounds 5] [--precision fp32]

Both ResNet-18, untrained, in turns in one process. Ours is trainer.evaluate, which counts all
top-k, two losses and keeps the logits. The peer's is the `test` of its main.py as shipped: batches
of 100 from two workers started for each pass, loss and accuracy read after each batch; it is told
that its best accuracy is beyond reach, so that it saves no checkpoint.

Last measured on two processors of an AMD EPYC without bf16 (AVX2), torch 2.14.1, nothing else
running, --root --width 0.25, three rounds: ours 8.15 s, the peer 9.21 s, 1.13 x (1.07 to 1.21). No
GPU was tried.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import peers
import torch
from images import Images, prepared
from rounds import alternate, machine, show

from trainer import models
from trainer.config import DataConfig, ModelConfig
from trainer.data.datasets import load
from trainer.distributed import Group
from trainer.evaluate import evaluate
from trainer.perf.precision import resolve


def seconds(evaluation: Callable[[], object]) -> float:
    """Of one pass; both end by reading numbers from the device."""
    start = time.perf_counter()
    evaluation()
    return time.perf_counter() - start


def ours(images: Images, options: argparse.Namespace) -> Callable[[], object]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = load(DataConfig(root=images.root))
    model = models.build(ModelConfig(width=options.width), len(data.classes))
    model = model.to(device).to(memory_format=torch.channels_last)
    return functools.partial(
        evaluate,
        model,
        torch.from_numpy(data.test_images).to(device),
        torch.from_numpy(data.test_labels).to(device),
        (data.mean, data.std),
        len(data.classes),
        resolve(options.precision, device),
        Group(0, 1, device),
        label_smoothing=0.1,
        keep_logits=True,
    )


def theirs(images: Images, options: argparse.Namespace) -> Callable[[], object]:
    names = peers.pytorch_cifar(
        Path(options.peer).resolve(), Path(images.arrays), "resnet18", width=options.width
    )
    names["best_acc"] = 101.0

    def test() -> None:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            names["test"](0)

    return test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="checkout of kuangliu/pytorch-cifar")
    parser.add_argument("--root", help="CIFAR-10 as Parquet or class folders; none: random images")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    options = parser.parse_args()

    with prepared(options.root) as images:
        passes = {"pytorch-cifar": theirs(images, options), "ours": ours(images, options)}
        runs = {name: functools.partial(seconds, one) for name, one in passes.items()}
        alternate(runs, 1)  # warms both
        found = alternate(runs, options.rounds)
    print(f"{machine()}\nresnet18, width {options.width}, {options.precision}")
    show("10,000 test images", found, "pytorch-cifar", "s")


if __name__ == "__main__":
    main()
