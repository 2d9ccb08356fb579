"""The launches of a sweep, one after the other: which trials appeared, vanished and were kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sweeps.cli import table
from trial_records.history.launch_changes import Change, LaunchedTrials, changes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sweeps.state.plan import Plan
    from sweeps.state.progress import Progress

_SHOWN = 20
"""Names of trials, under the table."""


def changes_of(plans: Iterable[Plan]) -> list[Change]:
    """Of the launches of one sweep; a search, whose trials are its own choice, is none of them."""
    return changes(
        LaunchedTrials(
            plan.id,
            plan.created,
            plan.setting,
            {trial.fingerprint: trial.name for trial in plan.trials},
        )
        for plan in plans
        if plan.search is None
    )


def show(plans: list[tuple[Plan, list[Progress]]]) -> None:
    """Print a row for each launch, and the trials that appeared or vanished."""
    states = {one.trial.name: str(one.state) for _, ones in plans for one in ones}
    found = changes_of(plan for plan, _ in plans)
    rows = [
        (
            one.launch.id, one.launch.created, one.launch.setting, str(len(one.launch.trials)),
            *(["-"] * 3 if one.before is None else
              [str(len(names)) for names in (one.kept, one.appeared, one.vanished)]),
        )
        for one in found
    ]  # fmt: skip
    table.show(("launch", "created", "setting", "trials", "kept", "appeared", "vanished"), rows)
    for one in found:
        for what, names in (("appeared", one.appeared), ("vanished", one.vanished)):
            shown = ", ".join(f"{name} ({states.get(name, 'unknown')})" for name in names[:_SHOWN])
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            if names:
                line = f"{what} in {one.launch.id}: {shown}{more}"
                table.console(sys.stdout).print(table.text(line))


def to_json(sweep: str, plans: Iterable[Plan]) -> list[dict[str, Any]]:
    return [
        {
            "sweep": sweep,
            "id": one.launch.id,
            "created": one.launch.created,
            "setting": one.launch.setting,
            "trials": len(one.launch.trials),
            "before": None if one.before is None else one.before.id,
            "kept": one.kept,
            "appeared": one.appeared,
            "vanished": one.vanished,
        }
        for one in changes_of(plans)
    ]
