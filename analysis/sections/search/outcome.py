"""What a search asked for, what became of it, what it cost and what it chose: a sentence each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data.search_space import Range, Search
from analysis.sections.search.asked_trials import OBJECTIVES, as_float, asked, chosen, has, number
from analysis.text.numbers import count, fixed, percent

if TYPE_CHECKING:
    from analysis.data.study import Plan


def account(plan: Plan, search: Search) -> list[str]:
    """What was asked for, what became of it, what it cost, and what is chosen: a sentence each."""
    trials = asked(plan, search)
    return [
        _asked_for(search),
        _outcome(search, trials),
        _effort(plan, trials),
        _choice(plan, search, trials, chosen(trials)),
    ]


def _asked_for(search: Search) -> str:
    spaces = []
    for field, values in search.space.items():
        if isinstance(values, Range):
            scale = " (logarithmic)" if values.log else ""
            spaces.append(f"{field} from {number(values.low)} to {number(values.high)}{scale}")
        else:
            spaces.append(f"{field} among {', '.join(map(number, values.values))}")
        spaces[-1] += values.condition
    return (
        f"Sampler {search.sampler}, pruner {search.pruner}, seed {search.seed}. The search "
        f"maximises the {OBJECTIVES[search.objective][1]} over {'; '.join(spaces)}."
    )


def _outcome(search: Search, trials: pd.DataFrame) -> str:
    marks = trials["mark"].value_counts()
    nonfinite = int(marks.get("nonfinite", 0))
    failed = nonfinite + int(marks.get("failed", 0))
    said = (
        f"It was to ask for {count(search.trials, 'trial')} and has asked for "
        f"{count(len(trials), 'configuration')}: {marks.get('done', 0)} done, "
        f"{marks.get('pruned', 0)} pruned, {failed} failed"
    )
    if nonfinite:
        said += f" ({nonfinite} NONFINITE, which counts as the worst value)"
    return said + (f", {marks['open']} without an end yet." if "open" in marks else ".")


def _effort(plan: Plan, trials: pd.DataFrame) -> str:
    trained = int(trials["epochs"].sum())
    pruned = (trials["mark"] == "pruned").to_numpy()
    said = f"They trained {count(trained, 'epoch')}"
    if not pruned.any():
        return said + "; none was pruned."
    planned = pd.to_numeric(plan.runs["epochs"], errors="coerce")[pruned]
    if planned.isna().any():
        return said + "; how many pruning spared is not known."
    spared = int((planned.to_numpy() - trials["epochs"].to_numpy()[pruned]).sum())
    whole = trained + spared
    part = fixed(100 * spared / whole, digits=0)
    return (
        f"{said}; without pruning it would have been at most {whole:,}, every pruned trial "
        f"running to its last planned epoch: pruning spared up to {part} %."
    )


def _choice(plan: Plan, search: Search, trials: pd.DataFrame, best: pd.Series[Any] | None) -> str:
    if best is None:
        return "No trial was completed, so that nothing is chosen."
    point = ", ".join(f"{field} {number(best[field])}" for field in has(best, search))
    done = trials[trials["mark"] == "done"]
    said = (
        f"The {'best ' * (len(done) > 1)}{OBJECTIVES[search.objective][1]}, "
        f"{percent(best['value'])} %, is that of "
        f"{'the one completed trial, ' * (len(done) == 1)}{point} (asked as number {best['order']})"
    )
    test = as_float(plan.runs["test_accuracy"].iloc[best["order"] - 1])
    if not math.isnan(test):
        said += f", with {percent(test)} % on the test images, which select nothing"
    said += "."
    equal = int((done["value"] == best["value"]).sum())
    if equal > 1:
        said += f" {equal} completed trials have it; the first that was asked for is taken."
    elif len(done) > 1:
        second = done["value"].nlargest(2).iloc[1]
        said += (
            f" The next best has {percent(second)} %: of one run each, nothing tells the two "
            "apart from what another seed would do."
        )
    return said + (f" It is flagged {best['flags']}." if best["flags"] else "")
