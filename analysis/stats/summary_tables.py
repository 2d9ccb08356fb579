"""Tables: pure functions from the frames of study.py to frames.

Accuracies are fractions here; `show` writes them as percent with two decimals. A frame's columns
named `x` and `x sd` are a mean over seeds and its standard deviation; `n` of `planned` trials have
a test accuracy, and the means are over those n.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pandas as pd

from analysis.data.study import POINT
from analysis.stats.intervals import (
    sample_interval,
    seed_interval,
)
from analysis.stats.outliers import SAME_RESULT

# Column heading: column of run.parquet.
SPLITS = {
    "train": "train_accuracy",
    "train clean": "train_accuracy_clean",
    "validation": "val_accuracy",
    "test": "test_accuracy",
}
SAMPLE, SEEDS, DIFFERENCE_95 = "test sample 95 %", "seeds 95 %", "difference 95 %"
LARGER, SEEDS_P, NEEDED = "more than seeds explain", "seeds p", "seeds needed"
# Of cells alone: the test accuracies of a point, a list.
TESTS = "tests"
UNFLAGGED = "test unflagged"


def device_seconds(runs: pd.DataFrame) -> pd.Series[float]:
    """What each run took of its devices, in seconds: a second of each, or, of one that several
    trials shared, the run's part of it. Runs that do not say what part had all."""
    share = runs["device_share"].astype(float).fillna(1.0)
    return runs["seconds"].astype(float) * runs["world_size"].astype(float) * share


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a point of the sweep, in the plan's order: its axes, mean and sd over seeds of every
    split, `n`, `planned`, `images` (in the test set), `flags` (text), `minutes`, both intervals,
    and `tests`, the test accuracies themselves.

    `minutes` are those of training and validation, times the number of devices, of a shared one its
    part: the mean over the trials that have a result.
    """
    points = [name for name in runs.columns if name.startswith(POINT)]
    # Of these columns alone it takes a third of the time.
    splits = list(SPLITS.values())
    asked = ("repeated", "seconds", "world_size", "device_share", "test_images", "flags")
    runs = runs[list(dict.fromkeys([*points, *splits, *asked]))]
    # Seeds with one and the same result are one seed.
    runs = runs.assign(**runs[splits].mask(runs["repeated"]))
    minutes = device_seconds(runs) / 60
    runs = runs.assign(minutes=minutes.where(runs["test_accuracy"].notna()))
    # A sweep without axes is one point; NaN and None are values of an axis like any other.
    keys: Any = points or (lambda _: 0)
    groups = runs.groupby(keys, sort=False, dropna=False)
    spread = groups[splits].agg(["mean", "std"])
    table = pd.DataFrame(index=spread.index)
    for split, column in SPLITS.items():
        table[split] = spread[column, "mean"]
        table[f"{split} sd"] = spread[column, "std"]
    table["n"] = groups["test_accuracy"].count()
    table["planned"] = groups.size()
    table["images"] = groups["test_images"].max()
    table["flags"] = groups["flags"].agg(_count_flags)
    table["minutes"] = groups["minutes"].mean()
    table[SAMPLE] = objects(
        table,
        [
            sample_interval(test, int(images)) if n and images else None
            for test, images, n in zip(table["test"], table["images"], table["n"], strict=True)
        ],
    )
    values = groups["test_accuracy"].agg(lambda column: list(column.dropna()))
    table[SEEDS] = objects(table, [seed_interval(found) for found in values])
    table[TESTS] = objects(table, list(values))
    table = table.reset_index(drop=not points)
    return table.rename(columns={name: name.removeprefix(POINT) for name in points})


def objects(table: pd.DataFrame, values: list[Any]) -> pd.Series[Any]:
    """A column of intervals and None, which pandas would else take for something of its own."""
    return pd.Series(values, index=table.index, dtype=object)


def _count_flags(lists: pd.Series[Any]) -> str:
    counts = Counter(code for codes in lists for code in codes)
    one = len(lists) == 1
    return ", ".join(code if one else f"{code} x{n}" for code, n in sorted(counts.items()))


TEST = ["test", "test sd", "n", "planned", SAMPLE, SEEDS]


def sweep(runs: pd.DataFrame) -> pd.DataFrame:
    """Any other sweep: a row a point, its axes, validation and test."""
    axes = [name.removeprefix(POINT) for name in runs.columns if name.startswith(POINT)]
    return cells(runs)[[*axes, "validation", "validation sd", *TEST, "flags"]]


def unflagged(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a point that has a flagged result: mean test accuracy with it and without. Empty where
    no result is flagged, which is when the two are the same.
    """
    # Of seeds with one and the same result only the first counts as it is.
    flagged = runs["flags"].map(lambda codes: bool(set(codes) - {SAME_RESULT}))
    clean = cells(runs.assign(test_accuracy=runs["test_accuracy"].mask(flagged)))
    table = cells(runs).assign(
        **{UNFLAGGED: clean["test"], f"{UNFLAGGED} sd": clean["test sd"], "n unflagged": clean["n"]}
    )
    axes = [name.removeprefix(POINT) for name in runs.columns if name.startswith(POINT)]
    head = [*axes, "test", "test sd", "n", UNFLAGGED, f"{UNFLAGGED} sd", "n unflagged", "flags"]
    return table.loc[table["n"] > table["n unflagged"], head].reset_index(drop=True)


