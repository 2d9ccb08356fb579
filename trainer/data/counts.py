"""How many images a configuration's limits and split leave, told by the labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from local_machine.errors import InputError
from trainer.config import DataConfig
from trainer.data.labels import Indices, Labels
from trainer.data.split import class_quota, count_held_out, images_needed


class Counts(NamedTuple):
    """How many images a configuration leaves."""

    train: int
    val: int
    test: int


def counts(full: Labels, config: DataConfig) -> Counts:
    """What the configuration's limits and split leave of a data set. Raises InputError as
    `trainer.data.datasets.check` does."""
    classes = full.classes
    own = len(full.train) - full.val
    train, val, test = (
        np.bincount(part, minlength=len(classes))
        for part in (full.train[:own], full.train[own:], full.test)
    )
    _check_classes(classes, train, test)
    if full.val:
        _check_classes(classes, train, val, "validation")
    kept = np.minimum(train, class_quota(own, config.train_limit, len(classes)))
    if full.val:
        val = np.minimum(val, class_quota(full.val, config.train_limit, len(classes)))
        if not (kept.all() and val.all()):
            raise InputError(
                f"data: data.train_limit={config.train_limit} leaves a class without images, of "
                f"{len(classes)}",
                f"raise data.train_limit to at least {len(classes)}",
            )
        kept = kept + val
    elif kept.sum() < own:
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


def _check_classes(
    classes: Sequence[str], train: Indices, test: Indices, word: str = "test"
) -> None:
    """Of so many training and test images of each class. Raises InputError where one has none."""
    if len(classes) < 2:
        raise InputError(
            f"data: {len(classes)} class: there is nothing to tell apart",
            "a data set needs images of two classes or more",
        )
    for part, images in (("training", train), (word, test)):
        if not images.all():
            label = int(images.argmin())
            raise InputError(
                f"data: class {classes[label]!r} has 0 {part} images ({train[label]} training "
                f"images and {test[label]} {word} images)",
                f"add {part} images of it, or leave the class out; labels run from 0 without a gap",
            )
