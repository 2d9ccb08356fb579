"""Any sweep: its points, their means over seeds, which one validation chooses."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

import pandas as pd

from analysis import points, tables, words
from analysis.figures.curves import curves
from analysis.load import POINT, Plan, Study
from analysis.page import Part, Picture, Table
from analysis.stats import ALPHA, MIN_SEEDS
from analysis.tables import DIFFERENCE_95, LARGER, SAMPLE, SEEDS, SEEDS_P


def parts(plan: Plan, study: Study) -> list[Part]:
    """Draws every figure."""
    table = tables.sweep(plan.runs)
    name = words.name(plan)
    caption = f"Accuracy (%) of {plan.sweep}: mean ± sd over seeds"
    effects, why = _effects(plan)
    return [
        Part(
            words.title(plan),
            [words.preface(plan), factors(plan), choice(plan), *lacking(plan), *why],
            [Table(name, caption, table), *unflagged(plan), *effects],
            curve_pictures(plan),
            notes(table),
        )
    ]


def factors(plan: Plan) -> str:
    """What the launch varies, and over which values."""
    if not plan.axes:
        return "It varies nothing but the seed." if len(plan.runs) > 1 else "It is a single trial."
    values = [f"{axis} ({words.values(plan.runs[POINT + axis])})" for axis in plan.axes]
    return f"It varies {', '.join(values)}."


def lacking(plan: Plan) -> list[str]:
    """How many trials have no result yet, and why: nothing where all have one."""
    runs = plan.runs[plan.runs["state"] != "done"]
    if runs.empty:
        return []
    # A search has no flag for what it pruned itself.
    counts = Counter(", ".join(codes) or "PRUNED" for codes in runs["flags"])
    told = ", ".join(f"{n} {code}" for code, n in sorted(counts.items()))
    have = "has" if len(runs) == 1 else "have"
    said = f"{len(runs)} of {words.count(len(plan.runs), 'trial')} {have} no result: {told}."
    if counts["MISSING"]:
        said += " What is MISSING may still come, and change what stands here."
    return [said]


def unflagged(plan: Plan) -> list[Table]:
    """The means with and without the flagged results: nothing where no result is flagged."""
    table = tables.unflagged(plan.runs)
    caption = f"Mean test accuracy (%) of {plan.sweep} with flagged results and without them"
    return [Table(f"{words.name(plan)}-unflagged", caption, table)] * bool(len(table))


def _effects(plan: Plan) -> tuple[list[Table], list[str]]:
    """The main effects, and what is to be said of them."""
    if len(plan.axes) < 2:
        return [], []
    table = tables.main_effects(plan.runs)
    if table is None:
        return [], [
            "No main effects are given: they need every combination of values with the same number "
            "of results, so that no value owes its mean to the values beside it."
        ]
    caption = f"Main effects in {plan.sweep}: mean accuracy (%) over all values of the other axes"
    return [Table(f"{words.name(plan)}-effects", caption, table)], []


def choice(plan: Plan) -> str:
    """Which point validation selects, so that nobody picks one by its test accuracy."""
    best = next(iter(points.ranked(plan)), None)
    if best is None:
        return "No trial has a result."
    mean = fmean(points.by_seed(plan, best).values())
    said = (
        "Validation images select the epoch whose weights are tested, and the point: the best "
        f"mean validation accuracy, {100 * mean:.2f} %, is that of "
        f"{points.words(best)}"
    )
    if tests := points.by_seed(plan, best, "test_accuracy"):
        said += f", with {100 * fmean(tests.values()):.2f} % on the test images"
    return said + "; test images select nothing."


def notes(table: pd.DataFrame) -> list[str]:
    notes = [f"{SAMPLE}: Wilson's interval of the mean, from the number of test images alone."]
    if table[SEEDS].isna().any():
        notes.append(f"{SEEDS}: none under {MIN_SEEDS} seeds.")
    if DIFFERENCE_95 in table:
        notes.append(
            f"difference: test minus reported, in points; {DIFFERENCE_95}: Newcombe's, from both "
            "numbers of test images. It leaves out the seed, and the study has one run a cell."
        )
        notes.append(
            f"{LARGER}: yes where {SEEDS_P} is at most {ALPHA:g}. {SEEDS_P}: how likely a run of "
            "the same recipe with another seed lies as far from ours as the reported one does "
            "(Student's t, the prediction of one more run), adjusted by Holm for all figures of "
            f"the table. Under {MIN_SEEDS} seeds nothing is said."
        )
    intervals = [found for found in table[SEEDS] if found is not None]
    if any(low < 0 or high > 1 for low, high in intervals):
        notes.append(
            f"{SEEDS}: Student's t knows no bounds, so that an interval may pass 0 or 100 %."
        )
    if (table["n"] < table["planned"]).any():
        notes.append("Where n is below the planned number, the mean is over those n alone.")
    if table["flags"].str.contains("EARLY_STOP|DIVERGED|OUTLIER").any():
        notes.append(
            "Runs that are flagged count in the means and are marked; the means without them stand "
            "in a table of their own."
        )
    return notes


def curve_pictures(plan: Plan) -> list[Picture]:
    if not plan.epochs["val_accuracy"].notna().any():
        return []
    labels = {
        str(run["trial"]): ", ".join(f"{axis} {run[POINT + axis]}" for axis in plan.axes)
        for run in plan.runs.to_dict("records")
    }
    flagged = set(plan.runs["trial"][plan.runs["flags"].map(bool)])
    caption = (
        f"Validation accuracy of {plan.sweep} over epochs, a line style a point: thick the mean"
    )
    caption += " over its seeds, thin each seed; a cross ends a flagged trial"
    figure = curves(plan.epochs, labels, flagged)
    return [Picture(f"{words.name(plan)}-curves", caption, figure)]
