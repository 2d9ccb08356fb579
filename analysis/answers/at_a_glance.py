"""At a glance: the best configuration, what is flagged, what it cost. Always open, a card each."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pandas as pd

from analysis.answers.answer import Answer, Sure, short
from analysis.data.study import Study
from analysis.output.model import Look, Part, Section, Table
from analysis.sections import cost
from analysis.stats import seed_values
from analysis.stats.outliers import FLAGS
from analysis.stats.paired import value_words
from analysis.text.numbers import be, count

_MOST_SETTINGS = 8
_WHERE = ("seed", "data.root", "schema_version")  # what a configuration is not chosen by


def best_configuration(study: Study, found: Answer) -> Section:
    """The settings of the main launch's best point: those that it varied, then those that are not
    the task's defaults."""
    title = "Best configuration"
    if found.best is None:
        return Section(title, [], "No trial has a result yet.", Look.CARD)
    run = _run(found)
    varied = {axis: _scaled(value, run.get(axis)) for axis, value in found.best.items()}
    rest = {
        name: run[name]
        for name in found.plan.fields
        if name not in {*varied, *_WHERE, found.plan.task.seed} and _is_set(found, name, run, study)
    }
    names = short([*varied, *rest])
    rows = [
        {"setting": names[name], "value": _words(value), "varied": "yes" * (name in varied)}
        for name, value in {**varied, **rest}.items()
    ]
    more = len(rows) - _MOST_SETTINGS
    notes = [f"{count(more, 'more setting')} in its config.json."] * (more > 0)
    caption = f"Settings of the best point of {found.plan.sweep}"
    tables = [Table("best-configuration", caption, pd.DataFrame(rows[:_MOST_SETTINGS]))]
    sure = "" if found.sure is Sure.NOTHING else f" Its lead: {found.sure}."
    said = f"Of {found.plan.sweep}, {found.worded(found.mean)}.{sure}"
    return Section(title, [Part(tables=tables * bool(rows), footnotes=notes)], said, Look.CARD)


def _run(found: Answer) -> dict[str, Any]:
    assert found.best is not None
    runs = seed_values.at(found.plan, found.best)
    done = runs[runs["state"].eq("done")]
    return {str(name): value for name, value in done.iloc[0].to_dict().items()}


def _scaled(value: Any, ran: Any) -> Any:
    """As the definition has it, and what the scale left of it."""
    is_same = ran is None or pd.isna(ran) or ran == value
    return value if is_same else f"{value_words(value)} ({value_words(ran)} at this scale)"


def _is_set(found: Answer, name: str, run: dict[str, Any], study: Study) -> bool:
    """Of another task no default is known: all of its settings are shown."""
    value = run.get(name)
    if not found.plan.is_trainers:
        return True
    default = study.task.defaults.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return default is not None
    return bool(value != default)


def _words(value: Any) -> str:
    text = " ".join(value_words(value).split())
    return text if len(text) <= 60 else f"{text[:57].rstrip()}..."


def flagged(study: Study) -> Section:
    """How many trials are flagged with what, and what each flag means, in brief."""
    trials = study.trials
    codes = Counter(code for found in trials["flags"] for code in found)
    if not codes:
        none = "The one trial is not flagged." if len(trials) == 1 else "No trial is flagged."
        return Section("Flagged", [], none, Look.CARD)
    rows = [
        {"flag": code, "trials": n, "rule": _brief(FLAGS[code]) if code in FLAGS else ""}
        for code, n in codes.most_common()
    ]
    marked = int(trials["flags"].map(bool).sum())
    said = f"{marked} of {count(len(trials), 'trial')} {be(marked)} flagged."
    table = Table("flagged-at-a-glance", "Flags, and how many trials have them", pd.DataFrame(rows))
    note = "A flagged trial with a result counts in the means; Launches names each."
    return Section("Flagged", [Part(tables=[table], footnotes=[note])], said, Look.CARD)


def _brief(rule: str) -> str:
    first = rule.partition(";")[0].partition(" (")[0]
    return first if len(first) <= 90 else f"{first[:87].rstrip()}..."


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def costs(study: Study) -> Section:
    """Hours by device."""
    of_trainer = study.of_trainer
    if not of_trainer.plans:
        seconds = pd.to_numeric(study.trials["seconds"], errors="coerce").dropna()
        if seconds.empty:
            return Section("What it cost", [], "No trial says how long it took.", Look.CARD)
        said = f"{_time(float(seconds.sum()))} of training for {count(len(seconds), 'trial')}."
        return Section("What it cost", [], said, Look.CARD)
    hours = cost.spent(of_trainer.trials)
    tables = []
    if len(hours):
        units = [one for one in ("GPU-hours", "CPU-hours") if hours[one].notna().any()]
        by = hours.groupby("device", sort=True)[["trials", *units]].sum(min_count=1).round(2)
        tables.append(Table("cost-by-device", "Hours of training by device", by.reset_index()))
    return Section("What it cost", [Part(tables=tables)], cost.totals(hours), Look.CARD)
