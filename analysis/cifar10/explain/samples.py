"""Which test images to show, by a rule and not by eye."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.data.predictions import Predictions

Places = NDArray[np.int64]


class Pair(NamedTuple):
    """A class, and the rows of its two samples in the predictions; None where it has none."""

    label: int
    right: int | None
    wrong: int | None


def misclassified(predictions: Predictions) -> Places:
    """Rows of the wrong predictions, the most confident first; ties by index."""
    return _by_confidence(predictions, ~predictions.right)


def pairs(predictions: Predictions, most: int) -> list[Pair]:
    """For every true class its most confident right and its most confident wrong sample, ties by
    index, in the classes' order. Classes without test images are left out.

    Where there are more than `most` classes: those with the most misclassified images, ties by
    label.
    """
    labels, right = predictions.labels, predictions.right
    classes = len(predictions.classes)
    known = np.flatnonzero(np.bincount(labels, minlength=classes))
    wrong = np.bincount(labels[~right], minlength=classes)
    kept = np.sort(known[np.argsort(-wrong[known], kind="stable")][:most])
    return [
        Pair(int(label), *(_first(predictions, (labels == label) & of) for of in (right, ~right)))
        for label in kept
    ]


def _first(predictions: Predictions, among: NDArray[np.bool_]) -> int | None:
    found = _by_confidence(predictions, among)
    return int(found[0]) if len(found) else None


def _by_confidence(predictions: Predictions, among: NDArray[np.bool_]) -> Places:
    rows = np.flatnonzero(among)
    return rows[np.lexsort((predictions.index[rows], -predictions.confidence[rows]))]
