"""Which images are kept, and which of them are held out for validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from local_machine.errors import InputError
from trainer.data.labels import Indices

# One random stream for each use of the split's seed, so that none moves another.
_SPLIT, TRAIN_LIMIT, TEST_LIMIT, _TEST, VAL_LIMIT = 1, 2, 3, 4, 5
# Of images that come without a test part. Theirs is the same whatever a configuration says.
_TEST_FRACTION, _TEST_SEED = 0.2, 1797


def split(
    labels: Indices, classes: Sequence[str], val_fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Indices of the training and of the validation images, each ascending, stratified by label.

    Validation has round(N * val_fraction) images, and of every class within one of its share
    (largest remainders). Raises InputError where a class is left without either.
    """
    held_out = count_held_out(np.bincount(labels, minlength=len(classes)), classes, val_fraction)
    is_val = _ranks(labels, len(classes), seed, _SPLIT) < held_out[labels]
    return np.flatnonzero(~is_val), np.flatnonzero(is_val)


def held_out_for_test(labels: Indices, classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of a data set's images, of one part alone, are its test images: a fifth of each class,
    and at least one. Raises InputError where a class has a single image."""
    counts = np.bincount(labels, minlength=len(classes))
    if (counts == 1).any():
        raise InputError(
            f"data: class {classes[int((counts == 1).argmax())]!r} has 1 image, and images without "
            "a test part need one to train on and one to test",
            "add images of it, or leave the class out",
        )
    quota = np.maximum(1, np.rint(counts * _TEST_FRACTION).astype(np.int64))
    is_test: npt.NDArray[np.bool_] = _ranks(labels, len(classes), _TEST_SEED, _TEST) < quota[labels]
    return is_test


def count_held_out(
    counts: Indices,
    classes: Sequence[str],
    val_fraction: float,
    limited: str = "",
    remedy: str = "add some, or raise data.train_limit where it is set",
) -> Indices:
    """Of so many images of each class, how many are for validation. Raises InputError, with the
    remedy, where that are none or all."""
    shares = counts * val_fraction
    held_out: Indices = np.floor(shares).astype(np.int64)
    missing = round(int(counts.sum()) * val_fraction) - int(held_out.sum())
    held_out[np.argsort(held_out - shares, kind="stable")[:missing]] += 1
    for name, count, val_count in zip(classes, counts, held_out, strict=True):
        if not 0 < val_count < count:
            raise InputError(
                f"data: class {name!r} has {count} training images{limited}, of which "
                f"data.val_fraction={val_fraction} takes {val_count} for validation: "
                "both parts need at least one",
                f"each class needs at least {images_needed(val_fraction)} images: {remedy}"
                + _or_fraction(int(counts.min()), val_fraction),
            )
    return held_out


def images_needed(val_fraction: float) -> int:
    """So many images of a class are enough, whatever the others have."""
    # 1 / 0.1 is 10, and 1 / (1 - 0.9) is a little more.
    return math.ceil(1 / min(val_fraction, 1 - val_fraction) - 1e-6)


def _or_fraction(fewest: int, val_fraction: float) -> str:
    """The fraction nearest to the one given that a class of so few images allows."""
    if fewest < 2:
        return ""
    digits = 10 ** max(2, len(str(fewest)))
    part = math.ceil(digits / fewest)
    if val_fraction < 0.5:
        return f"; or raise data.val_fraction to {part / digits}"
    return f"; or lower data.val_fraction to {(digits - part) / digits}"


def split_sha256(train: Indices, val: Indices) -> str:
    return hashlib.sha256(np.concatenate([train, val]).astype("<i8").tobytes()).hexdigest()


def balanced(labels: Indices, limit: int | None, classes: int, seed: int, stream: int) -> Indices:
    """Ascending indices of at most `limit` images, as many of each class (give or take one).

    A class that has fewer than its part keeps them all, and the others get no more for it.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    quota = class_quota(len(labels), limit, classes)
    return np.flatnonzero(_ranks(labels, classes, seed, stream) < quota[labels])


def class_quota(images: int, limit: int | None, classes: int) -> Indices:
    """The most images that each class keeps under the limit."""
    if limit is None or limit >= images:
        return np.full(classes, images)
    quota: Indices = limit // classes + (np.arange(classes) < limit % classes)
    return quota


def _ranks(labels: Indices, classes: int, seed: int, stream: int) -> Indices:
    """For each image, its place in a random order of the images of its class."""
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream])))
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels, minlength=classes)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks
