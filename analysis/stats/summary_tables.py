"""Tables: pure functions from the frames of study.py to frames.

Accuracies are fractions here; `show` writes them as percent with two decimals. A frame's columns
named `x` and `x sd` are a mean over seeds and its standard deviation; `n` of `planned` trials have
a test accuracy, and the means are over those n.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.data.study import POINT
from analysis.stats.intervals import (
    ALPHA,
    comparable,
    deviation,
    difference_interval,
    holm,
    needed,
    prediction_p,
    sample_interval,
    seed_interval,
    seeds_to_tell,
    signed,
)
from analysis.stats.outliers import SAME_RESULT, grid_outliers

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

_PERCENT = {*SPLITS, *(f"{split} sd" for split in SPLITS), UNFLAGGED, f"{UNFLAGGED} sd"}
_PERCENT |= {"reported", "reported train", "reported validation", SAMPLE, SEEDS}
_SIGNED = {"difference", DIFFERENCE_95}


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
    # Seeds with one and the same result are one seed.
    splits = list(SPLITS.values())
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
    table[SAMPLE] = _objects(
        table,
        [
            sample_interval(test, int(images)) if n and images else None
            for test, images, n in zip(table["test"], table["images"], table["n"], strict=True)
        ],
    )
    values = groups["test_accuracy"].agg(lambda column: list(column.dropna()))
    table[SEEDS] = _objects(table, [seed_interval(found) for found in values])
    table[TESTS] = _objects(table, list(values))
    table = table.reset_index(drop=not points)
    return table.rename(columns={name: name.removeprefix(POINT) for name in points})


def _objects(table: pd.DataFrame, values: list[Any]) -> pd.Series[Any]:
    """A column of intervals and None, which pandas would else take for something of its own."""
    return pd.Series(values, index=table.index, dtype=object)


def _count_flags(lists: pd.Series[Any]) -> str:
    counts = Counter(code for codes in lists for code in codes)
    one = len(lists) == 1
    return ", ".join(code if one else f"{code} x{n}" for code, n in sorted(counts.items()))


def grid_cells(runs: pd.DataFrame, reported: dict[str, Any]) -> pd.DataFrame:
    """A row a cell of batch size x epochs, the reported accuracy and the difference beside.

    `reported` is reported.json's "grid_bs_epoch". Epochs are as in the definition, before scaling.
    """
    figures = {(c["epochs"], c["batch_size"]): c["test"] / 100 for c in reported["cells"]}
    table = cells(runs).sort_values(["epochs", "batch_size"], ignore_index=True)
    points = zip(table["epochs"], table["batch_size"], strict=True)
    table["reported"] = [figures.get(point, math.nan) for point in points]
    head = ["epochs", "batch_size", "validation", "validation sd", *_TEST, *_BESIDE]
    return _beside(table)[head]


def reported_grid(reported: dict[str, Any]) -> pd.DataFrame:
    """The reported grid in the columns of `cells` that a heatmap draws: one run a cell, flagged by
    the rule that holds for ours.
    """
    table = pd.DataFrame(
        [{key: cell[key] for key in ("epochs", "batch_size", "test")} for cell in reported["cells"]]
    )
    table["test"] /= 100
    means = table.pivot_table("test", "epochs", "batch_size")
    low = pd.DataFrame(grid_outliers(means.to_numpy()), means.index, means.columns)
    places = zip(table["epochs"], table["batch_size"], strict=True)
    flags = ["OUTLIER" if low.loc[place] else "" for place in places]
    table["test sd"] = math.nan
    return table.assign(n=1, planned=1, flags=flags)


def grid(table: pd.DataFrame) -> pd.DataFrame:
    """`grid_cells`, with a row a number of epochs and a column a batch size; a cell is text."""
    rows = []
    for epochs, row in table.groupby("epochs"):
        texts: dict[str, Any] = {"epochs": epochs}
        for batch_size in sorted(table["batch_size"].unique()):
            cell = row[row["batch_size"] == batch_size]
            text = _cell(cell.iloc[0]) if len(cell) else "not planned"
            texts[f"batch size {batch_size}"] = text
        rows.append(texts)
    return pd.DataFrame(rows)


def _cell(cell: pd.Series[Any]) -> str:
    test = _percent(cell["test"])
    if not math.isnan(cell["test sd"]):
        test += f" ± {_percent(cell['test sd'])}"
    lines = [test if cell["n"] else "no result"]
    if not math.isnan(cell["reported"]):
        difference = f" ({_percent(cell['difference'], '+')})" if cell["n"] else ""
        lines.append(f"reported {_percent(cell['reported'])}{difference}")
    lines.append(f"n {cell['n']} of {cell['planned']}")
    return "\n".join([*lines, *([cell["flags"]] if cell["flags"] else [])])


def architectures(runs: pd.DataFrame, reported: list[dict[str, Any]]) -> pd.DataFrame:
    """A row a model: every split, the reported figures, the difference on the test images.

    `reported` is reported.json's "architectures", whose order the rows take; others follow.
    """
    figures = {row["model"]: row for row in reported}
    order = {model: i for i, model in enumerate(figures)}
    table = cells(runs).rename(columns={"model.name": "model"})
    place = table["model"].map(lambda model: order.get(model, len(order)))
    table = table.loc[place.sort_values(kind="stable").index].reset_index(drop=True)
    for column in ("train", "validation", "test"):
        name = "reported" if column == "test" else f"reported {column}"
        found = [figures.get(model, {}).get(column) for model in table["model"]]
        table[name] = [math.nan if figure is None else figure / 100 for figure in found]
    splits = [name for split in SPLITS for name in (split, f"{split} sd") if split != "test"]
    head = ["model", *splits, *_TEST, "reported train", "reported validation", *_BESIDE]
    return _beside(table)[head]


_TEST = ["test", "test sd", "n", "planned", SAMPLE, SEEDS]
_BESIDE = ["reported", "difference", DIFFERENCE_95, SEEDS_P, LARGER, NEEDED, "flags"]
REPORTED_IMAGES = 10_000


def _beside(table: pd.DataFrame) -> pd.DataFrame:
    """With `difference`, test minus reported, its interval from the two test samples, and whether
    seeds explain it, all figures of the table being one family.
    """
    table = table.assign(difference=table["test"] - table["reported"])
    known = zip(table["test"], table["images"], table["reported"], strict=True)
    table[DIFFERENCE_95] = _objects(
        table,
        [
            None
            if math.isnan(test - figure) or math.isnan(images)
            else difference_interval(test, int(images), figure, REPORTED_IMAGES)
            for test, images, figure in known
        ],
    )
    runs = list(zip(table["reported"], table[TESTS], table["images"], strict=True))
    adjusted = told_from_reported(runs)
    table[SEEDS_P] = _objects(table, [None if p is None else f"{p:.2g}" for p in adjusted])
    compares = table["difference"].notna()
    words = ["not enough seeds" if p is None else "yes" if p <= ALPHA else "no" for p in adjusted]
    table[LARGER] = _objects(table, words).where(compares, None)
    table[NEEDED] = _objects(table, needed_beside_reported(runs, adjusted))
    return table


def told_from_reported(
    known: Sequence[tuple[float, Sequence[float], float]],
) -> list[float | None]:
    """Holm-adjusted p-values that a reported accuracy (a fraction) is one more run of the recipe
    that was measured, for each (reported, our accuracies over seeds, test images).

    None where nothing is reported, and under three seeds: a reported figure is of one run, which
    its seed moved as much as ours are moved, and one or two of ours do not say how much that is.
    """
    found = [
        None if math.isnan(figure) or not images > 0 else prediction_p(figure, tests, 1 / images)
        for figure, tests, images in known
    ]
    adjusted = iter(holm([p for p in found if p is not None]))
    return [None if p is None else next(adjusted) for p in found]


def needed_beside_reported(
    known: Sequence[tuple[float, Sequence[float], float]], adjusted: Sequence[float | None]
) -> list[str | None]:
    """With how many seeds of ours `told_from_reported` would tell what it does not, in words; None
    where it does, and where one seed shows no spread."""
    comparisons = sum(not math.isnan(figure) and bool(tests) for figure, tests, _ in known)
    found: list[str | None] = []
    for (figure, tests, images), p in zip(known, adjusted, strict=True):
        spread = deviation(tests, 1 / images) if images > 0 else None
        if math.isnan(figure) or spread is None or (p is not None and p <= ALPHA):
            found.append(None)
            continue
        gap = figure - math.fsum(tests) / len(tests)
        found.append(needed(seeds_to_tell(gap, spread, comparisons, single=True)))
    return found


def single(runs: pd.DataFrame, figure: float) -> pd.DataFrame:
    """The one point of a launch without axes, beside a reported accuracy (a fraction)."""
    table = cells(runs).assign(reported=figure)
    return _beside(table)[["validation", "validation sd", *_TEST, *_BESIDE]]


def sweep(runs: pd.DataFrame) -> pd.DataFrame:
    """Any other sweep: a row a point, its axes, validation and test."""
    axes = [name.removeprefix(POINT) for name in runs.columns if name.startswith(POINT)]
    return cells(runs)[[*axes, "validation", "validation sd", *_TEST, "flags"]]


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
    table["at"] = _objects(table, points)
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


def mixed(runs: pd.DataFrame) -> bool:
    """Whether any of the runs is trained on images that two were made into."""
    return bool((runs[["augment.mixup", "augment.cutmix"]] > 0).any(axis=None))


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
    if runs["failure"].any():
        table["failure"] = runs["failure"]
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


def show(table: pd.DataFrame, *, merge: bool = True, missing: str = "-") -> pd.DataFrame:
    """The table as text: percent with two decimals, intervals as `low to high`.

    With `merge`, `x sd` joins `x` as `x ± sd`, and `planned` joins `n` as `n of planned`; without,
    every number keeps its own column.
    """
    texts = {
        name: [_text(str(name), value, missing) for value in table[name]] for name in table.columns
    }
    if merge:
        for name in [name for name in texts if f"{name} sd" in texts]:
            spreads = texts.pop(f"{name} sd")
            pairs = zip(texts[name], spreads, strict=True)
            texts[name] = [a if b == missing else f"{a} ± {b}" for a, b in pairs]
        if {"n", "planned"} <= texts.keys():
            pairs = zip(texts["n"], texts.pop("planned"), strict=True)
            texts["n"] = [f"{a} of {b}" for a, b in pairs]
    return pd.DataFrame(texts)


def _percent(fraction: float, sign: str = "") -> str:
    return signed(fraction) if sign else f"{100 * fraction:.2f}"


def _text(column: str, value: Any, missing: str) -> str:
    sign = "+" if column in _SIGNED else ""
    if isinstance(value, tuple):
        low, high = value
        return f"{_percent(low, sign)} to {_percent(high, sign)}"
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return missing
    if isinstance(value, float) and (column in _PERCENT or sign):
        return _percent(value, sign)
    return str(value)
