"""Selection: which runs a choice was made by, and what seeds that chose nothing say of the same.

The highest of several noisy figures is too high on average, by the luck that put it first: so are
the accuracies, on the very seeds that chose, of whatever was chosen. A run is known by the digits
of its fingerprint that end a trial's name, whatever the sweep: the run that won a search may be
part of a comparison too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.data.study import Plan, Study
from analysis.data.study_choices import Candidate, Choice, read_all
from analysis.stats import seed_values
from analysis.stats.intervals import ALPHA, mean_p
from analysis.text import words
from analysis.text.numbers import count, percent, plural

_DIGITS = 8


@dataclass(frozen=True)
class Fresh:
    """What a configuration has, such as validation accuracies (0 to 1), on seeds that were
    candidates of nothing."""

    seeds: list[int]
    values: list[float]

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    def __str__(self) -> str:
        seeds = ", ".join(map(str, self.seeds))
        return f"{percent(self.mean)} % ({count(len(self.seeds), 'seed')}: {seeds})"


def candidates(choice: Choice) -> set[str]:
    """The digits of all runs that a choice was made by."""
    return {name[-_DIGITS:] for one in choice.candidates for name in one.trials}


def winner(choice: Choice) -> Candidate | None:
    """The candidate that was chosen; None where another point was written down by hand."""
    wanted = choice.chosen.items()
    return next((one for one in choice.candidates if wanted <= one.point.items()), None)


def choices_of(study: Study) -> list[Choice]:
    """Every study's choices in the results folder, whatever sweeps the report has; what is wrong
    with one is told where it is shown."""
    return [choice for _, found in read_all(study.results, []) for choice in found.stages]


def fresh(
    study: Study, run: pd.Series[Any], chose: Collection[str], column: str = "val_accuracy"
) -> Fresh | None:
    """What the same configuration has on other seeds whose runs are not among those that chose;
    None where no such run has a result. `column` is the one that was chosen by."""
    runs = study.trials
    runs = _known(runs[runs["data"] == run["data"]], column)
    runs = runs[~_digits(runs).isin(list(chose))]
    fields = {name for plan in study.plans for name in plan.fields} - {"seed"}
    for name in fields:
        value = run.get(name)
        same = runs[name].isna() if pd.isna(value) else runs[name] == value
        runs = runs[same]
    runs = runs[runs["seed"].notna()].drop_duplicates("fingerprint").sort_values("seed")
    if runs.empty:
        return None
    return Fresh([int(seed) for seed in runs["seed"]], [float(one) for one in runs[column]])


def _known(runs: pd.DataFrame, column: str = "val_accuracy") -> pd.DataFrame:
    return runs[(runs["state"] == "done") & runs[column].notna()]


def _digits(runs: pd.DataFrame) -> pd.Series[str]:
    return runs["fingerprint"].str[:_DIGITS]


def row_of(study: Study, name: str) -> pd.Series[Any] | None:
    """A run of the report by the digits that end the trial's name; None where there is none."""
    runs = study.trials
    found = runs[_digits(runs) == name[-_DIGITS:]]
    return None if found.empty else found.iloc[0]


def of_choice(study: Study, choice: Choice) -> Fresh | None:
    """What seeds that were candidates of no choice have of the chosen configuration."""
    won = winner(choice)
    run = None if won is None else row_of(study, won.trials[0])
    if run is None:
        return None
    column = "val_accuracy" if choice.is_trainers else "objective"
    return fresh(_alike(study, choice), run, _all_candidates(study), column)


def _alike(study: Study, choice: Choice) -> Study:
    """Of the study the launches of the task, by the objective, that the choice is of."""
    ours = [plan.task.objective for plan in study.plans if plan.sweep == choice.stage]
    return study.only(
        lambda plan: (
            plan.task.name == choice.task and (choice.is_trainers or plan.task.objective in ours)
        )
    )


def _all_candidates(study: Study) -> set[str]:
    return set().union(*map(candidates, choices_of(study)))


def of_best(study: Study, plan: Plan, run: pd.Series[Any]) -> list[str]:
    """Of the best point of a launch, which `run` is of: what its place does to its accuracy, and
    what seeds that chose nothing say: a sentence, where there was a choice."""
    compared = len(seed_values.points(replace(plan, runs=_known(plan.runs))))
    if compared < 2:
        return []
    found = fresh(study, run, {*_all_candidates(study), *_digits(plan.runs)})
    said = (
        f"As the best of {compared} points on these very seeds and validation images, its accuracy "
        "is too high on average"
    )
    if found is None:
        return [f"{said}; there is no run of it with a seed that chose nothing."]
    return [f"{said}; over seeds that chose nothing the same configuration has {found}."]


