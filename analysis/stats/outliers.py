"""Anomalies: what is out of the ordinary about a trial, by code, and the rule for each.

Rules look at results only after every choice is made: a flag marks a trial, and drops none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.data import dataset
from analysis.data.dataset import OTHER_DATA
from analysis.data.progress import OPEN
from analysis.stats.intervals import MIN_SEEDS, OUTLIER_ALPHA, binomial_error, grubbs

# An outlier among seeds is at least so many binomial standard errors away from the others.
ERRORS_AWAY = 3.5
# A cell of a grid lies so far, as a fraction, under what its neighbourhood says.
GRID_MARGIN = 0.05
GRID = ("epochs", "batch_size")

# By what two attempts of one trial are compared.
CODE = ("git_commit", "code_sha256", "torch_version", "python_version")
DEVICE = ("device", "precision", "world_size")

# What is the same in two trials of which one only repeats the other: how long they took is not.
SAME_RESULT = "SAME_RESULT"
_LOSSES = ("train_loss", "val_loss", "val_loss_smoothed")
_OF_EPOCHS = ("epoch", *_LOSSES, "train_accuracy", "val_accuracy")
_OF_RUN = (
    "train_accuracy", "train_accuracy_clean", "val_accuracy", "val_loss", "test_accuracy",
    "predictions_sha256",
)  # fmt: skip

# Every flag and its rule, as the report prints them.
FLAGS = {
    "NONFINITE": "the last attempt that ended failed: a loss or gradient that is not "
    "a number or is infinite",
    "OUT_OF_MEMORY": "the last attempt that ended failed: the device or the job ran out of memory",
    "TIMEOUT": "the last attempt that ended failed: the job's time limit",
    "NODE_FAILURE": "the last attempt that ended failed: the cluster lost the node",
    "NCCL": "the last attempt that ended failed: communication between ranks",
    "DATA": "the last attempt that ended failed: the data set could not be read",
    "ERROR": "the last attempt that ended failed: any other error",
    "PRUNED": "no result, since a search other than this launch stopped it before its last planned "
    "epoch",
    "EARLY_STOP": "done, but early stopping ended it before its last planned epoch",
    "DIVERGED": "done, but test accuracy is not above chance (1 / classes + 3 binomial standard "
    "errors) or validation accuracy of the last epoch is below half of its best",
    OTHER_DATA: "done, but on other images than most of its launch's trials, by the hash of the "
    "whole data set: it is left out where settings are compared and where one is chosen",
    "MIXED_CODE": "done, but by attempts of different code: another commit, another hash of the "
    "training code, another version of torch or Python, or one of them recorded none",
    "MIXED_DEVICE": "done, but by attempts on different devices, in different arithmetic (fp32, "
    "bf16) or on different numbers of ranks",
    "NOT_REPRODUCED": "done, but `sweeps.verify` ran it again and got other values: on the CPU "
    "that trained it, with the same versions, of any bit; else by more than its tolerance, which "
    "rounding alone can exceed where training is long",
    SAME_RESULT: "done, but with the very result of another seed of its point: every loss and "
    "accuracy of every epoch (of another task, all that it logged, but times), and the predictions "
    "where they are recorded, are equal to the last digit, as where the training program takes no "
    "account of the seed. All such trials of a point count as one seed",
    "OUTLIER": f"done, but one of two. Among seeds: of a point with {MIN_SEEDS} done seeds or "
    "more, its test accuracy is the one that Grubbs' test for so many seeds rejects (of points "
    f"whose seeds differ by chance alone, {100 * OUTLIER_ALPHA:g} % have one), and lies further "
    f"from the mean of the others than {ERRORS_AWAY} binomial standard errors. In a grid of batch "
    f"size x epochs: its cell's mean test accuracy lies more than {100 * GRID_MARGIN:g} points, "
    f"and more than {ERRORS_AWAY} standard errors over seeds where cells have several, under every "
    "neighbouring cell and under what every 2 x 2 block around it predicts for it (the two beside "
    "it minus the one across: as if batch size and epochs each had the same effect everywhere)",
}


def flags(
    runs: pd.DataFrame,
    points: pd.DataFrame,
    ends: Mapping[str, tuple[str, str]],
    *,
    is_trainers: bool = True,
) -> list[list[str]]:
    """The codes of every trial of a launch; those of the trainer's have accuracies to judge by.

    `runs` is Plan.runs as far as `state`, `same_data`, `result` and `contradicted`; `points` has
    its axes, a column each, in the same rows; `ends` has the code, and a sentence, of each trial
    that ended without a result.
    """
    told = runs.get("attempts", pd.Series("[]", index=runs.index))
    contradicted = runs.get("contradicted", pd.Series(False, index=runs.index))
    marked = {
        "EARLY_STOP": runs["stopped_early"].eq(True),
        "DIVERGED": _diverged(runs) & is_trainers,
        OTHER_DATA: ~runs["same_data"],
        "MIXED_CODE": told.map(lambda text: differ(text, CODE)),
        "MIXED_DEVICE": told.map(lambda text: differ(text, DEVICE)),
        "NOT_REPRODUCED": contradicted,
        SAME_RESULT: runs["result"].duplicated(keep=False) & runs["result"].notna(),
        "OUTLIER": _outliers(runs, points),
    }
    found = []
    for name, state, *marks in zip(runs["trial"], runs["state"], *marked.values(), strict=True):
        if state == "done":
            codes = zip(marked, marks, strict=True)
            found.append([code for code, holds in codes if holds])
        elif state in OPEN:
            found.append([])
        else:
            found.append([ends[name][0] if name in ends else str(state).upper()])
    return found


def results(runs: pd.DataFrame, points: pd.DataFrame, epochs: pd.DataFrame) -> pd.Series[Any]:
    """A number for each trial that is done, the same for those of a point whose whole results are
    equal; NaN where there is neither a loss nor a digest of predictions to tell results by, since
    two accuracies can be equal by chance.
    """
    rows = pd.DataFrame(
        {
            "hash": pd.util.hash_pandas_object(epochs[list(_OF_EPOCHS)], index=False),
            "told": epochs[list(_LOSSES)].notna().any(axis=1),
        }
    )
    # A sum, since the epochs are in it: it is the same in whatever order they are stored.
    sums = rows.groupby(epochs["trial"], observed=True).agg({"hash": "sum", "told": "any"})
    sums.index = sums.index.astype(object)
    hashes, told = (runs["trial"].map(sums[name]) for name in ("hash", "told"))
    known = runs["state"].eq("done") & (told.eq(True) | runs["predictions_sha256"].notna())
    keys = pd.concat([points, runs[list(_OF_RUN)], hashes.rename("epochs")], axis=1)
    keys = keys.set_axis(range(keys.shape[1]), axis=1)[known]
    numbers = keys.groupby(list(keys), sort=False, dropna=False).ngroup()
    return numbers.reindex(runs.index)


def attempts(text: object) -> list[dict[str, Any]]:
    """The entries of run.parquet's `attempts`; none where it has none, as before it was recorded.

    Raises ValueError where it is not a list of objects in JSON.
    """
    if not isinstance(text, str):
        return []
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("it is not a list of objects")
    return found


def differ(text: object, keys: Sequence[str]) -> bool:
    """Whether two attempts differ in one of the keys. That one cannot tell its commit is no
    difference; that it tells none of them, since it was made before they were recorded, is."""
    entries = attempts(text)
    if len(entries) < 2:
        return False
    told = [[one.get(key) for key in keys] for one in entries]
    silent = [all(value is None for value in values) for values in told]
    columns = zip(*told, strict=True)
    known = [{str(value) for value in column if value is not None} for column in columns]
    return any(silent) != all(silent) or any(len(values) > 1 for values in known)


def repeated(runs: pd.DataFrame) -> pd.Series[bool]:
    """Whether a trial's result is that of an earlier one of its point."""
    return runs["result"].duplicated() & runs["result"].notna()


