"""What the report's other launches know of a searched field."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data.search_space import Search
from analysis.data.study import POINT
from analysis.sections.search.asked_trials import OBJECTIVES, number
from analysis.stats.intervals import MIN_SEEDS
from analysis.stats.seed_values import difference, judged, would_tell
from analysis.text.numbers import percent

if TYPE_CHECKING:
    from analysis.data.study import Plan


def like_chosen(
    plan: Plan, search: Search, best: pd.Series[Any] | None, field: str
) -> pd.Series[Any] | None:
    """The row that another launch's trial must equal, but for the field and the seed: the chosen
    one's. Where nothing is chosen, every trial of a search of one field will do.
    """
    if best is None and len(search.space) > 1:
        return None
    return plan.runs.iloc[0 if best is None else int(best["order"]) - 1]


def _equal_settings(
    others: list[Plan], like: pd.Series[Any], field: str, objective: str
) -> pd.DataFrame:
    """The other launches' trials that equal `like` in everything but the field and the seed, each
    configuration once: `x` (the field, as the definition has it), `seed`, `value`.
    """
    fixed = list(dict.fromkeys(key for plan in others for key in plan.fields))
    fixed = [key for key in fixed if key not in (field, "seed")]
    frames = [pd.DataFrame({"x": [], "seed": [], "value": [], "fingerprint": []})]
    for plan in others:
        same = pd.Series(True, index=plan.runs.index)
        for key in fixed:
            wanted, column = like.get(key), plan.runs.get(key, pd.Series(None, plan.runs.index))
            same &= column.isna() if pd.isna(wanted) else column == wanted
        found = plan.runs[same]
        x = found[POINT + field] if POINT + field in found else found[field]
        value = found[OBJECTIVES[objective][0]].astype(float)
        value = value.where(found["state"].eq("done") & ~found["repeated"])
        frames.append(
            pd.DataFrame(
                {
                    "x": x,
                    "seed": found["seed"],
                    "value": value,
                    "fingerprint": found["fingerprint"],
                }
            )
        )
    table = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    # One that was run in two sweeps counts once, the one with a result before the other.
    table = table.sort_values("value", kind="stable", na_position="last")
    return table.drop_duplicates("fingerprint").sort_values(["x", "seed"], kind="stable")


def grid_means(
    others: list[Plan], like: pd.Series[Any] | None, field: str, objective: str
) -> pd.DataFrame:
    """A row a value of the field in the launches that vary it under otherwise equal settings: `x`,
    `value` (mean over seeds), `n` and `planned`.
    """
    launches = [plan for plan in others if plan.search is None and field in plan.axes]
    if like is None or not launches:
        return pd.DataFrame(columns=["x", "value", "n", "planned"])
    groups = _equal_settings(launches, like, field, objective).groupby("x", sort=True)["value"]
    table = pd.DataFrame({"value": groups.mean(), "n": groups.count(), "planned": groups.size()})
    return table.reset_index()


def seeds(
    plan: Plan,
    search: Search,
    best: pd.Series[Any],
    others: list[Plan],
    field: str,
    label: str,
    value: float,
    comparisons: int = 1,
) -> str:
    """Whether seeds tell the chosen value of the field from a reported one: means and the paired
    difference, from the other launches' trials under otherwise equal settings, adjusted for the
    number of such comparisons. The run that the search chose is none of them.
    """
    mine = f"the chosen {field} {number(best[field])}"
    theirs = f"the reported {number(value)}{label}"
    if best[field] == value:
        return f"{mine[0].upper()}{mine[1:]} is {theirs}."
    like = plan.runs.iloc[best["order"] - 1]
    table = _equal_settings(others, like, field, search.objective).dropna(subset="value")
    table = table[table["fingerprint"] != like["fingerprint"]]
    by_seed = [
        dict(zip(rows["seed"], rows["value"], strict=True))
        for rows in (table[table["x"] == best[field]], table[table["x"] == value])
    ]
    a, b = by_seed
    found = difference(a, b, None if pd.isna(like["val_images"]) else int(like["val_images"]))
    if found is None or found.told_apart is None:
        would = "" if found is None else f": {would_tell(found)}"
        return (
            f"There are not enough seeds to tell {mine} from {theirs}{would}. The report's other "
            f"launches have {len(a)} and {len(b)} under otherwise equal settings (the run that "
            "the search chose is left out, since it is the best of many), and a test needs "
            f"{MIN_SEEDS} that both have."
        )
    found = found.bonferroni(comparisons, "comparisons with a reported value")
    means = [math.fsum(values.values()) / len(values) for values in by_seed]
    said = (
        "Over seeds, from the report's other launches under otherwise equal settings, without the "
        "run that the search chose, which is the best of many: "
    )
    said += ", ".join(
        f"{percent(mean)} % for {who} (n {len(values)})"
        for mean, who, values in zip(means, (mine, theirs), by_seed, strict=True)
    )
    return f"{said}; difference {found}: {judged(found)}."
