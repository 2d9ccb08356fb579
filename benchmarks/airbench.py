"""How fast is the input pipeline beside cifar10-airbench's, and training beside airbench96?

    python benchmarks/airbench.py --peer CHECKOUT_OF_AIRBENCH [--root FOLDER_OF_CIFAR10]
        [--batch 128] [--rounds 5]
        [--pytorch-cifar CHECKOUT [--steps N] [--width 0.25]]

CHECKOUT_OF_AIRBENCH is https://github.com/KellerJordan/cifar10-airbench, its legacy/airbench96.py.

Input: an epoch's batches with crop by 4, flip and cutout 12, on the device. Its loader augments the
whole set in half precision at the epoch's start, flips every other epoch and drops the last short
batch; ours augments a batch at a time, draws included, in the precision of the device. On a CPU its
loader runs through the argument that it has for the device.

With --pytorch-cifar also ResNet-18: pytorch-cifar's loop fed by airbench's loader, as shipped, and
ours (trial.py).

airbench96 itself trains on CUDA only, in fp16 and at batch 1024; its time for an epoch of 49,152
images is its own, without evaluation and without the first epoch. It is another network: its head
counts 4.91 PFLOP for 37 epochs, 2.7 GFLOP an image, where a ResNet-18 takes 3.3.

Last measured on two processors of an AMD EPYC, nothing else running, torch 2.14.1, --root, three
rounds: its loader 39,454 images/s (33,107 to 46,586), ours in fp32 78,500 (71,386 to 92,699): 1.99
x (1.99 to 2.16). On busy cores ours falls below it (0.67 x), since its threads wait for each other.
airbench96: not measured, it needs CUDA.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from images import Images, prepared
from rounds import alternate, machine, show
from trial import Contender, measure, synchronize

from trainer.augment.batch import Augmenter, draw
from trainer.config import AugmentConfig, DataConfig
from trainer.data.datasets import load
from trainer.perf.precision import resolve


def write_tensors(arrays: Path) -> None:
    """The files that its loader makes of torchvision's CIFAR10 when it finds none."""
    for part in ("train", "test"):
        tensors = {
            name: torch.from_numpy(np.load(arrays / f"{part}_{name}.npy"))
            for name in ("images", "labels")
        }
        torch.save({**tensors, "classes": list(range(10))}, arrays / f"{part}.pt")


def rate(count: int, epoch: Callable[[], None]) -> float:
    synchronize()
    start = time.perf_counter()
    epoch()
    synchronize()
    return count / (time.perf_counter() - start)


def pipelines(options: argparse.Namespace, images: Images) -> dict[str, Callable[[], float]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if resolve("auto", device) == "bf16" else torch.float32
    data, config = load(DataConfig(root=images.root)), AugmentConfig()
    count = len(data.train_labels)
    augmenter = Augmenter(
        data.train_images, data.train_labels, data.mean, data.std, config, device, dtype
    )
    loader = peers.airbench_loader(options.peer, Path(images.arrays), options.batch)

    def ours() -> None:
        draws = draw(config, count, 32, 42, 0, device)
        for index in torch.split(draws.order, options.batch):
            augmenter.batch(draws, index)

    def theirs() -> None:
        for _ in loader:
            pass

    return {
        "airbench's loader": functools.partial(rate, len(loader) * options.batch, theirs),
        f"ours, {dtype}".replace("torch.", ""): functools.partial(rate, count, ours),
    }


def trainings(options: argparse.Namespace, images: Images) -> dict[str, Callable[[], float]]:
    ours = Contender("ours", batch=options.batch, steps=options.steps, width=options.width)
    peer = Contender(
        "pytorch-cifar",
        str(options.pytorch_cifar),
        batch=options.batch,
        steps=options.steps,
        width=options.width,
    )
    fed = Contender(**{**vars(peer), "loader": str(options.peer)})
    runs = {"pytorch-cifar": peer, "pytorch-cifar, airbench's loader": fed, "ours": ours}
    return {
        name: functools.partial(lambda run: measure(run, images).rate, run)
        for name, run in runs.items()
    }


def airbench96(checkout: Path, arrays: Path, rounds: int) -> list[float]:
    """Images/s of so many epochs after the first, as its own clock has them."""
    script = peers.module(checkout / "legacy" / "airbench96.py")
    script.hyp["opt"]["train_epochs"] = rounds + 1
    totals: list[float] = []

    def note(variables: dict[str, Any], is_final_entry: bool) -> None:
        if not is_final_entry:
            totals.append(variables["total_time_seconds"])

    script.print_training_details = note
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("cifar10").symlink_to(arrays)
        script.main(0)
    batch = script.hyp["opt"]["batch_size"]
    images = 50_000 // batch * batch
    return [images / (now - before) for before, now in itertools.pairwise(totals)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, type=lambda path: Path(path).resolve())
    parser.add_argument("--pytorch-cifar", type=lambda path: Path(path).resolve())
    parser.add_argument("--root", help="CIFAR-10 as Parquet or class folders; none: random images")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=350 if torch.cuda.is_available() else 10)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    with prepared(options.root) as images:
        write_tensors(Path(images.arrays))
        runs = pipelines(options, images)
        alternate(runs, 1)  # warms both
        inputs = alternate(runs, options.rounds)
        print(f"{machine()}\nbatch {options.batch}")
        show("input pipeline", inputs, "airbench's loader", "images/s")
        if options.pytorch_cifar:
            trained = alternate(trainings(options, images), options.rounds)
            show(f"resnet18, width {options.width}", trained, "pytorch-cifar", "images/s")
        if torch.cuda.is_available():
            epochs = airbench96(options.peer, Path(images.arrays), options.rounds)
            show(
                "training", {"airbench96, batch 1024": epochs}, "airbench96, batch 1024", "images/s"
            )
        else:
            print("\nairbench96: not measured, it needs CUDA")


if __name__ == "__main__":
    main()