def main_effects(runs: pd.DataFrame) -> pd.DataFrame | None:
    """A row a value of every axis: mean accuracy over all values of the other axes.

    Each combination counts once. None unless the design is balanced: every combination of values
    is there, with the same number of results, so that no value owes its mean to easier company. An
    axis of one value has no effect, and no row.
    """
    axes = [name.removeprefix(POINT) for name in runs.columns if name.startswith(POINT)]
    table = cells(runs)
    levels = [table[axis].drop_duplicates() for axis in axes]
    if (
        len(table) != math.prod(map(len, levels))
        or table["n"].nunique() > 1
        or not table["n"].all()
    ):
        return None
    rows = []
    for axis in (axis for axis, values in zip(axes, levels, strict=True) if len(values) > 1):
        for value, group in table.groupby(axis, sort=False, dropna=False):
            means = group[["validation", "test"]].mean().to_dict()
            rows.append({"axis": axis, "value": str(value), **means, "combinations": len(group)})
    return pd.DataFrame(rows)


def mixed(runs: pd.DataFrame) -> bool:
    """Whether any of the runs is trained on images that two were made into."""
    return bool((runs[["augment.mixup", "augment.cutmix"]] > 0).any(axis=None))


def trials(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a planned trial, whatever became of it."""
    table = pd.DataFrame(
        {
            "trial": runs["trial"],
            "seed": runs["seed"],
            "state": runs["state"],
            "validation": runs["val_accuracy"],
            "test": runs["test_accuracy"],
            "best epoch": runs["best_epoch"].astype("Int64") + 1,
            "epochs run": runs["epochs_run"].astype("Int64"),
            "of": runs["epochs"],
            "seconds": runs["seconds"].astype(float).round(1),
            "flags": runs["flags"].map(", ".join),
        }
    )
    return with_notes(table, runs)


def with_notes(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """With what is to be said of some trials, where there are any: of resumed ones whether they are
    exact, of others why they have no result; and what people say of them."""
    if runs["exactness"].any():
        table["resumed"] = runs["exactness"]
    if runs["failure"].any():
        table["failure"] = runs["failure"]
    if runs["marked"].any():
        table["marks"] = runs["marked"]
    return table


def flagged(runs: pd.DataFrame) -> pd.DataFrame:
    """The trials with a flag."""
    found = runs[runs["flags"].map(bool)]
    return pd.DataFrame(
        {
            "trial": found["trial"],
            "seed": found["seed"],
            "flags": found["flags"].map(", ".join),
            "failure": found["failure"],
        }
    )


_SOURCES = {
    "git_commit": "git commit",
    "git_dirty": "uncommitted changes",
    "code_sha256": "code SHA-256",
    "torch_version": "torch",
    "python_version": "python",
    "device": "device",
    "precision_used": "precision",
    "world_size": "ranks",
    "evaluated_on": "evaluated on",
    "evaluated_precision": "evaluated in",
    "train_images": "train images",
    "val_images": "val images",
    "test_images": "test images",
    "split_sha256": "split SHA-256",
}


def evaluated_elsewhere(runs: pd.DataFrame) -> pd.Series[bool]:
    """Whose predictions and test figures were made on another device, or in other arithmetic, than
    trained; not those that do not say."""
    told = runs["evaluated_on"].notna() & runs["evaluated_precision"].notna()
    device = runs["evaluated_on"].astype(object) != runs["device"].astype(object)
    precision = runs["evaluated_precision"].astype(object) != runs["precision_used"].astype(object)
    return told & (device | precision)


def sources(runs: pd.DataFrame) -> pd.DataFrame:
    """What the finished trials ran on: a row a distinct combination, with its number of trials."""
    found = runs[runs["status"].notna()]
    groups = found.groupby(list(_SOURCES), sort=True, dropna=False)["finished_at"]
    table = groups.agg(["size", "max"]).reset_index()
    for column in ("world_size", "train_images", "val_images", "test_images"):
        table[column] = table[column].astype("Int64")
    names = {**_SOURCES, "size": "trials", "max": "last finished"}
    return table.rename(columns=names)


# --- text ------------------------------------------------------------------------------------
