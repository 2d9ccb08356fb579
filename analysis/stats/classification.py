"""Diagnostics: what a run's predictions say beyond one accuracy. Pure functions, fractions in 0..1.

A class is named in the order of its label; where an image's logits tie, the lower class is ahead.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from analysis.data.predictions import Classified, Predictions
from analysis.stats.intervals import sample_interval

# Guo et al. (2017), On Calibration of Modern Neural Networks, use as many.
BINS = 15
SUMMARY = ("accuracy", "macro average", "weighted average")


def top_k(predictions: Predictions, k: int) -> int:
    """Images whose label is among the k highest logits, counted as trainer.evaluate does: of equal
    logits the lower class is ahead, and k above the number of classes means all of them.
    """
    logits, labels = predictions.logits, predictions.labels[:, None]
    own = np.take_along_axis(logits, labels, axis=1)
    column = np.arange(logits.shape[1])
    ahead = (logits > own) | ((logits == own) & (column < labels))
    return int((ahead.sum(axis=1) < k).sum())


def confusion(predictions: Classified) -> NDArray[np.int64]:
    """(classes, classes): images of the row's class that were taken for the column's."""
    found: NDArray[np.int64] = confusion_matrix(
        predictions.labels, predictions.predicted, labels=range(len(predictions.classes))
    )
    return found


def confusions(predictions: Classified, most: int = 10) -> pd.DataFrame:
    """The largest cells off the diagonal that are not empty: `true`, `predicted`, `count`,
    `images` (of the true class) and `share` of them; equal counts by class order.
    """
    matrix = confusion(predictions)
    off = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order[off.flat[order] > 0], off.shape)
    names = np.array(predictions.classes, dtype=object)
    table = pd.DataFrame(
        {
            "true": names[rows],
            "predicted": names[columns],
            "count": off[rows, columns],
            "images": matrix.sum(axis=1)[rows],
        }
    )
    return table.assign(share=table["count"] / table["images"])


def scores(predictions: Classified) -> pd.DataFrame:
    """A row a class: `class`, `precision`, `recall`, `f1`, `support` (its test images); then the
    rows of SUMMARY. A ratio of nothing, as the precision of a class that was never predicted, is 0.
    A class without test images has NaN, and the averages are over the classes that have some. The
    row `accuracy` has its figure under f1 alone, as scikit-learn prints it.
    """
    labels, predicted = predictions.labels, predictions.predicted
    present = np.unique(labels)
    of = {"labels": present, "zero_division": 0}
    found = np.full((len(predictions.classes), 3), np.nan)
    found[present] = np.column_stack(precision_recall_fscore_support(labels, predicted, **of)[:3])
    support = np.bincount(labels, minlength=len(predictions.classes))
    rows = [
        (name, *three, images)
        for name, three, images in zip(
            predictions.classes, found.tolist(), support.tolist(), strict=True
        )
    ]
    images = len(labels)
    rows.append((SUMMARY[0], np.nan, np.nan, predictions.right.mean(), images))
    for name, average in zip(SUMMARY[1:], ("macro", "weighted"), strict=True):
        three = precision_recall_fscore_support(labels, predicted, average=average, **of)[:3]
        rows.append((name, *three, images))
    return pd.DataFrame(rows, columns=["class", "precision", "recall", "f1", "support"])


def accuracies(predictions: Classified) -> pd.DataFrame:
    """A row a class: `class`, `images`, `correct`, `accuracy` and Wilson's 95 % `interval`; NaN and
    None for a class without images. The mean of `accuracy` is that over the classes that have any.
    """
    matrix = confusion(predictions)
    table = pd.DataFrame(
        {
            "class": predictions.classes,
            "images": matrix.sum(axis=1),
            "correct": np.diag(matrix),
        }
    )
    table["accuracy"] = table["correct"] / table["images"]
    table["interval"] = pd.Series(
        [
            sample_interval(accuracy, images) if images else None
            for accuracy, images in zip(table["accuracy"], table["images"], strict=True)
        ],
        dtype=object,
    )
    return table


def reliability(predictions: Predictions) -> pd.DataFrame:
    """Guo et al. (2017): a row for each of BINS bins of confidence, `low` < confidence <= `high`;
    its `images`, and their mean `confidence` and `accuracy` (NaN for an empty bin).
    """
    edges = np.linspace(0, 1, BINS + 1)
    place = np.digitize(predictions.confidence, edges[1:-1], right=True)
    images = np.bincount(place, minlength=BINS)
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "images": images})
    for name, values in (
        ("confidence", predictions.confidence),
        ("accuracy", predictions.right),
    ):
        sums = np.bincount(place, weights=values, minlength=BINS)
        table[name] = np.where(images > 0, sums / np.maximum(images, 1), np.nan)
    return table


def ece(bins: pd.DataFrame) -> float:
    """Expected calibration error of `reliability`'s bins (Naeini et al. 2015, Guo et al. 2017): the
    mean over images of their bin's |accuracy - confidence|.
    """
    gaps = (bins["accuracy"] - bins["confidence"]).abs() * bins["images"]
    return float(gaps.sum() / bins["images"].sum())


def nll(predictions: Predictions) -> float:
    """Mean negative log-likelihood of the labels in nats: cross-entropy without smoothing."""
    logs = log_softmax(predictions.logits.astype(np.float64), axis=1)
    return float(-np.take_along_axis(logs, predictions.labels[:, None], axis=1).mean())


def brier(predictions: Predictions) -> float:
    """Brier (1950), his form for several classes: the squared difference between probabilities and
    outcome, summed over the classes, mean over images. From 0 to 2; with two classes, twice the
    form that looks at one of them.
    """
    outcome = np.eye(len(predictions.classes))[predictions.labels]
    return float(((predictions.probabilities - outcome) ** 2).sum(axis=1).mean())