def notes(plan: Plan, study: Study) -> list[str]:
    """Of a launch's runs: which of them an earlier choice was made in favour of, and what the best
    epoch adds: a sentence each."""
    return [*_chosen_before(plan, study), *best_epoch(plan.runs)]


def _chosen_before(plan: Plan, study: Study) -> list[str]:
    said = []
    known = _known(plan.runs)
    for choice in _before(plan, study):
        won = winner(choice)
        if won is None or len(choice.candidates) < 2:
            continue
        chose = [name[-_DIGITS:] for name in won.trials]
        won_by = known[_digits(known).isin(chose)]
        # Of many points, few were chosen by anything.
        for point in seed_values.points(replace(plan, runs=won_by)) if len(won_by) else []:
            runs = _known(seed_values.at(plan, point))
            mine = _digits(runs).isin(chose)
            others = runs[~_digits(runs).isin(list(candidates(choice)))]
            name = seed_values.words(point) if point else plan.sweep
            said.append(_flattered(name, choice, runs[mine], others))
    return said


def _before(plan: Plan, study: Study) -> Iterator[Choice]:
    """The choices that were made before the launch's own, in each study; all where it made none."""
    for _, found in read_all(study.results, []):
        yield from itertools.takewhile(lambda one: one.stage != plan.sweep, found.stages)


def _flattered(point: str, choice: Choice, chose: pd.DataFrame, others: pd.DataFrame) -> str:
    one = len(chose) == 1
    seeds = f"{plural(len(chose), 'seed')} {words.values(chose['seed'])}"
    said = (
        f"{point}: {choice.stage} chose the configuration among "
        f"{count(len(choice.candidates), 'point')} by {'this' if one else 'these'} very "
        f"{'run' if one else 'runs'} ({seeds}), whose validation accuracy, "
        f"{percent(chose['val_accuracy'].mean())} %, is therefore too high on average"
    )
    if others.empty:
        return f"{said}; the launch has no seed that did not choose it."
    left = Fresh([int(seed) for seed in others["seed"]], others["val_accuracy"].tolist())
    return f"{said}; over the seeds that had no part in that choice it is {left}."


def best_epoch(runs: pd.DataFrame) -> list[str]:
    """That validation accuracy is the maximum over the epochs, and by how much that is above the
    last epoch's; nothing where no run had more than one."""
    known = runs[runs["val_accuracy"].notna() & (runs["epochs_run"] > 1)]
    if known.empty:
        return []
    most = int(known["epochs_run"].max())
    said = (
        f"Validation accuracy is that of the best epoch, the maximum over up to {most:,} epochs, "
        "which is too high on average"
    )
    above = (known["val_accuracy"] - known["val_accuracy_last"]).astype(float).dropna()
    if above.empty:
        return [f"{said}; the last epoch's is not recorded."]
    return [
        f"{said}: {percent(above.mean())} points above the last epoch's (mean of "
        f"{count(len(above), 'run')}, at most {percent(above.max())})."
    ]


@dataclass(frozen=True)
class Lead:
    """How far the best point of a choice is ahead of the next, in the metric's unit, and whether
    seeds tell the two apart; None where there are too few, or where they change nothing."""

    following: Candidate
    mean: float
    told_apart: bool | None


def lead(choice: Choice) -> Lead | None:
    """Over the next point; None where there is none.

    By Student's paired t over the seeds, times the number of pairs of points, any of which might
    have come first; sweeps/study/selection.py says the same when the choice is made.
    """
    ranked = sorted(choice.candidates, key=lambda one: -choice.sign * _mean(one))
    if len(ranked) < 2:
        return None
    best, following = ranked[:2]
    ahead = choice.sign * (_mean(best) - _mean(following))
    if len(best.values) != len(following.values):
        return Lead(following, ahead, None)
    gaps = [a - b for a, b in zip(best.values, following.values, strict=True)]
    if best.val_images is None and len({*best.values}) == len({*following.values}) == 1:
        return Lead(following, ahead, None)  # the seeds change nothing
    p = mean_p(gaps, 1 / best.val_images if best.val_images else 0.0)
    told = None if p is None else p * math.comb(len(ranked), 2) <= ALPHA
    return Lead(following, ahead, told)


def _mean(one: Candidate) -> float:
    return math.fsum(one.values) / len(one.values)
