"""Launches: what was launched, what became of it, what is flagged, how sure figures can be."""

from __future__ import annotations

import pandas as pd

from analysis.data import dataset
from analysis.data.study import Plan, Study
from analysis.output.model import Part, Section, Table
from analysis.sections.history.marks import excluded
from analysis.stats import summary_tables
from analysis.stats.intervals import MIN_SEEDS, sample_interval
from analysis.stats.outliers import FLAGS
from analysis.text.numbers import count, have, percent


def summary(study: Study) -> Section:
    launches, flagged = [], []
    runs = study.trials
    totals = runs["state"].value_counts()
    states_seen = list(dict.fromkeys(["done", "failed", *totals.index]))
    for plan in study.plans:
        states = plan.runs["state"].value_counts()
        rows = summary_tables.flagged(plan.runs)
        launches.append(
            {
                "sweep": plan.sweep,
                "launch": plan.id,
                "scale": plan.scale,
                **(
                    {}
                    if all(one.is_trainers for one in study.plans)
                    else {"task": _brief(plan.task.name)}
                ),
                **({"data set": _data(plan)} if study.of_trainer.plans else {}),
                "planned": len(plan.runs),
                **{state: int(states.get(state, 0)) for state in states_seen},
                "flagged": len(rows),
            }
        )
        rows.insert(0, "sweep", plan.sweep)
        flagged.append(rows)
    told = ", ".join(f"{totals[state]} {state}" for state in states_seen if state in totals)
    flags = pd.concat(flagged).drop_duplicates(["sweep", "trial"])
    marked = f"{len(flags)} flagged" if len(flags) else "No trial is flagged"
    notes = [f"{count(len(runs), 'planned trial')}: {told}. {marked}."]
    notes += excluded(study)
    notes += _alike(runs)
    notes.append(_caveat(runs))
    shown = [Table("launches", "Launches and what became of their trials", pd.DataFrame(launches))]
    if len(flags):
        # Of every launch: a trial can be flagged in one and, pruned by itself, not in another.
        seen = {code for plan in study.plans for codes in plan.runs["flags"] for code in codes}
        rules = [(code, rule) for code, rule in FLAGS.items() if code in seen]
        shown.append(Table("flagged", "Flagged trials", flags))
        legend = pd.DataFrame(rules, columns=["flag", "rule"])
        shown.append(Table("flags", "What the flags mean", legend))
    finding = f"{count(len(study.plans), 'launch', 'launches')}: {told}."
    return Section("Launches", [Part(notes=notes, tables=shown)], finding)


def _data(plan: Plan) -> str | None:
    """None where nobody knows what a task trains on."""
    return dataset.titles(plan.runs) if plan.is_trainers else None


def _brief(task: str) -> str:
    """A command line can be long; the launch's own section has all of it."""
    return task if len(task) <= 60 else f"{task[:57].rstrip()}..."


def _alike(runs: pd.DataFrame) -> list[str]:
    """What sweeps have in common, trained once or twice."""
    different = int(runs["fingerprint"].nunique())
    if different == len(runs):
        return []
    said = f"They have {count(different, 'configuration')} between them"
    shared = int(runs["shared_from"].notna().sum())
    trained = runs[runs["shared_from"].isna()]
    if shared:
        said += f"; {count(shared, 'trial')} {have(shared)} the records of another sweep's training"
    if trained["fingerprint"].nunique() < len(trained):
        said += "; what two sweeps share was trained in both, to the same figures"
    return [f"{said}. Equal trials confirm nothing of each other."]


def _caveat(runs: pd.DataFrame) -> str:
    done = runs[runs["test_accuracy"].notna() & runs["test_images"].notna()]
    if done.empty and not runs["objective"].notna().any():
        return "No trial has a result, so there is nothing to conclude from."
    if done.empty:
        return (
            "How sure: training again with another seed moves every value. Under "
            f"{MIN_SEEDS} seeds there is no interval over seeds: a difference between two single "
            "runs may then be the seed's luck."
        )
    # A trial that exists, not the mean of two: in the middle by test accuracy.
    middle = done.sort_values("test_accuracy", kind="stable").iloc[(len(done) - 1) // 2]
    images, accuracy = int(middle["test_images"]), float(middle["test_accuracy"])
    low, high = sample_interval(accuracy, images)
    return (
        f"How sure: the {images:,} test images alone leave an accuracy of {percent(accuracy)} % "
        f"anywhere between {percent(low)} and {percent(high)} % (Wilson, 95 %), and training "
        "again with another seed moves it too. The two are shown apart. Under "
        f"{MIN_SEEDS} seeds there is no interval over seeds: a difference between two single runs "
        "may then be the seed's luck."
    )
