"""Launches of one sweep beside one another: what appeared, what vanished, what was kept."""

from __future__ import annotations

import pandas as pd

from analysis.data.study import Study, Sweep
from analysis.output.model import Part, Table
from analysis.text.words import file_name
from trial_records.history.launch_changes import changes


def parts(study: Study) -> list[Part]:
    """A part for each sweep with two launches or more of one scale and the same overrides."""
    return [part for sweep in study.sweeps if (part := _part(study, sweep)) is not None]


def _part(study: Study, sweep: Sweep) -> Part | None:
    found = changes(sweep.launches)
    if all(one.before is None for one in found):
        return None
    states = {
        trial: state
        for plan in study.plans
        if plan.sweep == sweep.name
        for trial, state in zip(plan.runs["trial"], plan.runs["state"], strict=True)
    }
    rows = [
        {
            "launch": one.launch.id,
            "created": one.launch.created,
            "setting": one.launch.setting,
            "trials": len(one.launch.trials),
            "after": "" if one.before is None else one.before.id,
            **{
                what: None if one.before is None else len(names)
                for what, names in (
                    ("kept", one.kept), ("appeared", one.appeared), ("vanished", one.vanished)
                )
            },
        }
        for one in found
    ]  # fmt: skip
    name = file_name(sweep.name)
    launches = pd.DataFrame(rows).astype(dict.fromkeys(("kept", "appeared", "vanished"), "Int64"))
    tables = [Table(f"{name}-launches", f"The launches of {sweep.name}, oldest first", launches)]
    trials = [
        {"launch": one.launch.id, "trial": trial, "change": what, "state": states.get(trial, "")}
        for one in found
        for what, names in (("appeared", one.appeared), ("vanished", one.vanished))
        for trial in names
    ]
    if trials:
        caption = f"Trials of {sweep.name} that appeared or vanished from one launch to the next"
        tables.append(Table(f"{name}-changes", caption, pd.DataFrame(trials)))
    note = (
        "Each launch beside the one before it of the same scale and overrides. A trial that "
        "vanished is no longer in the definition; its records stay, with the launch that has it."
    )
    return Part(sweep.name, [note], tables)
