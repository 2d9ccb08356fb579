"""Data sets as arrays, and the split into training and validation images.

Images come from a folder (layouts.py) or, for CIFAR-10, from a download. They are decoded once into
a cache that every worker then reads in a fraction of a second. The digits of scikit-learn come with
it. Everything depends on the DataConfig alone, never on a trial's seed. A hash of the content tells
what the images are; it is taken once and kept in the cache. While images are decoded, few of them
are held at once. Imports no torch.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from local_machine.errors import EXIT_IO, InputError, move_away
from trainer.config import DataConfig
from trainer.data import layouts
from trainer.data.cache import (
    array,
    cache_file,
    is_there,
    locked,
    read_cache,
    shape_of,
    write_cache,
)
from trainer.data.content import content_sha256 as content_sha256
from trainer.data.counts import Counts as Counts
from trainer.data.counts import counts as counts
from trainer.data.decoding import side_of
from trainer.data.folder_images import class_names, fill
from trainer.data.known import CIFAR10 as KNOWN_CIFAR10
from trainer.data.known import CIFAR10_MEAN, CIFAR10_STD, DIGITS, Channels
from trainer.data.labels import Images, Indices, Labels
from trainer.data.layouts import SIDE as SIDE
from trainer.data.layouts import Layout
from trainer.data.parquet import Columns
from trainer.data.split import (
    TEST_LIMIT,
    TRAIN_LIMIT,
    VAL_LIMIT,
    balanced,
    split,
    split_sha256,
)

CIFAR10 = KNOWN_CIFAR10.classes
# The digits have no test set of their own; theirs is the same whatever the configuration says.
_DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED = 0.2, 1797


@dataclass(frozen=True)
class Dataset:
    """One data set, decoded, limited and split. Images are uint8 (N, side, side, 3), contiguous."""

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

    @property
    def side(self) -> int:
        """Of the images, in pixels."""
        return int(self.train_images.shape[1])

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
    val: npt.NDArray[np.int64] = np.zeros(1, np.int64)
    """One number: `Labels.val`."""


class Facts(NamedTuple):
    """What is known of a data set before it is decoded."""

    labels: Labels
    side: int
    """Of its images, in pixels, as far as the first one tells."""


def check(config: DataConfig) -> Counts:
    """What a trial will have, without decoding its images. Touches nothing.

    Raises InputError where data.root has no data in it, and where no trial can be made of them:
    a class without images in a part, names that cannot be shown, a split or a limit that leaves a
    class without images.
    """
    return counts(facts(config).labels, config)


def facts(config: DataConfig) -> Facts:
    """Of the whole data set: from the cache where it is decoded, else from its source. Raises
    InputError where there is no data, or data with bad labels, or a first image that cannot be
    used."""
    layout = _layout(config)
    path = _cache(config, layout)
    if path is None:
        digits = _digits()
        return Facts(Labels(digits.train_labels, digits.test_labels, DIGITS.classes), SIDE)
    if is_there(path):
        found = _Decoded(
            train_images=np.empty(0, np.uint8), test_images=np.empty(0, np.uint8),
            **_read(path, ("train_labels", "test_labels", "classes", "sha256")),
        )  # fmt: skip
        return Facts(_labels(found), shape_of(path, "train_images")[1])
    if layout is None:
        each = np.arange(len(CIFAR10), dtype=np.int64)
        train, test = KNOWN_CIFAR10.train_images, KNOWN_CIFAR10.test_images
        labels = Labels(each.repeat(train // len(each)), each.repeat(test // len(each)), CIFAR10)
        return Facts(labels, SIDE)
    labels = layout.labels
    # Too few images, or classes, are told before too large ones.
    counts(labels, config)
    return Facts(labels, config.size or side_of(next(layout.items("train"))))


def _labels(found: _Decoded) -> Labels:
    classes = tuple(map(str, found.classes))
    return Labels(found.train_labels, found.test_labels, classes, int(found.val[0]))


def cache(config: DataConfig) -> Path | None:
    """Where the decoded images are, or will be; None for the digits, which need none.

    Raises InputError where data.root is not a folder with data in it. Touches nothing.
    """
    return _cache(config, _layout(config))


def _cache(config: DataConfig, layout: Layout | None) -> Path | None:
    if config.name == "digits":
        return None
    if layout is None:
        return cache_file(None, (), ())
    return cache_file(layout.root, layout.files(), _options(config))


def _options(config: DataConfig) -> tuple[object, ...]:
    """What decides what is decoded, beside the files."""
    return config.size, config.image_column, config.label_column


def _layout(config: DataConfig) -> Layout | None:
    """None where the images are not in a folder of the user's."""
    if config.root is None:
        return None
    if config.name == "digits":
        raise InputError(
            f"data.root={config.root}: the digits come with scikit-learn, not from a folder",
            "drop data.root, or give these images a name of their own: data.name=NAME",
        )
    root = Path(config.root).expanduser().resolve()
    return layouts.find(root, Columns(config.image_column, config.label_column))


