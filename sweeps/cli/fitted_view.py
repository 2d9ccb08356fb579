"""Sweeps under way, as much of them as fits on a terminal: what failed and what runs comes first,
each trial on one line, and what is not shown is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from sweeps.cli import table
from sweeps.cli.trial_table import best_of_all, columns, duration, row
from sweeps.state.progress import eta_seconds, summary
from sweeps.state.trial_store import State

if TYPE_CHECKING:
    from sweeps.state.plan import Plan
    from sweeps.state.progress import Progress

_ORDER = (
    State.FAILED, State.UNKNOWN, State.LOST, State.RUNNING, State.QUEUED, State.PENDING,
    State.PRUNED, State.DONE,
)  # fmt: skip
_BAR = 20
_GAP = "  "
# Lines of a plan beside its trials: the counts, the bar, the headings and what is not shown.
_AROUND = 4
_SHORTEST_NAME, _SHORTEST_NOTE = 16, 20


def fitted(plans: Sequence[tuple[Plan, list[Progress]]], console: Console) -> Group:
    """Of each plan its counts, a bar with the time left, and its trials; no line is wider than the
    console, and all of them are fewer than it has. Where many trials failed, each running one still
    has its line."""
    lines = console.height - 1
    if len(plans) * (_AROUND + 1) > lines:
        shown = [_counts(*pair) for pair in plans[: lines - 1]]
        if len(plans) > len(shown):
            shown.append(table.text(f"and {len(plans) - len(shown)} more sweeps"))
        return Group(*(_cut(line, console.width) for line in shown))
    chosen = _chosen(plans, lines - _AROUND * len(plans))
    every = [line for pair in plans for line in _of_plan(*pair, chosen, console)]
    return Group(*(_cut(line, console.width) for line in every))


def _chosen(plans: Sequence[tuple[Plan, list[Progress]]], room: int) -> set[int]:
    """The trials that have a line, by their `id`."""
    every = sorted((one for _, ones in plans for one in ones), key=_rank)
    running = [one for one in every if one.state is State.RUNNING][:room]
    others = [one for one in every if one.state is not State.RUNNING]
    return {id(one) for one in [*running, *others[: room - len(running)]]}


def _rank(one: Progress) -> int:
    return _ORDER.index(one.state)


def _of_plan(
    plan: Plan, progress: list[Progress], chosen: set[int], console: Console
) -> list[Text]:
    ordered = sorted(progress, key=_rank)
    shown = [one for one in ordered if id(one) in chosen]
    rows = _aligned([columns(plan), *(row(one) for one in shown)], console.width)
    heading, *others = rows
    heading.stylize("bold")
    hidden = Counter(str(one.state) for one in ordered if id(one) not in chosen)
    said = " and ".join(f"{number} {state}" for state, number in hidden.items())
    command = f"python -m sweeps.status {plan.sweep}"
    fold = table.text(f"not shown: {said}; all of them: {command}" if hidden else "", "dim")
    return [_counts(plan, progress), _progress(progress, console), heading, *others, fold]


def _counts(plan: Plan, progress: list[Progress]) -> Text:
    return table.text(f"{plan.sweep} ({plan.setting}): {summary(progress)}")


def _progress(progress: list[Progress], console: Console) -> Text:
    """A bar, how long the rest takes, and the best trial so far."""
    share = sum(map(_share, progress)) / max(1, len(progress))
    full, empty = ("█", "░") if console.encoding.startswith("utf") else ("#", ".")
    done = int(share * _BAR)
    words = f"{full * done}{empty * (_BAR - done)} {int(100 * share):3} %"
    if (left := eta_seconds(progress)) is not None:
        words += f"{_GAP}about {duration(left)} left"
    if (top := best_of_all(progress)) is not None:
        words += f"{_GAP}best {top.what} {top.best_in_words} ({top.trial.name})"
    return table.text(words)


def _share(one: Progress) -> float:
    """How much of a trial is over."""
    if one.state.is_over:
        return 1.0
    return min(1.0, one.epochs_done / one.trial.epochs) if one.trial.epochs else 0.0


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[Text]:
    """The cells below each other; of a narrow terminal, names and notes give way."""
    cells = [[table.text(cell) for cell in one] for one in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    middle = sum(widths[1:-1]) + len(_GAP) * (len(widths) - 1)
    widths[0] = min(
        widths[0], max(_SHORTEST_NAME, width - middle - min(widths[-1], _SHORTEST_NOTE))
    )
    lines = []
    for one, plain in zip(cells, rows, strict=True):
        line = Text()
        for cell, wide in zip(one[:-1], widths[:-1], strict=True):
            cell.truncate(wide, overflow="ellipsis", pad=True)
            line.append_text(cell).append(_GAP)
        line.append_text(one[-1])
        line.stylize(table.STYLES.get(plain[1], ""))
        lines.append(line)
    return lines


def _cut(line: Text, width: int) -> Text:
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis")
    return line
