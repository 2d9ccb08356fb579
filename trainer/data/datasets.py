"""Data sets as arrays, and the split into training and validation images.

Images come from a folder (layouts.py) or, for CIFAR-10, from a download. They are decoded once into
a cache that every worker then reads in a fraction of a second. The digits of scikit-learn come with
it. Everything depends on the DataConfig alone, never on a trial's seed. A hash of the content tells
what the images are; it is taken once and kept in the cache. Imports no torch.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.util
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.files import write_atomic
from local_machine.private_folder import cache_home
from sweeps.run.class_names import check_names
from trainer.config import DataConfig
from trainer.data import layouts
from trainer.data.cache import locked, read_cache, source_key
from trainer.data.known import CIFAR10 as KNOWN_CIFAR10
from trainer.data.known import CIFAR10_MEAN, CIFAR10_STD, DIGITS, Channels
from trainer.data.layouts import SIDE as SIDE
from trainer.data.layouts import Images, Indices, Labels
from trainer.data.split import (
    TEST_LIMIT,
    TRAIN_LIMIT,
    balanced,
    class_quota,
    count_held_out,
    images_needed,
    split,
    split_sha256,
)

CIFAR10 = KNOWN_CIFAR10.classes
# The digits have no test set of their own; theirs is the same whatever the configuration says.
_DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED = 0.2, 1797


@dataclass(frozen=True)
class Dataset:
    """One data set, decoded, limited and split. Images are uint8 (N, 32, 32, 3), contiguous."""

    train_images: Images
    train_labels: Indices
    val_images: Images
    val_labels: Indices
    test_images: Images
    test_labels: Indices
    test_index: npt.NDArray[np.int32]
    """Each test image's place in the full test set."""
    classes: tuple[str, ...]
    """Names by label."""
    mean: Channels
    """Of the training images, for each channel, where 1 is white."""
    std: Channels
    split_sha256: str
    """Of the training, then the validation indices, into the full training set."""
    sha256: str
    """`content_sha256` of the whole data set, before limits and split."""

    def check_same(self, sha256: str | None, path: Path) -> None:
        """Raise InputError where the file `path` is of a trial that began on other images than
        these; None is of a version that did not say."""
        if sha256 not in (None, self.sha256):
            raise InputError(
                f"{path} is of a trial that began on other images than those that data.root holds "
                f"now (content {str(sha256)[:8]}, now {self.sha256[:8]})",
                "put those images back; or start the trial over on these, with its folder moved "
                f"away: {move_away(path.parent, 'other-data')}",
                exit_code=EXIT_IO,
            )


class _Decoded(NamedTuple):
    train_images: Images
    train_labels: Indices
    test_images: Images
    test_labels: Indices
    classes: npt.NDArray[np.str_]
    sha256: npt.NDArray[np.str_]
    """One text."""


class Counts(NamedTuple):
    """How many images a configuration leaves."""

    train: int
    val: int
    test: int


def check(config: DataConfig) -> Counts:
    """What a trial will have, without decoding an image. Touches nothing.

    Raises InputError where data.root has no data in it, and where no trial can be made of them:
    a class without images in a part, names that cannot be shown, a split or a limit that leaves a
    class without images.
    """
    return counts(labels(config), config)


