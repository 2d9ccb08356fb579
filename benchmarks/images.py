"""The same images for us and for the peers, in the form that each of them reads."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from trainer.config import DataConfig
from trainer.data import datasets


@dataclass(frozen=True)
class Images:
    root: str
    """data.root for ours."""
    arrays: str
    """train_images.npy (50,000), train_labels.npy, test_images.npy (10,000), test_labels.npy."""


@contextlib.contextmanager
def prepared(root: str | None) -> Iterator[Images]:
    """CIFAR-10 from `root`, or random images like it: speed does not ask what they show."""
    with tempfile.TemporaryDirectory() as folder:
        if root is None:
            root = folder
            os.environ["SWEEPS_CACHE"] = f"{folder}/cache"
            write_random(Path(folder))
        found = datasets.load(DataConfig(root=root))
        parts: dict[str, npt.NDArray[Any]] = {
            "train_images": np.concatenate((found.train_images, found.val_images)),
            "train_labels": np.concatenate((found.train_labels, found.val_labels)),
            "test_images": found.test_images,
            "test_labels": found.test_labels,
        }
        for name, array in parts.items():
            np.save(Path(folder) / f"{name}.npy", array)
        yield Images(str(Path(root).resolve()), folder)


def write_random(folder: Path) -> None:
    """60,000 images of noise, 50,000 to train on, in the layout of CIFAR-10's Parquet files."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 50_000), ("test", 10_000)):
        pixels = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        table = {
            "img": [{"bytes": png(image)} for image in pixels],
            "label": np.arange(count) % 10,
        }
        pq.write_table(pa.table(table), folder / f"{part}-00000-of-00001.parquet")


def png(image: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=0)
    return buffer.getvalue()
