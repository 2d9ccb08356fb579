"""What points cost in floating-point operations, and which of them no other one dominates."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.data.study import POINT
from analysis.stats.intervals import comparable
from analysis.stats.summary_tables import cells, objects


def train_flops(runs: pd.DataFrame) -> pd.Series[float]:
    """Floating-point operations of each run's training steps: those of an image, times the images,
    times the epochs that it ran; NaN where the record does not say."""
    factors = ("flops_per_image", "train_images", "epochs_run")
    per_image, images, epochs = (runs[name].astype(float) for name in factors)
    return per_image * images * epochs


def costs(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a point that has a result and says its operations, cheapest first: `point` (its axes,
    as text), `at` (axis to value), `flops` (see `train_flops`; mean over seeds), validation, test,
    n, flags, `minutes` (see `cells`; NaN where the runs are of several devices) and `device`.
    """
    axes = [name.removeprefix(POINT) for name in runs.columns if name.startswith(POINT)]
    table = cells(runs)
    rows = table[axes].itertuples(index=False)
    points: list[Any] = [dict(zip(axes, row, strict=True)) for row in rows]
    names = [", ".join(f"{axis} {value}" for axis, value in at.items()) for at in points]
    table.insert(0, "point", names)
    table["at"] = objects(table, points)
    keys: Any = [POINT + axis for axis in axes] or (lambda _: 0)
    flops = train_flops(runs).where(runs["test_accuracy"].notna())
    timed = runs["device"].where(runs["seconds"].notna())
    groups = runs.assign(flops=flops, device=timed).groupby(keys, sort=False, dropna=False)
    # Equal runs cost the same, whatever the last bit of their mean says.
    table["flops"] = [float(f"{mean:.9g}") for mean in groups["flops"].mean()]
    alone = (groups["device"].nunique() == 1).to_numpy()
    table["device"] = groups["device"].first().where(alone).to_numpy()
    table["minutes"] = table["minutes"].where(alone)
    head = ["point", "at", "flops", "validation", "validation sd", "test", "test sd", "n", "flags"]
    table = table.loc[(table["n"] > 0) & (table["flops"] > 0), [*head, "minutes", "device"]]
    return table.sort_values(["flops", "point"], kind="stable", ignore_index=True)


def is_gpu(device: str) -> bool:
    """Whether run.parquet's `device` names a GPU: a CPU's name ends in its number of threads."""
    return device != "cpu" and not re.search(r", \d+ threads$", device)


def front(costs: Sequence[float], accuracies: Sequence[float]) -> list[bool]:
    """Which points no other one dominates: costs no more and is no less accurate, and better in
    one of the two. A point without an accuracy (NaN) is not on the front.
    """
    accuracies = [comparable(accuracy) for accuracy in accuracies]
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i]))
    found = [False] * len(costs)
    best, best_cost = -math.inf, -math.inf
    for i in order:
        # Equal in both is neither better nor worse.
        if accuracies[i] > best or (accuracies[i] == best and costs[i] == best_cost):
            found[i], best, best_cost = True, accuracies[i], costs[i]
    return found