def labels(config: DataConfig) -> Labels:
    """Of the whole data set: from the cache where they are decoded, else from their source."""
    path = cache(config)
    if path is None:
        digits = _digits()
        return Labels(digits.train_labels, digits.test_labels, DIGITS.classes)
    if path.exists():
        found = read_cache(path, ("train_labels", "test_labels", "classes"))
        return Labels(found[0], found[1], tuple(map(str, found[2])))
    root = _root(config)
    if root is not None:
        return layouts.labels(root)
    each = np.arange(len(CIFAR10), dtype=np.int64)
    train, test = KNOWN_CIFAR10.train_images, KNOWN_CIFAR10.test_images
    return Labels(each.repeat(train // len(each)), each.repeat(test // len(each)), CIFAR10)


def counts(full: Labels, config: DataConfig) -> Counts:
    """What the configuration's limits and split leave of a data set. Raises InputError as `check`
    does."""
    classes = full.classes
    train, test = (np.bincount(part, minlength=len(classes)) for part in full[:2])
    _check_classes(classes, train, test)
    kept = np.minimum(train, class_quota(len(full.train), config.train_limit, len(classes)))
    if kept.sum() < len(full.train):
        enough = len(classes) * images_needed(config.val_fraction)
        limited = f" under data.train_limit={config.train_limit}"
        remedy = f"raise data.train_limit to at least {enough}"
        val = count_held_out(kept, classes, config.val_fraction, limited, remedy)
    else:
        val = count_held_out(kept, classes, config.val_fraction)
    tested = np.minimum(test, class_quota(len(full.test), config.test_limit, len(classes)))
    if not tested.all():
        raise InputError(
            f"data: data.test_limit={config.test_limit} leaves class "
            f"{classes[tested.argmin()]!r} without test images",
            f"raise data.test_limit to at least {len(classes)}",
        )
    return Counts(int(kept.sum() - val.sum()), int(val.sum()), int(tested.sum()))


def _check_classes(classes: Sequence[str], train: Indices, test: Indices) -> None:
    """Of so many training and test images of each class. Raises InputError where one has none."""
    if len(classes) < 2:
        raise InputError(
            f"data: {len(classes)} class: there is nothing to tell apart",
            "a data set needs images of two classes or more",
        )
    for part, images in (("training", train), ("test", test)):
        if not images.all():
            label = int(images.argmin())
            raise InputError(
                f"data: class {classes[label]!r} has 0 {part} images ({train[label]} training "
                f"images and {test[label]} test images)",
                f"add {part} images of it, or leave the class out; labels run from 0 without a gap",
            )


def content_sha256(
    train_images: Images, train_labels: Indices, test_images: Images, test_labels: Indices
) -> str:
    """Of a whole data set: what its training and test images are and how they are labelled, in any
    order, since files and downloads have orders of their own.

    The SHA-256 of each image (its label, height, width and channels as 64-bit little-endian
    integers, then its bytes), sorted within each part; the SHA-256 of their number and of them, the
    training images first.
    """
    whole = hashlib.sha256()
    for images, numbers in ((train_images, train_labels), (test_images, test_labels)):
        shape = np.array(images.shape[1:], "<i8").tobytes()
        heads = [number.tobytes() + shape for number in numbers.astype("<i8")]
        digests = sorted(
            hashlib.sha256(head + image.tobytes()).digest()
            for head, image in zip(heads, images, strict=True)
        )
        whole.update(np.array(len(digests), "<i8").tobytes() + b"".join(digests))
    return whole.hexdigest()


def cache(config: DataConfig) -> Path | None:
    """Where the decoded images are, or will be; None for the digits, which need none.

    Raises InputError where data.root is not a folder with data in it. Touches nothing.
    """
    root = _root(config)
    return None if config.name == "digits" else cache_home() / f"images-{source_key(root)}.npz"


def prepare(config: DataConfig) -> Path | None:
    """Decode (and, without a root, download) into the cache where that was not done before.

    Returns the cache's file; None for the digits, which need none. Processes that start together
    decode once. Raises InputError for bad data and where the cache cannot be written.
    """
    path = cache(config)
    if path is None or path.exists():
        return path
    root = _root(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                source = (
                    "downloading CIFAR-10" if root is None else f"decoding the images of {root}"
                )
                print(f"{source}, once, into {path}", file=sys.stderr, flush=True)
                decoded = _download(path.parent) if root is None else _decode(root)
                write_atomic(path, lambda file: np.savez(file, **decoded._asdict()))
    except OSError as error:
        raise InputError(
            f"cannot write the decoded images to {path}: {error.strerror or error}",
            "choose a folder with 200 MB of room that you may write: export SWEEPS_CACHE=FOLDER",
            exit_code=EXIT_IO,
        ) from None
    return path


def content_of(config: DataConfig) -> str:
    """`content_sha256` of the configuration's whole data set, prepared. Raises as `prepare`
    does."""
    path = prepare(config)
    return str((_digits().sha256 if path is None else read_cache(path, ("sha256",))[0])[0])


def load(config: DataConfig) -> Dataset:
    """The configuration's images: prepared, limited, split. Raises InputError for bad data."""
    path = prepare(config)
    full = _digits() if path is None else _Decoded(*read_cache(path, _Decoded._fields))
    classes = tuple(str(name) for name in full.classes)
    counts(Labels(full.train_labels, full.test_labels, classes), config)
    sha256 = str(full.sha256[0])
    seed = config.split_seed
    kept = balanced(full.train_labels, config.train_limit, len(classes), seed, TRAIN_LIMIT)
    train, val = split(full.train_labels[kept], classes, config.val_fraction, seed)
    train, val = kept[train], kept[val]
    test = balanced(full.test_labels, config.test_limit, len(classes), seed, TEST_LIMIT)
    train_images = full.train_images[train]
    if sha256 == KNOWN_CIFAR10.sha256:
        mean, std = CIFAR10_MEAN, CIFAR10_STD
    else:
        mean, std = _moments(train_images)
    return Dataset(
        train_images=train_images,
        train_labels=full.train_labels[train],
        val_images=full.train_images[val],
        val_labels=full.train_labels[val],
        test_images=full.test_images[test],
        test_labels=full.test_labels[test],
        test_index=test.astype(np.int32),
        classes=classes,
        mean=mean,
        std=std,
        split_sha256=split_sha256(train, val),
        sha256=sha256,
    )


def _moments(images: Images) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel, from exact counts of the 256 values."""
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(3):
        weights = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., 0].size
        mean = float(weights @ levels)
        means.append(mean)
        # A constant channel has no deviation to divide by.
        stds.append(float(weights @ (levels - mean) ** 2) ** 0.5 or 1.0)
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def _root(config: DataConfig) -> Path | None:
    if config.root is None:
        return None
    if config.name == "digits":
        raise InputError(
            f"data.root={config.root}: the digits come with scikit-learn, not from a folder",
            "drop data.root, or set data.name=cifar10",
        )
    return Path(config.root).expanduser().resolve()


def _decode(root: Path) -> _Decoded:
    found, train, test = layouts.decode(root)
    return _decoded(train, found.train, test, found.test, found.classes)


def _decoded(
    train_images: Images,
    train_labels: Indices,
    test_images: Images,
    test_labels: Indices,
    classes: Sequence[str],
) -> _Decoded:
    """With the hash; what is CIFAR-10 by content has CIFAR-10's class names."""
    content = train_images, train_labels, test_images, test_labels
    sha256 = content_sha256(*content)
    if sha256 == KNOWN_CIFAR10.sha256:
        classes = CIFAR10
    return _Decoded(*content, np.array(check_names(classes, "data")), np.array([sha256]))


def _download(folder: Path) -> _Decoded:
    # Imports torch, which costs seconds: only where there is no cache yet.
    from torchvision import datasets

    before = socket.getdefaulttimeout()
    # A compute node often drops what it sends out; without a limit that waits for ever.
    socket.setdefaulttimeout(30.0)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            train, test = (
                datasets.CIFAR10(str(folder), train=part, download=True) for part in (True, False)
            )
    except (OSError, RuntimeError, HTTPException) as error:
        raise InputError(
            f"cannot download CIFAR-10 into {folder}: {error}",
            "where there is no network, name a folder that has the images: --set data.root=FOLDER",
            exit_code=EXIT_IO,
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return _decoded(
        train.data,
        np.array(train.targets, np.int64),
        test.data,
        np.array(test.targets, np.int64),
        CIFAR10,
    )


def _digits() -> _Decoded:
    """8x8 values from 0 to 16, each brought to a block of 4x4 grey pixels from 0 to 255."""
    table = _digits_table()
    values = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    grey = values.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    images = np.stack([grey] * 3, axis=-1)
    labels = table[:, -1].astype(np.int64)
    train, test = split(labels, DIGITS.classes, _DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED)
    return _decoded(images[train], labels[train], images[test], labels[test], DIGITS.classes)


def _digits_table() -> npt.NDArray[np.float64]:
    """A row an image: 64 values, and the digit.

    Read from scikit-learn's file: importing its load_digits takes two seconds, in every worker.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=",")
