"""The table of a plan's trials, under a line that sums them up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sweeps.state.plan import Plan
    from sweeps.state.progress import Progress


def columns(plan: Plan) -> tuple[str, ...]:
    """The headings; how far a trial is, is counted in units of its task's budget, else in rows."""
    unit = (plan.task.budget or "rows").rpartition(".")[2].removesuffix("s")
    return ("trial", "state", unit, "best", "left", "note")


def view(plan: Plan, progress: list[Progress], height: int) -> RenderableType:
    """The table of one plan's trials, under a line that sums them up, for a terminal of that
    height, which shows no more rows."""
    from rich.console import Group

    from sweeps.cli import table

    line, rows = summed_up(plan, progress)
    return Group(table.text(line), table.make(columns(plan), rows[:height]))


def summed_up(plan: Plan, progress: list[Progress]) -> tuple[str, list[tuple[str, ...]]]:
    """The line that sums a plan's trials up, and their rows."""
    from sweeps.cost.tally import tally
    from sweeps.state.progress import best_of_all, duration, eta_seconds, summary

    rows: list[tuple[str, ...]] = [
        (
            one.trial.name,
            str(one.state),
            f"{one.epochs_done}/{one.trial.epochs or '-'}",
            "-" if one.best is None else one.best_in_words,
            duration(one.eta_seconds),
            one.note,
        )
        for one in progress
    ]
    line = f"{plan.sweep} ({plan.setting}): {summary(progress)}"
    if (left := eta_seconds(progress)) is not None:
        line += f"; about {duration(left)} left"
    spent, to_come = tally(progress)
    line += f"; {hours_in_words(spent)} of training done" if spent else ""
    line += f", {hours_in_words(to_come)} to come" if spent and to_come else ""
    if (top := best_of_all(progress)) is not None:
        line += f"; best {top.what} {top.best_in_words} ({top.trial.name})"
    return line, rows


def hours_in_words(hours: float) -> str:
    return f"{hours:.2f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
