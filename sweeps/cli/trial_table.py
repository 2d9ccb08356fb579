"""The table of a plan's trials, under a line that sums them up."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.state.plan import Plan
    from sweeps.state.progress import Progress


def columns(plan: Plan) -> tuple[str, ...]:
    """The headings; how far a trial is, is counted in units of its task's budget, else in rows."""
    unit = (plan.task.budget or "rows").rpartition(".")[2].removesuffix("s")
    return ("trial", "state", unit, "best", "left", "note")


def row(one: Progress) -> tuple[str, ...]:
    """A trial's cells under `columns`."""
    return (
        one.trial.name,
        str(one.state),
        f"{one.epochs_done}/{one.trial.epochs or '-'}",
        "-" if one.best is None else one.best_in_words,
        duration(one.eta_seconds),
        one.note,
    )


def summed_up(plan: Plan, progress: list[Progress]) -> tuple[str, list[tuple[str, ...]]]:
    """The line that sums a plan's trials up, and their rows."""
    from sweeps.cost.tally import tally
    from sweeps.state.progress import eta_seconds, summary

    line = f"{plan.sweep} ({plan.setting}): {summary(progress)}"
    if (left := eta_seconds(progress)) is not None:
        line += f"; about {duration(left)} left"
    spent, to_come = tally(progress)
    line += f"; {hours_in_words(spent)} of training done" if spent else ""
    line += f", {hours_in_words(to_come)} to come" if spent and to_come else ""
    if (top := best_of_all(progress)) is not None:
        line += f"; best {top.what} {top.best_in_words} ({top.trial.name})"
    return line, [row(one) for one in progress]


def hours_in_words(hours: float) -> str:
    return f"{hours:.2f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def best_of_all(progress: Iterable[Progress]) -> Progress | None:
    """The trial whose best row is the best; None where none has one. Of trials of one task, without
    those that are excluded."""
    found = [one for one in progress if one.best is not None and not one.marked.excluded]
    if not found:
        return None
    sign = 1 if found[0].trial.task.direction == "maximize" else -1
    return max(found, key=lambda one: sign * (one.best or 0.0))


def duration(seconds: float | None) -> str:
    """`1:05`, `2:03:04`, or a dash."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    return time.strftime("%-H:%M:%S" if seconds >= 3600 else "%-M:%S", time.gmtime(seconds))
