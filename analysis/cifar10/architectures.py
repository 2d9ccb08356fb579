"""Architectures: every model beside what was reported of it, and beside every other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.cifar10 import reported_tables
from analysis.cifar10.comparable import stands_beside, why_no_evidence
from analysis.cifar10.reported import reported
from analysis.data.study import Plan, Study
from analysis.figures import compare as figures
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.sections.sweep import choice, curve_pictures, lacking, notes, unflagged
from analysis.stats import paired, selection_bias, summary_tables
from analysis.stats.costs import is_gpu

MODEL = "model.name"

_SPLITS = [name for split in summary_tables.SPLITS for name in (split, f"{split} sd")]
_BESIDE = [
    "train", "reported train", "validation", "reported validation", "test", "reported",
    "difference", summary_tables.DIFFERENCE_95, summary_tables.SEEDS_P, summary_tables.LARGER,
]  # fmt: skip


def parts(plan: Plan, study: Study) -> list[Part]:
    """Draws every figure."""
    known = reported()["architectures"]
    if not stands_beside(plan):
        known = [{"model": row["model"]} for row in known]  # in the study's order all the same
    table = reported_tables.architectures(plan.runs, known)
    pairs = paired.compare(paired.all_pairs(plan), plan, study)
    name = wording.name(plan)
    said = f"The models of {plan.sweep}, pair by pair: over seeds and on the same test images"
    compared = [Table(f"{name}-pairs", said, paired.table(pairs))] * bool(pairs)
    measured = table[
        ["model", *_SPLITS, "n", "planned", summary_tables.SAMPLE, summary_tables.SEEDS, "flags"]
    ]
    measured = measured.merge(costs(plan.runs), on="model", how="left")
    beside = table.loc[table["reported"].notna(), ["model", *_BESIDE]]
    said_reported = f"The models of {plan.sweep} beside what was reported of them, in %"
    caption = (
        f"Accuracy (%) of the architectures of {plan.sweep}: {wording.over_seeds(plan)}. train is "
        "the running accuracy on augmented images, train clean that on plain ones"
    )
    return [
        Part(
            wording.title(plan),
            [
                wording.preface(plan, why_no_evidence(plan)),
                choice(plan),
                *selection_bias.notes(plan, study),
                *lacking(plan),
            ],
            [
                Table(name, caption, measured),
                *[Table(f"{name}-reported", said_reported, beside)] * bool(len(beside)),
                *unflagged(plan),
                *compared,
            ],
            [*_pictures(plan, table), *curve_pictures(plan)],
            [
                "train: running mean over the augmented images of the best epoch. "
                "train clean: plain training images under the tested weights."
                + " The study does not say which its training accuracy is."
                * bool(len(beside)),
                "minutes: of training and validation, mean over seeds, times the number of devices "
                "(on a CPU, of processes).",
                *notes(table if len(beside) else reported_tables.without_reported(table)),
                *paired.notes(pairs),
            ],
        )
    ]


def costs(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a model: `parameters, M` (millions), and GPU-minutes or CPU-minutes, mean over the
    seeds that ran on one; as text.
    """
    done = runs[runs["seconds"].notna()]
    minutes = summary_tables.device_seconds(done) / 60
    gpu = done["device"].map(lambda device: is_gpu(str(device)))
    unit = gpu.map({True: "GPU-minutes", False: "CPU-minutes"})
    rows: list[dict[str, Any]] = []
    for model in runs[MODEL].unique():
        parameters = runs.loc[runs[MODEL] == model, "parameters"].max()
        row = {"model": model, "parameters, M": "-"}
        if pd.notna(parameters):
            row["parameters, M"] = f"{parameters / 1e6:.3f}"
        for kind in sorted(unit.unique()):
            spent = minutes[done[MODEL].eq(model) & unit.eq(kind)]
            row[kind] = f"{spent.mean():.2f}" if len(spent) else "-"
        rows.append(row)
    return pd.DataFrame(rows)


def _pictures(plan: Plan, table: pd.DataFrame) -> list[Picture]:
    name = wording.name(plan)
    ordered = table.sort_values("validation", ascending=False, kind="stable", na_position="last")
    rows = {
        str(model): _row(paired.runs(plan, {MODEL: model}), str(model), figure)
        for model, figure in zip(ordered["model"], ordered["reported"], strict=True)
    }
    if not any(row.values for row in rows.values()):
        return []
    dots = Picture(
        f"{name}-models",
        f"Test accuracy of the models of {plan.sweep}"
        + (", the best mean validation accuracy on top: " if len(rows) > 1 else ": ")
        + figures.marks_words({"": list(rows.values())}),
        figures.accuracies(list(rows.values())),
    )
    parameters = plan.runs.groupby(MODEL)["parameters"].max().dropna().astype(int)
    # A logarithmic axis has no place for a model without parameters.
    known = parameters[parameters > 0]
    sized = [(int(known[m]), row) for m, row in rows.items() if m in known and row.values]
    if len(sized) < 2:
        return [dots]
    any_interval = any(row.interval is not None for _, row in sized)
    sizes = Picture(
        f"{name}-parameters",
        f"Mean test accuracy of the models of {plan.sweep} over their number of parameters, a mark "
        "a model" + ", with its 95 % interval over seeds as a bar" * any_interval,
        figures.sizes(sized),
    )
    return [dots, sizes]


def _row(runs: Mapping[int, Mapping[str, Any]], model: str, reported: float) -> figures.Row:
    known = [run for run in runs.values() if pd.notna(run["test_accuracy"]) and not run["repeated"]]
    return figures.Row(
        model,
        [float(run["test_accuracy"]) for run in known],
        [bool(run["flags"]) for run in known],
        paired.marks(runs),
        reported,
    )
