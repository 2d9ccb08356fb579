"""Importance: what part each parameter of a search has in its objective, and which are more than
noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from scipy import stats

from analysis.data.search_space import Range, Search
from analysis.stats.intervals import ALPHA, holm
from analysis.text.numbers import count, percent, plural

# On fewer completed trials a parameter they are a hint and no more.
TRIALS_A_PARAMETER = 10


def importances(trials: pd.DataFrame, search: Search) -> list[str]:
    """What part of the objective's variance each parameter explains; empty for one parameter.

    fANOVA (Hutter, Hoos and Leyton-Brown 2014), seeded, on the scale on which the search drew:
    logarithms where it is logarithmic. PED-ANOVA, Optuna's default, looks at the best tenth of the
    trials, which in a search of twenty is two of them.
    """
    if len(search.space) < 2:
        return []
    known = trials[trials["mark"].isin(["done", "nonfinite"])]
    # No less than the worst that was completed: as 0 one such trial would outweigh all others.
    values = known["value"].where(known["mark"] == "done", known["value"].min())
    if len(known) < 2:
        return ["Importances cannot be told from fewer than two completed trials."]
    if values.nunique() < 2:
        return ["Importances cannot be told: no two trials differ in their objective."]
    said = "Importances (fANOVA, the part of the objective's variance over the searched space): "
    said += "; ".join(
        over + ", ".join(f"{field} {percent(share, digits=0)} %" for field, share in shares.items())
        for over, shares in _parts(known, values, search)
    )
    said += "."
    if len(known) > (done := int((known["mark"] == "done").sum())):
        rest = len(known) - done
        said += f" {count(rest, 'non-finite trial')} {plural(rest, 'counts', 'count')} as "
        said += "the worst completed one."
    said += " " + _told_from_chance(known, values, search)
    if done < TRIALS_A_PARAMETER * len(search.space):
        said += (
            f" They rest on {count(done, 'completed trial')} for {len(search.space)} "
            f"parameters, fewer than {TRIALS_A_PARAMETER} a parameter: a hint, no finding."
        )
    return [said]


def association(known: pd.DataFrame, values: pd.Series[float], search: Search) -> dict[str, float]:
    """By field, the p-value that the objective has nothing to do with it, adjusted by Holm: Kruskal
    and Wallis (1952), between a choice's values, or between the thirds of the trials by the field.
    """
    found = []
    for field, space in search.space.items():
        # Of a field that one branch has, its trials alone.
        having = known[field].notna().to_numpy()
        column, of_these = known[field][having], values[having]
        if isinstance(space, Range):
            column = pd.qcut(column.rank(method="first"), min(3, len(column)), labels=False)
        groups = [group.to_numpy() for _, group in of_these.groupby(column.to_numpy())]
        same = len(groups) < 2 or of_these.nunique() < 2
        found.append(1.0 if same else float(stats.kruskal(*groups).pvalue))
    return dict(zip(search.space, holm(found), strict=True))


def _told_from_chance(known: pd.DataFrame, values: pd.Series[float], search: Search) -> str:
    """Which importances are more than noise: shares add up to all of it even where nothing does."""
    adjusted = association(known, values, search)
    told = [field for field, p in adjusted.items() if p <= ALPHA]
    how = f"Kruskal-Wallis test, adjusted by Holm for the {len(adjusted)} parameters"
    if not told:
        return f"No parameter's effect is told from chance ({how}): these shares may be noise."
    return f"Told from chance ({how}): {', '.join(told)}."


def _parts(
    known: pd.DataFrame, values: pd.Series[float], search: Search
) -> Iterator[tuple[str, dict[str, float]]]:
    """The shares of the parameters that all trials have, over all; then of those of each branch,
    over its trials; each with words that say over which, "" where that is plain."""
    present = known[list(search.space)].notna()
    always = [field for field in search.space if present[field].all()]
    if len(always) == len(search.space):
        yield "", _shares(known, values.tolist(), search)
        return
    said = []
    if len(always) > 1:
        yield "over all trials ", _shares(known, values.tolist(), _only(search, always))
        said.append(always)
    for pattern, rows in known.groupby([present[field].to_numpy() for field in search.space]):
        fields = [field for field, there in zip(search.space, pattern, strict=True) if there]
        of_these = values[rows.index]
        if len(fields) > 1 and fields not in said and len(rows) > 1 and of_these.nunique() > 1:
            of = [field for field in fields if field not in always]
            over = f"over the {count(len(rows), 'trial')} with {', '.join(of) or 'none of these'} "
            yield over, _shares(rows, of_these.tolist(), _only(search, fields))


def _only(search: Search, fields: list[str]) -> Search:
    return search.model_copy(update={"space": {key: search.space[key] for key in fields}})


def _shares(known: pd.DataFrame, values: list[float], search: Search) -> dict[str, float]:
    """By field, the greatest first; they sum to 1."""
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
    )

    spaces: dict[str, BaseDistribution] = {
        field: FloatDistribution(space.scale(space.low), space.scale(space.high))
        if isinstance(space, Range)
        else CategoricalDistribution(space.values)
        for field, space in search.space.items()
    }
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        for row, value in zip(known.to_dict("records"), values, strict=True):
            point = {
                field: space.scale(row[field]) if isinstance(space, Range) else row[field]
                for field, space in search.space.items()
            }
            study.add_trial(
                optuna.trial.create_trial(params=point, distributions=spaces, value=value)
            )
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    finally:
        optuna.logging.set_verbosity(level)
    order = list(search.space)
    return dict(sorted(found.items(), key=lambda item: (-item[1], order.index(item[0]))))
