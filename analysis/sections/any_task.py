"""Any task: the points of a launch by its objective, and the curves of what was logged.

Nothing is known of such a task but its objective: this shows what was measured, and `answers` says
whether seeds tell the best point from the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.data.search_space import Choice, Range
from analysis.data.study import Plan
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.sections.sweep import curves_of, factors, lacking
from analysis.stats import seed_values, summary_tables
from analysis.stats.intervals import MIN_SEEDS, deviation, seed_interval
from analysis.text.numbers import count, have
from analysis.text.words import values

_REDUCED = {
    "best": "of the best row that a trial logged",
    "last": "of the last row that a trial logged",
    "final": "that a trial returned",
}


def parts(plan: Plan) -> list[Part]:
    """Draws every figure."""
    metric = plan.task.metric
    said = [preface(plan), *(_search(plan) or [factors(plan)])]
    if metric is None:
        said.append("The task names no objective, by which its points could be compared.")
        return [Part(wording.title(plan), [*said, *lacking(plan)])]
    table = points(plan)
    name = wording.name(plan)
    aim = "Higher" if plan.task.direction == "maximize" else "Lower"
    said.append(
        f"Compared by {metric}, {_REDUCED[plan.task.reduction]}. {aim} is better. {first(plan)}"
    )
    caption = f"{metric} of {plan.sweep}: {wording.over_seeds(plan)}, best mean first"
    footnotes = [
        f"from, to: Student's t interval (95 %) of the mean over seeds; none under {MIN_SEEDS} "
        "seeds. It is of each point alone, and no test of a difference between two."
    ]
    if table["from"].isna().all():
        table, footnotes = table.drop(columns=["from", "to"]), []
    return [
        Part(
            wording.title(plan),
            [*said, *lacking(plan), *_without(plan)],
            [Table(name, caption, table)],
            _curves(plan, metric),
            footnotes,
        )
    ]


def preface(plan: Plan) -> str:
    runs = plan.runs
    seeds = f" {count(runs['seed'].nunique(), 'seed')}: {values(runs['seed'])}."
    return (
        f"Task: {plan.task.name}. Scale: {plan.scale}.{seeds if plan.task.seed else ''} "
        f"Overrides: {wording.overrides(plan)}.{wording.same_results(plan)}"
        + " The runs were made elsewhere and adopted."
        * plan.task.is_adopted
    )


def _search(plan: Plan) -> list[str]:
    """How its points were chosen, and among which, where a search chose them."""
    if plan.search is None:
        return []
    pruner = plan.search.pruner
    stopped = "" if pruner == "none" else f", and pruner {pruner} stopped what lagged behind"
    space = "; ".join(f"{key} {_range(one)}" for key, one in plan.search.space.items())
    said = f"A search: sampler {plan.search.sampler} chose the points{stopped}."
    return [said, f"It searched {space}."]


def _range(one: Range | Choice) -> str:
    if isinstance(one, Choice):
        return f"among {', '.join(map(str, one.values))}{one.condition}"
    scale = " on a logarithmic scale" if one.log else ""
    return f"from {one.low:g} to {one.high:g}{scale}{one.condition}"


def points(plan: Plan) -> pd.DataFrame:
    """A row a point, by the mean of its objective over seeds, best first; points without one
    last."""
    return _ranked(plan).reset_index(drop=True)


def best(plan: Plan) -> dict[str, Any] | None:
    """The point with the best mean of the objective, as `seed_values.points` has it; None where no
    trial has a value."""
    table = _ranked(plan)
    if table.empty or pd.isna(table["mean"].iloc[0]):
        return None
    return seed_values.points(plan)[int(table.index[0])]


def _ranked(plan: Plan) -> pd.DataFrame:
    """`points`, whose index says where each stands in the launch."""
    rows = []
    measured = plan.runs["objective"].to_numpy(float)
    # One that only repeats another seed's result says nothing new.
    counts = np.isfinite(measured) & ~plan.runs["repeated"].to_numpy(bool)
    flags = plan.runs["flags"].tolist()
    for point, at in zip(seed_values.points(plan), seed_values.places(plan), strict=True):
        found = measured[at[counts[at]]].tolist()
        low, high = seed_interval(found) or (None, None)
        rows.append(
            {
                **{axis: shown(value) for axis, value in point.items()},
                "mean": _rounded(float(np.mean(found)) if found else None),
                "mean sd": _rounded(deviation(found)),
                "from": _rounded(low),
                "to": _rounded(high),
                "n": len(found),
                "planned": len(at),
                "flags": ", ".join(sorted({code for one in at for code in flags[one]})),
            }
        )
    table = pd.DataFrame(rows)
    table["mean"] = table["mean"].astype(float)
    ascending = plan.task.direction == "minimize"
    return table.sort_values("mean", ascending=ascending, kind="stable")


def first(plan: Plan) -> str:
    """Which point has the best mean."""
    table = points(plan)
    if table.empty or pd.isna(table["mean"][0]):
        return "No trial has a value of it yet."
    values = {axis: table[axis][0] for axis in plan.axes}
    # A search's branches have fields of their own.
    point: dict[str, Any] = {axis: one for axis, one in values.items() if not pd.isna(one)}
    n = int(table["n"][0])
    mean = f"{table['mean'][0]:g} over {count(n, 'trial')}"
    if len(table) == 1:
        return f"Its mean is {mean}." if n > 1 else f"Its value is {table['mean'][0]:g}."
    return f"The best mean, {mean}, has {seed_values.words(point)}."


def _without(plan: Plan) -> list[str]:
    done = plan.runs[plan.runs["state"] == "done"]
    missing = len(done) - int(np.isfinite(done["objective"].astype(float)).sum())
    if not missing:
        return []
    return [
        f"{count(missing, 'trial')} of {len(done)} that are done {have(missing)} no finite value "
        f"of {plan.task.metric}, and {have(missing)} no part in the means."
    ]


def shown(value: Any) -> Any:
    """A search draws more digits than anybody reads."""
    return _rounded(value) if isinstance(value, float) else value


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _curves(plan: Plan, metric: str) -> list[Picture]:
    rows = plan.logged[plan.logged["metric"] == metric].dropna(subset=["at"])
    if not rows["value"].notna().any():
        return []
    by = ", ".join(dict.fromkeys(rows["by"]))
    return curves_of(plan, rows, (metric, f"{by}s"), (by, metric))


def trials(plan: Plan) -> list[Part]:
    """Every trial: what became of each that was planned."""
    runs = plan.runs
    frame = pd.DataFrame(
        {
            "trial": runs["trial"],
            "seed": runs["seed"],
            "state": runs["state"],
            "value": runs["objective"].astype(float).map(_rounded),
            "seconds": runs["seconds"].astype(float).round(1),
            "flags": runs["flags"].map(", ".join),
        }
    )
    frame = summary_tables.with_notes(frame, runs)
    caption = f"Every planned trial of {plan.sweep}; value: {plan.task.metric or 'none'}"
    table = Table(
        f"{wording.name(plan)}-trials", caption, frame, best=("value", plan.task.direction)
    )
    return [Part(wording.title(plan), tables=[table])]