def prepare(config: DataConfig) -> Path | None:
    """Decode (and, without a root, download) into the cache where that was not done before.

    Returns the cache's file; None for the digits, which need none. Processes that start together
    decode once. Raises InputError for bad data and where the cache cannot be written.
    """
    layout = _layout(config)
    path = _cache(config, layout)
    if path is None or is_there(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if not is_there(path):
                _fill(path, config, layout)
                if not is_there(path):
                    raise InputError(
                        f"{path.parent} does not tell whose its files are: another user could have "
                        "written the decoded images",
                        "choose a folder on another disk: export SWEEPS_CACHE=FOLDER",
                        exit_code=EXIT_IO,
                    )
    except OSError as error:
        raise InputError(
            f"cannot write the decoded images to {path}: {error.strerror or error}",
            f"choose a folder with {_megabytes(config, layout):,} MB of room that you may write: "
            "export SWEEPS_CACHE=FOLDER",
            exit_code=EXIT_IO,
        ) from None
    return path


def _fill(path: Path, config: DataConfig, layout: Layout | None) -> None:
    if layout is None:
        print(f"downloading CIFAR-10, once, into {path}", file=sys.stderr, flush=True)
        members = _download(path.parent)._asdict()
        write_cache(path, [(name, array(values)) for name, values in members.items()])
        return
    fill(path, layout, config, _options(config))


def _megabytes(config: DataConfig, layout: Layout | None) -> int:
    images, side = KNOWN_CIFAR10.train_images + KNOWN_CIFAR10.test_images, config.size or SIDE
    if layout is not None:
        images = len(layout.labels.train) + len(layout.labels.test)
    return 10 + 3 * images * side**2 // 10**6


def _read(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Members of the cache; of an older one, without `val`."""
    more = {"val": np.zeros(1, np.int64)}
    return dict(zip((*names, *more), read_cache(path, names, more), strict=True))


def content_of(config: DataConfig) -> str:
    """`content_sha256` of the configuration's whole data set, prepared. Raises as `prepare`
    does."""
    path = prepare(config)
    return str((_digits().sha256 if path is None else read_cache(path, ("sha256",))[0])[0])


def load(config: DataConfig) -> Dataset:
    """The configuration's images: prepared, limited, split. Raises InputError for bad data."""
    path = prepare(config)
    full = _digits() if path is None else _Decoded(**_read(path, _Decoded._fields[:-1]))
    labels = _labels(full)
    classes = labels.classes
    counts(labels, config)
    sha256 = str(full.sha256[0])
    seed = config.split_seed
    train, val = _train_and_val(labels, config)
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


def _train_and_val(labels: Labels, config: DataConfig) -> tuple[Indices, Indices]:
    """Indices into the full training set, ascending, under the limit; a data set's own validation
    images are under the same limit."""
    limit, seed, classes = config.train_limit, config.split_seed, labels.classes
    own = len(labels.train) - labels.val
    kept = balanced(labels.train[:own], limit, len(classes), seed, TRAIN_LIMIT)
    if labels.val:
        val = balanced(labels.train[own:], limit, len(classes), seed, VAL_LIMIT)
        return kept, own + val
    train, val = split(labels.train[kept], classes, config.val_fraction, seed)
    return kept[train], kept[val]


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


def _decoded(
    train_images: Images,
    train_labels: Indices,
    test_images: Images,
    test_labels: Indices,
    classes: Sequence[str],
) -> _Decoded:
    """With the hash."""
    content = train_images, train_labels, test_images, test_labels
    sha256 = content_sha256(*content)
    return _Decoded(*content, np.array(class_names(classes, sha256)), np.array([sha256]))


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