def _diverged(runs: pd.DataFrame) -> pd.Series[bool]:
    recorded = runs.reindex(columns=["classes", "num_classes"]).itertuples(index=False)
    counts = [dataset.class_count(*one) for one in recorded]
    chance = pd.Series([1 / (count or 1) for count in counts], index=runs.index)
    images = runs["test_images"].astype(float).where(lambda counts: counts > 0)
    bar = chance + 3 * (chance * (1 - chance) / images).map(math.sqrt, na_action="ignore")
    # A finished run without a test accuracy is not better than chance either.
    at_chance = ~(runs["test_accuracy"].astype(float) > bar)
    fell = runs["val_accuracy_last"].astype(float) < runs["val_accuracy"].astype(float) / 2
    return at_chance | fell


def _outliers(runs: pd.DataFrame, points: pd.DataFrame) -> pd.Series[bool]:
    """By either rule; only trials that are done and have a test accuracy."""
    known = runs["state"].eq("done") & runs["test_accuracy"].notna() & ~repeated(runs)
    found = pd.Series(False, index=runs.index)
    done = points[known].assign(
        accuracy=runs["test_accuracy"].astype(float), images=runs["test_images"].astype(float)
    )
    keys: Any = list(points.columns) or (lambda _: 0)
    # Most points of a large sweep have one seed each, and nothing to compare it with.
    seeds = done.groupby(keys, sort=False, dropna=False)["accuracy"].transform("size")
    alike = done[seeds >= MIN_SEEDS]
    accuracies, counts = alike["accuracy"].to_numpy(), alike["images"].to_numpy()
    numbers = alike.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    far = np.zeros(len(alike), dtype=bool)
    # Not by pandas: a frame for each of a thousand points would take a second.
    ends_at = np.cumsum(np.bincount(numbers))
    for rows in np.split(np.argsort(numbers, kind="stable"), ends_at[:-1]):
        images = np.fmax.reduce(counts[rows], initial=np.nan)
        if images > 0:  # nor where it is NaN
            far[rows] = seed_outliers(accuracies[rows].tolist(), int(images))
    found[alike.index[far]] = True
    if set(points.columns) == set(GRID) and all(map(pd.api.types.is_integer_dtype, points.dtypes)):
        means = done.pivot_table("accuracy", *GRID)
        low = grid_outliers(means.to_numpy(), error_of_cells(done))
        cells = zip(means.index[np.nonzero(low)[0]], means.columns[np.nonzero(low)[1]], strict=True)
        for epochs, size in cells:
            found |= known & points["epochs"].eq(epochs) & points["batch_size"].eq(size)
    return found


