"""Diagnostics of launches without axes: all seeds, then one run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.data.study import Plan, Study
from analysis.figures.diagnostics import panels
from analysis.output.model import Part, Picture, Table
from analysis.sections import one_run, wording
from analysis.sections.one_run import Explain, ReportedRun
from analysis.sections.sweep import unflagged
from analysis.stats import selection_bias, summary_tables
from analysis.stats.intervals import MIN_SEEDS, seed_interval
from analysis.stats.summary_tables import SEEDS
from analysis.text.numbers import count, have, interval, percent

# Column heading: column of run.parquet. The test images' top-1 is their accuracy.
_FIGURES = {
    "train": "train_accuracy",
    "train clean": "train_accuracy_clean",
    "validation": "val_accuracy",
    "test, top-1": "test_accuracy",
    "top-3": "top_3",
    "top-5": "top_5",
}


def parts(
    plan: Plan, study: Study, explain: Explain, reported: ReportedRun | None = None
) -> list[Part]:
    """Of a launch without axes: all of its seeds, then one run in detail, where one has finished.
    Draws every figure.
    """
    reasons = study.task.reported.why_no_evidence(plan)
    done = finished(plan)
    notes = [wording.preface(plan, reasons)]
    if done.empty:
        notes.append("No run has finished yet: there is nothing to diagnose.")
        return [Part(wording.title(plan), notes, [], _curves(plan))]
    run = median(done)
    notes += selection_bias.notes(plan, study)
    notes += [
        f"{len(done)} of {count(len(plan.runs), 'run')} {have(len(done))} finished.",
        f"What follows in detail is one run, {run['trial']} (seed {run['seed']}): {_choice(done)} "
        "The best one would flatter, and its test images select nothing.",
    ]
    table = Table(
        f"{wording.name(plan)}-seeds",
        f"Accuracy (%) of every seed of {plan.sweep} on each set of images",
        seeds(plan.runs),
    )
    tables_ = [table, *unflagged(plan)]
    first = Part(wording.title(plan), notes, tables_, _curves(plan), _about_seeds(plan.runs))
    title = f"{wording.title(plan)}: seed {run['seed']}"
    return [first, *one_run.parts(study, plan, run, title, explain, reported)]


def finished(plan: Plan) -> pd.DataFrame:
    """The runs with a result, of the images that most are of."""
    return plan.runs[(plan.runs["state"] == "done") & plan.runs["same_data"]]


def median(done: pd.DataFrame) -> dict[str, Any]:
    """The run of the median validation accuracy: the lower middle of an even number, of equals the
    first by seed.
    """
    order = done.sort_values(["val_accuracy", "seed", "trial"], na_position="first")
    return {str(key): value for key, value in order.iloc[(len(order) - 1) // 2].items()}


# --- seeds -----------------------------------------------------------------------------------


def seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a planned run, as text: its accuracies (%), best epoch, state and flags; then mean, sd
    and Student's 95 % interval over the finished ones, where there are several.
    """
    rows = []
    for run in runs.to_dict("records"):
        row = {"seed": str(run["seed"])}
        row |= {name: percent(run[column]) for name, column in _FIGURES.items()}
        best = run["best_epoch"]
        row["best epoch"] = "-" if pd.isna(best) else f"{best + 1:.0f} of {run['epochs']}"
        row["state"] = str(run["state"])
        rows.append(row | {"flags": ", ".join(run["flags"])})
    done = runs[runs["state"] == "done"]
    if len(done) > 1:
        known = {name: done[column].dropna().tolist() for name, column in _FIGURES.items()}
        lines = {
            "mean": {name: percent(pd.Series(found).mean()) for name, found in known.items()},
            "sd": {name: percent(pd.Series(found).std()) for name, found in known.items()},
            SEEDS: {name: interval(seed_interval(found)) for name, found in known.items()},
        }
        if len(done) < MIN_SEEDS:
            del lines[SEEDS]
        empty = {"best epoch": "", "state": f"n {len(done)}", "flags": ""}
        rows += [{"seed": label} | line | empty for label, line in lines.items()]
    return pd.DataFrame(rows)


def _choice(done: pd.DataFrame) -> str:
    if len(done) == 1:
        return "the only one that has finished."
    middle = "the median" if len(done) % 2 else "the lower middle"
    return f"of those that have finished, it has {middle} validation accuracy."


def _about_seeds(runs: pd.DataFrame) -> list[str]:
    run = runs.iloc[0]
    mixed = "mixed and " if summary_tables.mixed(runs) else ""
    notes = [
        f"train: running mean over the {mixed}augmented images of the best epoch, while the "
        "weights still move. train clean: plain training images under the tested weights. "
        "test: all test images, once, under the weights of the best epoch by validation "
        "accuracy. top-k: the label is among the k highest logits.",
    ]
    if mixed:
        notes.append(
            "With MixUp and CutMix a training image counts as right when the heavier of its two "
            "labels is predicted."
        )
    if run["optimizer.ema_decay"]:
        notes.append(
            "train is of the weights as they were trained; validation, test and train clean are of "
            "their moving average."
        )
    if (runs["state"] == "done").sum() < MIN_SEEDS:
        notes.append(f"{SEEDS}: no interval under three seeds.")
    else:
        notes.append(f"{SEEDS}: Student's t, of the mean over the finished seeds.")
    return notes


def _curves(plan: Plan) -> list[Picture]:
    runs = plan.runs
    if plan.epochs.empty:
        return []
    labels, best = {}, {}
    for run in runs[runs["trial"].isin(set(plan.epochs["trial"]))].to_dict("records"):
        state = "" if run["state"] == "done" else f", {run['state']}"
        labels[str(run["trial"])] = f"seed {run['seed']}{state}"
        if not pd.isna(run["best_epoch"]):
            best[str(run["trial"])] = int(run["best_epoch"])
    smoothing = bool(runs["label_smoothing"].iloc[0])
    mixed = summary_tables.mixed(runs)
    images = "mixed and augmented images" if mixed else "augmented images"
    losses = ""
    if smoothing:
        losses = (
            " The training loss has label smoothing: the validation loss to set beside it is the "
            "one smoothed alike; the plain one stands apart."
        )
    caption = (
        f"{count(len(labels), 'seed')} of {plan.sweep} over epochs: loss and "
        "accuracy on training and validation images, learning rate, and training minus "
        f"validation accuracy in points. Training figures are running means over {images} while "
        f"the weights move, so that a gap below 0 is not a mistake.{losses} A dot is the best "
        "epoch by validation accuracy."
    )
    figure = panels(plan.epochs, labels, best, smoothing=smoothing, mixed=mixed)
    return [Picture(f"{wording.name(plan)}-panels", caption, figure)]
