"""How long does a folder of 50,000 small images take to decode, beside torchvision's ImageFolder?

    python benchmarks/decoding.py [--root FOLDER_OF_CIFAR10] [--kind jpeg] [--rounds 3]

Ours is what a launch does once: list, decode, hash and write the cache, with the processes it
starts. The peer lists and decodes to the same array in memory, and keeps nothing: in one process,
and in a DataLoader with a worker a core. Files of 32x32 pixels in ten class folders of a temporary
folder, from CIFAR-10 or, without a root, smooth random images of about its files' size.

Other work on the machine slows all of them; the seconds of processor time say what each needs.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from rounds import alternate, machine, show
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from local_machine.devices import cores_here
from trainer.config import DataConfig
from trainer.data import datasets

CLASSES = 10


def write_files(folder: Path, images: int, kind: str, root: str | None) -> None:
    for label in range(CLASSES):
        (folder / f"class {label}").mkdir()
    if root is None:
        small = np.random.default_rng(0).integers(0, 256, (images, 8, 8, 3), dtype=np.uint8)
    else:
        found = datasets.load(DataConfig(root=root))
        small = np.concatenate([found.train_images, found.val_images, found.test_images])
    how = {"quality": 92} if kind == "jpeg" else {}
    for number in range(images):
        image = Image.fromarray(small[number % len(small)]).resize((32, 32))
        image.save(folder / f"class {number % CLASSES}" / f"{number:06}.{kind}", **how)


def ours(folder: Path) -> int:
    cache = datasets.prepare(DataConfig(root=str(folder), name="benchmark"))
    assert cache is not None
    for file in cache.parent.iterdir():
        file.unlink()
    return len(list(folder.glob("*/*")))


def one_process(folder: Path) -> int:
    dataset = ImageFolder(str(folder))
    decoded = np.empty((len(dataset), 32, 32, 3), np.uint8)
    for place, (image, _) in enumerate(dataset):
        decoded[place] = np.asarray(image)
    return len(decoded)


def workers(folder: Path) -> int:
    dataset = ImageFolder(str(folder), transform=np.asarray)
    decoded = np.empty((len(dataset), 32, 32, 3), np.uint8)
    loader = DataLoader(dataset, 256, num_workers=cores_here(), collate_fn=_stacked)
    place = 0
    for images in loader:
        decoded[place : place + len(images)] = images
        place += len(images)
    return place


def _stacked(samples: list[tuple[npt.NDArray[np.uint8], int]]) -> npt.NDArray[np.uint8]:
    return np.stack([image for image, _ in samples])


class Taken(NamedTuple):
    wall: float
    processor: float
    """Of this process and those that it started, seconds."""


def taken(decode: Callable[[], int], images: int) -> Taken:
    start, used = time.perf_counter(), _processor()
    assert decode() == images
    return Taken(time.perf_counter() - start, _processor() - used)


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=["png", "jpeg"], default="png")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--root", help="a folder of CIFAR-10")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        write_files(folder, options.images, options.kind, options.root)
        os.environ["SWEEPS_CACHE"] = f"{temporary}/cache"
        contenders = {
            "ImageFolder, one process": one_process,
            f"ImageFolder, DataLoader with {cores_here()} workers": workers,
            "ours, into the cache": ours,
        }
        timed = {
            name: functools.partial(taken, functools.partial(decode, folder), options.images)
            for name, decode in contenders.items()
        }
        found = alternate(timed, options.rounds)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{machine()}, load {load}")
    what = f"{options.images:,} {options.kind} files of 32x32 pixels"
    first = next(iter(contenders))
    for kind in Taken._fields:
        times = {name: [getattr(one, kind) for one in own] for name, own in found.items()}
        show(f"{what}, {kind} time", times, first, "s")


if __name__ == "__main__":
    main()
