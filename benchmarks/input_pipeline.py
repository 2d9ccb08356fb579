"""How many augmented images a second, beside torchvision's transforms in a DataLoader?

    python benchmarks/input_pipeline.py [--root FOLDER_OF_CIFAR10] [--mixup ALPHA]

Both make the reported protocol's batches (crop with padding 4, flip, normalise, cutout 12) of 128
from the same uint8 images, in turns, on a CPU; the median over the rounds is shown. Ours has as
many threads as the peer has workers.

Last measured with --root on 2 cores of an AMD EPYC, torch 2.14.1, others using at most 2 % of
the machine, two runs: torchvision 5,621 and 5,701 images/s; ours fp32 106,938 and 104,665 (19.0
and 18.4 x), bf16 106,519 and 109,895 (19.0 and 19.3 x). It needs an idle machine: with others
taking half of both cores ours fell to anything from 0.7 to 4 x, since two threads that wait for
each other at every operation lose far more than independent workers do; one thread alone made
57,000 to 70,000 images/s. With MixUp, 0.4, two runs, both disturbed: 8.3 and 0.9 x. No GPU was
tried.

A batch's steps, best of 60, ms: crops as a view of windows and flip 0.21, one index_select of
pixels from a flat table 0.31; normalisation by rows 0.31, by pixels 0.62, by a table of 256 values
0.79.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rounds import alternate, machine, show
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainer.augment.batch import Augmenter, draw
from trainer.config import AugmentConfig, DataConfig
from trainer.data import datasets

Images = npt.NDArray[np.uint8]


class Cutout:
    """The usual one, an image at a time: a square of zeros, clipped at the borders."""

    def __init__(self, length: int) -> None:
        self.half = length // 2

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        y, x = (int(torch.randint(0, side, ())) for side in (height, width))
        rows = slice(max(y - self.half, 0), y + self.half)
        image[:, rows, max(x - self.half, 0) : x + self.half] = 0.0
        return image


class Peer(Dataset[Tensor]):
    def __init__(self, images: Images, cutout: int) -> None:
        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(datasets.CIFAR10_MEAN, datasets.CIFAR10_STD),
                Cutout(cutout),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.fromarray(self.images[index]))
        return image


def rate(images: int, epoch: Callable[[], None]) -> float:
    start = time.perf_counter()
    epoch()
    return images / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="CIFAR-10 as Parquet or class folders; none: random images")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mixup", type=float, default=0.0, help="ours only: the peer has none")
    options = parser.parse_args()

    if options.root:
        images = datasets.load(DataConfig(root=options.root)).train_images[: options.images]
    else:
        shape = (options.images, 32, 32, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    count = len(images)
    labels = np.zeros(count, np.int64)
    config = AugmentConfig(mixup=options.mixup)
    torch.set_num_threads(options.workers)

    loader = DataLoader(
        Peer(images, config.cutout),
        batch_size=options.batch,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=True,
    )
    augmenters = {
        name: Augmenter(
            images, labels, datasets.CIFAR10_MEAN, datasets.CIFAR10_STD, config, "cpu", dtype
        )
        for name, dtype in (("ours, fp32", torch.float32), ("ours, bf16", torch.bfloat16))
    }

    def peer() -> None:
        for _ in loader:
            pass

    def ours(augmenter: Augmenter) -> None:
        # The epoch's draws are part of the cost.
        draws = draw(config, count, 32, 42, 0, "cpu")
        for start in range(0, count, options.batch):
            augmenter.batch(draws, draws.order[start : start + options.batch])

    runs = {"torchvision": functools.partial(rate, count, peer)}
    for name, augmenter in augmenters.items():
        runs[name] = functools.partial(rate, count, functools.partial(ours, augmenter))
    alternate(runs, 1)  # starts the workers, warms the allocator
    rates = alternate(runs, options.rounds)
    print(f"{machine()}\n{options.workers} threads or workers, batch {options.batch}")
    show(f"{count:,} images", rates, "torchvision", "images/s")


if __name__ == "__main__":
    main()
