"""Any sweep: its points, their means over seeds, which one validation chooses."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.data.progress import OPEN
from analysis.data.study import POINT, Plan, Study
from analysis.figures.curves import curves
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.stats import seed_values, selection_bias, summary_tables
from analysis.stats.intervals import ALPHA, MIN_SEEDS, POWER_NOTE, comparable
from analysis.stats.paired import adjusted_for
from analysis.stats.summary_tables import DIFFERENCE_95, LARGER, NEEDED, SAMPLE, SEEDS, SEEDS_P
from analysis.text import words
from analysis.text.numbers import count, have, percent


def parts(plan: Plan, study: Study) -> list[Part]:
    """Draws every figure."""
    table = summary_tables.sweep(plan.runs)
    name = wording.name(plan)
    caption = f"Accuracy (%) of {plan.sweep}: {wording.over_seeds(plan)}"
    effects, why = _effects(plan)
    return [
        Part(
            wording.title(plan),
            [
                wording.preface(plan, study.task.reported.why_no_evidence(plan)),
                factors(plan),
                choice(plan),
                *selection_bias.notes(plan, study),
                *lacking(plan),
                *why,
            ],
            [Table(name, caption, table), *unflagged(plan), *effects],
            curve_pictures(plan),
            notes(table),
        )
    ]


def factors(plan: Plan) -> str:
    """What the launch varies, and over which values."""
    if not plan.axes:
        return "It varies nothing but the seed." if len(plan.runs) > 1 else "It is a single trial."
    columns = {axis: plan.runs[POINT + axis] for axis in plan.axes}
    varied = {axis: column.nunique(dropna=False) > 1 for axis, column in columns.items()}
    said = []
    for word, wanted in (("It varies", True), ("It has one value of", False)):
        told = [f"{a} ({words.values(columns[a])})" for a in plan.axes if varied[a] is wanted]
        said += [f"{word} {', '.join(told)}."] * bool(told)
    return " ".join(said)


def lacking(plan: Plan) -> list[str]:
    """How many trials have no result yet, and why: nothing where all have one."""
    runs = plan.runs[plan.runs["state"] != "done"]
    if runs.empty:
        return []
    # Why it failed where that is known. What a search pruned itself has no flag, nor what a person
    # excluded.
    pairs = zip(runs["flags"], runs["state"], strict=True)
    counts = Counter(", ".join(codes) or str(state) for codes, state in pairs)
    told = ", ".join(f"{n} {code}" for code, n in sorted(counts.items()))
    said = f"{len(runs)} of {count(len(plan.runs), 'trial')} {have(len(runs))} no result: {told}."
    if runs["state"].isin(OPEN).any():
        said += " What is not over may still change what stands here."
    return [said]


def unflagged(plan: Plan) -> list[Table]:
    """The means with and without the flagged results: nothing where no result is flagged."""
    table = summary_tables.unflagged(plan.runs)
    caption = f"Mean test accuracy (%) of {plan.sweep} with flagged results and without them"
    return [Table(f"{wording.name(plan)}-unflagged", caption, table)] * bool(len(table))


def _effects(plan: Plan) -> tuple[list[Table], list[str]]:
    """The main effects, and what is to be said of them."""
    if sum(plan.runs[POINT + axis].nunique(dropna=False) > 1 for axis in plan.axes) < 2:
        return [], []
    table = summary_tables.main_effects(plan.runs)
    if table is None:
        return [], [
            "No main effects are given: they need every combination of values with the same number "
            "of results, so that no value owes its mean to the values beside it."
        ]
    caption = f"Main effects in {plan.sweep}: mean accuracy (%) over all values of the other axes"
    return [Table(f"{wording.name(plan)}-effects", caption, table)], []


def choice(plan: Plan) -> str:
    """Which point validation selects, so that nobody picks one by its test accuracy, and whether
    seeds separate it from the next best."""
    ranked = seed_values.ranked(plan)
    if not ranked:
        return "No trial has a result."
    best = ranked[0]
    values, tests = (
        seed_values.by_seed(plan, best, name) for name in ("val_accuracy", "test_accuracy")
    )
    alone = len(seed_values.points(plan)) == 1
    said = (
        "Validation images select the epoch whose weights are tested"
        + (": " if alone else ", and the point: the best ")
        + ("mean " if len(values) > 1 else "")
        + f"validation accuracy, {percent(fmean(values.values()))} %"
    )
    if not alone:
        first = "of " if len(ranked) > 1 else "of the only one with a result, "
        said += f", is that {first}{seed_values.words(best)}{_equals(plan, ranked)}"
    if tests:
        said += f", with {percent(fmean(tests.values()))} % on the test images"
    said += "; test images select nothing."
    return said + (f" {seed_values.lead(plan, ranked)}" if len(ranked) > 1 else "")


def _equals(plan: Plan, ranked: list[dict[str, Any]]) -> str:
    """That several points share the best mean, where they do."""
    means = [comparable(fmean(seed_values.by_seed(plan, point).values())) for point in ranked]
    equal = means.count(means[0])
    return f" (the first planned of {equal} points that have it)" if equal > 1 else ""


def notes(table: pd.DataFrame) -> list[str]:
    """How a table of points is to be read: what it holds, and nothing of what it does not."""
    if not table["n"].any():
        return []
    several = (table["n"] > 1).any()
    mean = " of the mean" if several else ""
    notes = [f"{SAMPLE}: Wilson's interval{mean}, from the number of test images alone."]
    if table[SEEDS].isna().any():
        notes.append(f"{SEEDS}: none under {MIN_SEEDS} seeds.")
    if DIFFERENCE_95 in table and table["difference"].notna().any():
        notes.append(
            f"difference: test minus reported, in points; {DIFFERENCE_95}: Newcombe's, from both "
            "numbers of test images. It leaves out the seed, and the study has one run a cell."
        )
        notes.append(_reported_note(int(table[SEEDS_P].notna().sum())))
    intervals = [found for found in table[SEEDS] if found is not None]
    if any(low < 0 or high > 1 for low, high in intervals):
        notes.append(
            f"{SEEDS}: Student's t knows no bounds, so that an interval may pass 0 or 100 %."
        )
    if (table["n"] < table["planned"]).any():
        notes.append("Where n is below the planned number, the figures are of those n alone.")
    if table["flags"].str.contains("EARLY_STOP|DIVERGED|OUTLIER").any():
        notes.append(
            "Runs that are flagged count in the means and are marked; the means without them stand "
            "in a table of their own."
        )
    return notes


def _reported_note(tested: int) -> str:
    """What decides whether seeds explain a difference from a reported figure, of so many."""
    if not tested:
        return (
            f"{LARGER}: no point has the {MIN_SEEDS} seeds that a test takes. {NEEDED}: "
            f"{POWER_NOTE}"
        )
    return (
        f"{LARGER}: yes where {SEEDS_P} is at most {ALPHA:g}. {SEEDS_P}: how likely a run of the "
        "same recipe with another seed lies as far from ours as the reported one does (Student's "
        "t, the prediction of one more run), "
        f"{adjusted_for(tested, 'reported figures of the table')}. Under {MIN_SEEDS} seeds nothing "
        f"is said. {NEEDED}: {POWER_NOTE}"
    )


def curve_pictures(plan: Plan) -> list[Picture]:
    if not plan.epochs["val_accuracy"].notna().any():
        return []
    rows = plan.epochs[["trial"]].assign(
        at=plan.epochs["epoch"] + 1, value=plan.epochs["val_accuracy"] * 100
    )
    return curves_of(
        plan, rows, ("Validation accuracy", "epochs"), ("epoch", "validation accuracy, %")
    )


def curves_of(
    plan: Plan, rows: pd.DataFrame, said: tuple[str, str], axes: tuple[str, str]
) -> list[Picture]:
    """The picture of `figures.curves`; `said`: what, over what, in its caption."""
    labels = {
        str(run["trial"]): ", ".join(f"{axis} {run[POINT + axis]}" for axis in plan.axes)
        for run in plan.runs.to_dict("records")
    }
    flagged = set(plan.runs["trial"][plan.runs["flags"].map(bool)])
    caption = f"{said[0]} of {plan.sweep} over {said[1]}"
    if len(set(labels.values())) > 1:
        caption += ", a colour a point"
    if len(set(labels.values())) < len(labels):
        caption += ": thick the mean over its seeds, thin each seed"
    caption += "; a cross ends a flagged trial" if flagged else ""
    figure = curves(rows, labels, flagged, *axes)
    return [Picture(f"{wording.name(plan)}-curves", caption, figure)]
