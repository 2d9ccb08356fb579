"""How flat a search's optimum is: what one standard error does not tell from the best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data.search_space import EDGE, Choice, Range, Search
from analysis.sections.search.asked_trials import asked, chosen, has, number, standard_error
from analysis.sections.search.other_launches import seeds
from analysis.stats.importance import importances
from analysis.text.numbers import count, percent, plural

if TYPE_CHECKING:
    from analysis.data.study import Plan
    from analysis.data.task import Reported


def judgement(plan: Plan, search: Search, others: list[Plan], reported: Reported) -> list[str]:
    """How sure the chosen values are: from one standard error, from seeds, and importances. Nothing
    where nothing is chosen.
    """
    trials = asked(plan, search)
    best = chosen(trials)
    if best is None:
        return []
    error, images = standard_error(plan, best)
    mine = has(best, search)
    values = {field: reported.values(field) for field in mine}
    comparisons = sum(
        value != best[field] for field, named in values.items() for value in named.values()
    )
    return [
        _error_words(best, error, images),
        *(
            flat(trials, best, error, field, space, values[field])
            if field in mine
            else f"{field}: the best trial does not have it."
            for field, space in search.space.items()
        ),
        *(
            seeds(plan, search, best, others, field, label, value, comparisons)
            for field in mine
            for label, value in values[field].items()
        ),
        *importances(trials, search),
    ]


def _error_words(best: pd.Series[Any], error: float | None, images: int) -> str:
    if error is None:
        return (
            "The chosen run does not say how many validation images it had, so that there is no "
            "standard error to compare with."
        )
    return (
        f"One standard error is {percent(error)} points: the binomial one of "
        f"{percent(best['value'])} % on {images:,} validation images. It leaves out the seed, "
        "which moves an accuracy too."
    )


_AT_EDGE = (
    " The best value, {value}, lies in the {end} {part} % of the searched range: a better one may "
    "lie beyond it, where the search did not look."
)


def flat(
    trials: pd.DataFrame,
    best: pd.Series[Any],
    error: float | None,
    field: str,
    space: Range | Choice,
    reported: Mapping[str, float],
) -> str:
    """Which values of the field are as good as the best, within one standard error; whether each
    reported value is among them; and whether the best is at an edge of its range.
    """
    done = trials[(trials["mark"] == "done") & trials[field].notna()]
    value = number(best[field])
    said = [f"the best value is {value}."]
    if error is not None:
        # Two equal counts of images can differ in their quotient's last digit.
        good = done["value"] >= best["value"] - error - 1e-12
        said = [_within(done, good, value, field, space)]
        said += [_place(label, one, field, space, done[good]) for label, one in reported.items()]
    end = space.edge(float(best[field])) if isinstance(space, Range) else None
    edge = _AT_EDGE.format(value=value, end=end, part=percent(EDGE, digits=0)) if end else ""
    return f"{field}: {' '.join(said)}{edge}"


def _within(
    done: pd.DataFrame, good: pd.Series[bool], best: str, field: str, space: Range | Choice
) -> str:
    """How many of the completed trials are good, and which values they have."""
    completed = count(len(done), "completed trial")
    if len(done) == 1:
        return f"the one completed trial has {best}."
    if good.sum() == 1:
        return f"of {completed}, only the best, {best}, is within one standard error of it."
    values, rest = done[field][good], ""
    if isinstance(space, Range):
        low, high = min(values), max(values)
        told = (
            f"values from {number(low)} to {number(high)}"
            if low < high
            else (f"the value {number(low)}")
        )
        if below := int((done[field].between(low, high) & ~good).sum()):
            rest = (
                f" {below} more {plural(below, 'has a value', 'have values')} in that range and "
                f"{plural(below, 'was', 'were')} seen further below."
            )
    else:
        among = [value for value in space.values if value in set(values)]
        told = f"{plural(len(among), 'the value', 'values')} {', '.join(map(number, among))}"
    return (
        f"{good.sum()} of {completed} are within one standard error of the best, with {told}.{rest}"
    )


def _place(label: str, value: float, field: str, space: Range | Choice, good: pd.DataFrame) -> str:
    said = f"The reported {number(value)}{label} "
    if not space.holds(value):
        return said + "was not in the searched range."
    if len(good) == 1:
        return said + f"is {'that' if value == good[field].iloc[0] else 'another'} value."
    if isinstance(space, Range):
        inside = good[field].min() <= value <= good[field].max()
        return said + f"lies {'inside' if inside else 'outside'} that range."
    return said + f"is {'' if value in set(good[field]) else 'not '}among them."
