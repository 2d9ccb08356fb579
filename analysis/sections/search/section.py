"""The report's part on a search: what it asked for, what came of it, how sure its best value is.

Only validation accuracy is compared: it is what the search maximised, and the test images select
nothing. The best of many noisy figures flatters itself, so that the best value is shown with all
that one standard error does not tell from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data.search_space import Choice, Range, Search
from analysis.figures import search as figures
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.sections.search.asked_trials import OBJECTIVES, asked, chosen, number, standard_error
from analysis.sections.search.flatness import judgement
from analysis.sections.search.other_launches import grid_means, like_chosen
from analysis.sections.search.outcome import account
from analysis.stats import selection_bias
from analysis.stats.intervals import POWER_NOTE
from analysis.text import words
from analysis.text.numbers import count

if TYPE_CHECKING:
    from analysis.data.study import Plan, Study

_TABLE_ROWS = 10


def parts(plan: Plan, study: Study) -> list[Part]:
    """What came of the plan's search, then how flat its optimum is. Draws every figure."""
    search = plan.search
    assert search is not None
    others = [other for other in study.plans if other is not plan]
    reported = study.task.reported
    trials = asked(plan, search)
    best = chosen(trials)
    table = _best_ten(trials, search)
    which, what = f"{plan.sweep} ({plan.id})", OBJECTIVES[search.objective][1]
    name, title = wording.name(plan), wording.title(plan)
    error = standard_error(plan, best)[0]
    history = Picture(
        f"{name}-history",
        f"The {what} in the order in which {which} asked for its trials, and the best so far",
        figures.history(trials, error, _pruned_label(search)),
    )
    pictures, footnotes = [], []
    for field, space in search.space.items():
        means = grid_means(others, like_chosen(plan, search, best, field), field, search.objective)
        footnotes += _unplaced(field, means, space)
        caption = f"The {what} of {which} over {field}"
        caption += "; the band is one standard error under the best" if error else ""
        lines = _lines(field, space, best, reported.values(field))
        having = trials[trials[field].notna()].reset_index(drop=True)
        if len(having) < len(trials):
            caption += f"; {count(len(having), 'trial')} of {len(trials)} that have it"
        if having.empty:
            continue
        shown = error if having["value"].notna().any() else None
        figure = figures.parameter(having, field, space, means, lines, shown, _pruned_label(search))
        pictures.append(Picture(f"{name}-{words.file_name(field)}", caption, figure))
    if len(search.space) > 1 and best is not None:
        footnotes.append("A parameter's values are counted whatever the other parameters are.")
    if best is not None:
        footnotes.append(POWER_NOTE)
    return [
        Part(
            title,
            [
                wording.preface(plan, reported.why_no_evidence(plan)),
                *account(plan, search),
                *_flattered(plan, study, best),
            ],
            [Table(f"{name}-best", f"The best trials of {which}, in %", table)] * bool(len(table)),
            [history],
            _pruned_note(search, trials),
        ),
        Part(
            f"{title}: how flat is the optimum",
            judgement(plan, search, others, reported),
            [],
            pictures,
            footnotes,
        ),
    ]


def _flattered(plan: Plan, study: Study, best: pd.Series[Any] | None) -> list[str]:
    if best is None:
        return []
    by_best = plan.search is not None and plan.search.objective == "best"
    return [
        *selection_bias.of_best(study, plan, plan.runs.iloc[best["order"] - 1]),
        *(selection_bias.best_epoch(plan.runs) if by_best else []),
    ]


# --- trials ----------------------------------------------------------------------------------


def _best_ten(trials: pd.DataFrame, search: Search) -> pd.DataFrame:
    done = trials[trials["mark"] == "done"]
    best = done.sort_values("value", ascending=False, kind="stable").head(_TABLE_ROWS)
    return pd.DataFrame(
        {
            "asked": best["order"],
            **{field: best[field].map(number) for field in search.space},
            "validation": best["value"],
            "epochs": best["epochs"],
            "flags": best["flags"],
            "trial": best["trial"],
        }
    )


# --- text ------------------------------------------------------------------------------------


def _pruned_label(search: Search) -> str:
    return "pruned, at its " + ("best so far" if search.objective == "best" else "last epoch")


def _lines(
    field: str, space: Range | Choice, best: pd.Series[Any] | None, reported: Mapping[str, float]
) -> dict[str, Any]:
    """Labels and places of the vertical lines."""
    lines: dict[str, Any] = {}
    if best is not None and not pd.isna(best[field]) and best[field] not in reported.values():
        lines[f"chosen: {number(best[field])}"] = best[field]
    for label, value in reported.items():
        if space.holds(value):
            who = "reported" if best is None or best[field] != value else "chosen and reported"
            lines[f"{who}: {number(value)}{label}"] = value
    return lines


def _unplaced(field: str, means: pd.DataFrame, space: Range | Choice) -> list[str]:
    if isinstance(space, Range) and space.log and (means["x"] <= 0).any():
        return [f"Launches with {field} 0 have no place on a logarithmic axis and are not drawn."]
    return []


def _pruned_note(search: Search, trials: pd.DataFrame) -> list[str]:
    if (trials["mark"] != "pruned").all():
        return []
    where = "best epoch so far" if search.objective == "best" else "last epoch"
    return [
        f"A pruned trial stands at its {where}. It had not been trained to its end, so that it "
        "does not compare with a completed one."
    ]
