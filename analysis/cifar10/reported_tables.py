"""Tables of points beside the reported figures: pure functions from Plan.runs to frames.

Accuracies are fractions here; table_text.show writes them as percent with two decimals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.stats.intervals import (
    ALPHA,
    deviation,
    difference_interval,
    holm,
    needed,
    prediction_p,
    seeds_to_tell,
)
from analysis.stats.outliers import grid_outliers
from analysis.stats.summary_tables import (
    DIFFERENCE_95,
    LARGER,
    NEEDED,
    SEEDS_P,
    SPLITS,
    TEST,
    TESTS,
    cells,
    objects,
)
from analysis.text.numbers import p_value, percent

_BESIDE = ["reported", "difference", DIFFERENCE_95, SEEDS_P, LARGER, NEEDED, "flags"]
REPORTED_IMAGES = 10_000


def grid_cells(runs: pd.DataFrame, reported: dict[str, Any]) -> pd.DataFrame:
    """A row a cell of batch size x epochs, the reported accuracy and the difference beside.

    `reported` is reported.json's "grid_bs_epoch". Epochs are as in the definition, before scaling.
    """
    figures = {(c["epochs"], c["batch_size"]): c["test"] / 100 for c in reported["cells"]}
    table = cells(runs).sort_values(["epochs", "batch_size"], ignore_index=True)
    points = zip(table["epochs"], table["batch_size"], strict=True)
    table["reported"] = [figures.get(point, math.nan) for point in points]
    head = ["epochs", "batch_size", "validation", "validation sd", *TEST, *_BESIDE]
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


def without_reported(table: pd.DataFrame) -> pd.DataFrame:
    """The table, of a launch that does not compare with what was reported."""
    about = [
        name for name in map(str, table) if name.startswith("reported") or name in _BESIDE[:-1]
    ]
    return table.drop(columns=about)


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
    test = percent(cell["test"])
    if not math.isnan(cell["test sd"]):
        test += f" ± {percent(cell['test sd'])}"
    lines = [test if cell["n"] else "no result"]
    if "reported" in cell and not math.isnan(cell["reported"]):
        difference = f" ({percent(cell['difference'], '+')})" if cell["n"] else ""
        lines.append(f"reported {percent(cell['reported'])}{difference}")
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
    head = ["model", *splits, *TEST, "reported train", "reported validation", *_BESIDE]
    return _beside(table)[head]


def _beside(table: pd.DataFrame) -> pd.DataFrame:
    """With `difference`, test minus reported, its interval from the two test samples, and whether
    seeds explain it, all figures of the table being one family.
    """
    table = table.assign(difference=table["test"] - table["reported"])
    known = zip(table["test"], table["images"], table["reported"], strict=True)
    table[DIFFERENCE_95] = objects(
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
    table[SEEDS_P] = objects(table, [None if p is None else p_value(p) for p in adjusted])
    compares = table["difference"].notna()
    words = ["not enough seeds" if p is None else "yes" if p <= ALPHA else "no" for p in adjusted]
    table[LARGER] = objects(table, words).where(compares, None)
    table[NEEDED] = objects(table, needed_beside_reported(runs, adjusted))
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