def error_of_cells(done: pd.DataFrame) -> float:
    """The standard error over seeds of a difference of two cells' means, by the variance within
    cells and the fewest seeds of one; 0 where no cell has two."""
    groups = done.groupby(list(GRID))["accuracy"]
    counts = groups.size()
    freedom = int((counts - 1).sum())
    if freedom == 0:
        return 0.0
    variance = float((groups.var().fillna(0.0) * (counts - 1)).sum()) / freedom
    return math.sqrt(2 * variance / int(counts.min()))


def seed_outliers(accuracies: Sequence[float], images: int) -> list[bool]:
    """Which of a point's seeds lies far from the others: at most one, by Grubbs' test (1969).
    Accuracies are fractions, each seen on so many test images; none is out of line where there are
    less than three.

    It also lies ERRORS_AWAY binomial standard errors from the others' mean (with one image more
    right and one more wrong, so that the error is never 0): three seeds can agree by luck.
    """
    far = grubbs(accuracies)
    if far is not None:
        others = math.fsum(accuracies) - accuracies[far]
        mean = others / (len(accuracies) - 1)
        floor = binomial_error((mean * images + 1) / (images + 2), images)
        if abs(accuracies[far] - mean) <= ERRORS_AWAY * floor:
            far = None
    return [i == far for i in range(len(accuracies))]


def grid_outliers(means: np.ndarray[Any, Any], error: float = 0.0) -> np.ndarray[Any, Any]:
    """Which cells of a grid lie low: means is a matrix of accuracies (fractions) along two sorted
    axes, NaN where a cell has none; the answer is of its shape. `error` is the standard error over
    seeds of a difference of two cells.

    A cell counts as low where it is more than five points, and more than ERRORS_AWAY such errors,
    under all of its neighbours (above,
    below, left, right) and under what all 2 x 2 blocks that contain it and are complete predict
    for it. Where no block is, nothing is said of it. The low corner of a grid in which either axis
    has the same effect everywhere is what its block predicts, and so no outlier.
    """
    rows, columns = means.shape
    low = np.zeros(means.shape, dtype=bool)
    margin = max(GRID_MARGIN, ERRORS_AWAY * error)
    for i, j in np.ndindex(rows, columns):
        ups = [k for k in (i - 1, i + 1) if 0 <= k < rows]
        sides = [k for k in (j - 1, j + 1) if 0 <= k < columns]
        neighbours = [means[k, j] for k in ups] + [means[i, k] for k in sides]
        predicted = [means[k, j] + means[i, m] - means[k, m] for k in ups for m in sides]
        predicted = [value for value in predicted if not math.isnan(value)]
        bars = [value for value in neighbours if not math.isnan(value)] + predicted
        low[i, j] = bool(predicted) and means[i, j] < min(bars) - margin
    return low
