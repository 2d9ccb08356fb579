"""Any sweep: its points, their means over seeds, which one validation chooses."""

from __future__ import annotations

import pandas as pd

from analysis import tables, words
from analysis.figures.curves import curves
from analysis.load import POINT, Plan, Study
from analysis.page import Part, Picture, Table
from analysis.stats import MIN_SEEDS
from analysis.tables import DIFFERENCE_95, SAMPLE, SEEDS


def parts(plan: Plan, study: Study) -> list[Part]:
    """Draws every figure."""
    table = tables.sweep(plan.runs)
    caption = f"Accuracy (%) of {plan.sweep}: mean ± sd over seeds"
    return [
        Part(
            words.title(plan),
            [words.preface(plan), choice(table, plan.axes)],
            [Table(words.name(plan), caption, table)],
            curve_pictures(plan),
            notes(table),
        )
    ]


def choice(table: pd.DataFrame, axes: list[str]) -> str:
    """Which row validation selects, so that nobody picks one by its test accuracy."""
    best = tables.chosen(table)
    if best is None:
        return "No trial has a result."
    point = ", ".join(f"{axis} {best[axis]}" for axis in axes) or "the only point"
    return (
        "Validation images select the epoch whose weights are tested, and the point: the best "
        f"mean validation accuracy, {100 * best['validation']:.2f} %, is that of {point}, with "
        f"{100 * best['test']:.2f} % on the test images, which select nothing."
    )


def notes(table: pd.DataFrame) -> list[str]:
    notes = [f"{SAMPLE}: Wilson's interval of the mean, from the number of test images alone."]
    if table[SEEDS].isna().any():
        notes.append(f"{SEEDS}: none under {MIN_SEEDS} seeds.")
    if DIFFERENCE_95 in table:
        notes.append(
            f"difference: test minus reported, in points; {DIFFERENCE_95}: Newcombe's, from both "
            "numbers of test images. It leaves out the seed, and the study has one run a cell."
        )
    if (table["n"] < table["planned"]).any():
        notes.append("Where n is below the planned number, the mean is over those n alone.")
    if table["flags"].str.contains("EARLY_STOP|DIVERGED").any():
        notes.append("Early-stopped and diverged runs count in the means, and are marked.")
    return notes


def curve_pictures(plan: Plan) -> list[Picture]:
    if plan.epochs.empty:
        return []
    seeds = plan.runs["seed"].nunique() > 1
    labels = {}
    for run in plan.runs.to_dict("records"):
        parts = [f"{axis} {run[POINT + axis]}" for axis in plan.axes]
        labels[str(run["trial"])] = ", ".join([*parts, *([f"seed {run['seed']}"] * seeds)])
    flagged = plan.runs["trial"][plan.runs["flags"].map(bool)].tolist()
    caption = f"Validation accuracy of {plan.sweep} over epochs; a cross ends a flagged trial"
    figure = curves(plan.epochs, labels, flagged)
    return [Picture(f"{words.name(plan)}-curves", caption, figure)]
