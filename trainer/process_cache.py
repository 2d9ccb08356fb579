"""What a process keeps of one trial for the next: its data set, the images on the device, and what
was compiled for its shape.

The last one's only, and dropped before another is made, so that two are never held at once: a
sweep's trials come ordered by what they share. None of it is changed by a trial, so that a trial
computes the same whether it is a process's first or its tenth. Imports no torch, since a worker
reads its first trial's data while torch is imported.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from trainer.config import AugmentConfig, DataConfig
from trainer.data.datasets import Dataset, load

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainer.augment.batch import Augmenter

T = TypeVar("T")


class _Last(Generic[T]):
    """The thing that was made last, and what it was made for."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: T | None = None
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if self._value is None or key != self._key:
                self.drop()
                self._value, self._key = make(), key
            return self._value

    def drop(self) -> None:
        self._value = None


class Resident(NamedTuple):
    """A data set on a device."""

    augmenter: Augmenter
    val_images: Tensor
    val_labels: Tensor


_dataset: _Last[Dataset] = _Last()
_resident: _Last[Resident] = _Last()
_compiled: Hashable = None


def dataset(config: DataConfig) -> Dataset:
    """The configuration's images, as trainer.data.datasets.load has them. Raises InputError for bad
    data.

    What changes in data.root while the process lives is seen by the next process.
    """
    return _dataset.get(_key(config), lambda: load(config))


def read_ahead(config: DataConfig) -> None:
    """Begin to read the images. What goes wrong is told by `dataset`, which then tries again."""

    def read() -> None:
        with contextlib.suppress(Exception):
            dataset(config)

    threading.Thread(target=read, daemon=True).start()


def resident(
    config: DataConfig, augment: AugmentConfig, device: torch.device, dtype: torch.dtype
) -> Resident:
    """The configuration's images on the device. Raises InputError for bad data."""
    import torch

    from trainer.augment.batch import Augmenter

    def make() -> Resident:
        data = dataset(config)
        return Resident(
            Augmenter(
                data.train_images, data.train_labels, data.mean, data.std, augment, device, dtype
            ),
            torch.from_numpy(data.val_images).to(device),
            torch.from_numpy(data.val_labels).to(device),
        )

    # Of the augmentation, what the Augmenter itself is made of; the rest is drawn for each epoch.
    made_of = (augment.crop_padding, augment.trivial_augment, augment.cutout)
    return _resident.get((_key(config), made_of, device, dtype), make)


def _key(config: DataConfig) -> Hashable:
    return config, os.environ.get("SWEEPS_CACHE")


@contextlib.contextmanager
def code(shape: Hashable) -> Iterator[bool]:
    """Around the compilation for a shape; whether this process has that already.

    What was compiled for another shape is thrown away: it would count against the limit of shapes,
    past which torch silently compiles no more. Where the compilation raises, nothing is kept.
    """
    global _compiled
    known = shape == _compiled
    if not known:
        import torch

        torch.compiler.reset()
    _compiled = None
    yield known
    _compiled = shape
