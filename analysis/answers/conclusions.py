"""Conclusions: what was found, how sure it is, what is flagged: sentences made by rules.

The rules, which tests pin:

- Validation chooses: the best point and its lead are those of `answers`, of which the first screen
  is made too. The same difference in test accuracy stands beside the lead and decides nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

from analysis.answers.answer import Answer, answer
from analysis.data.study import Plan, Study
from analysis.sections import wording
from analysis.stats import seed_values
from analysis.stats.intervals import sample_interval
from analysis.text.numbers import be, count, have, percent


def conclusions(study: Study, beside: Callable[[Plan, Study], list[str]]) -> list[str]:
    """Paragraphs: one for each launch, then what is missing and flagged. `beside` says how a launch
    compares with what was reported: sentences, none where nothing was.
    """
    launches = [
        " ".join([found(plan), *beside(plan, study)]) for plan in study.plans if plan.search is None
    ]
    return [*launches, *missing(study), flags(study)]


# --- what was found --------------------------------------------------------------------------


def found(plan: Plan) -> str:
    """What validation chooses, with its test accuracy, and whether chance explains its lead."""
    one = answer(plan)
    name, best = wording.title(plan), one.best
    if best is None:
        return f"{name}: no trial has a result."
    tests = seed_values.by_seed(plan, best, "test_accuracy")
    said = f"{name}: "
    if plan.axes:
        said += f"validation chooses {seed_values.words(best)}{_shrunk(plan, best)}"
    else:
        said += "one configuration"
    said += f", with {percent(_mean(seed_values.by_seed(plan, best)))} % on validation"
    if tests:
        mean, images = _mean(tests), int(plan.runs["test_images"].max())
        low, high = sample_interval(mean, images)
        said += (
            f" and {percent(mean)} % on the test images ({count(len(tests), 'seed')}; "
            f"{images:,} images alone leave it between {percent(low)} and {percent(high)} %)"
        )
    said += "."
    if one.following is not None:
        said += f" {_next(one, one.following)}"
    return said


def _shrunk(plan: Plan, point: seed_values.Point) -> str:
    """How many epochs the point had, where the scale left it fewer than its axis says."""
    if "epochs" not in point or not plan.is_of_today:
        return ""
    found = {int(epochs) for epochs in seed_values.at(plan, point)["epochs"]}
    if found == {point["epochs"]}:
        return ""
    return f" ({', '.join(map(str, sorted(found)))} at this scale)"


def _mean(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values) if values else math.nan


def _next(one: Answer, second: seed_values.Point) -> str:
    plan, gap, name = one.plan, one.gap, seed_values.words(second)
    ours, theirs = one.values, seed_values.by_seed(plan, second)
    if gap is None:
        return f"The next best, {name}, has no seed in common with it: nothing tells them apart."
    if all(ours[seed] == theirs[seed] for seed in ours.keys() & theirs.keys()):
        return f"The next best, {name}, has the same accuracy with each seed: nothing is told."
    if gap.mean <= 0:
        return f"On the seeds that both have it is not ahead of the next best, {name}: {gap}."
    said = f"Its lead on validation over the next best, {name}, is {gap}: {seed_values.judged(gap)}"
    test = seed_values.against_first(plan, seed_values.ranked(plan), "test_accuracy")[0]
    if test is not None:
        said += f"; on the test images it is {test}: {seed_values.judged(test)}"
    return f"{said}."


# --- what is missing and flagged -------------------------------------------------------------


def missing(study: Study) -> list[str]:
    """A sentence for each launch that has trials without a result, a search's own apart."""
    said = []
    for plan in study.plans:
        states = plan.runs["state"].value_counts()
        # Of what a person excluded no result will come.
        lacking = {k: int(n) for k, n in states.items() if k not in ("done", "excluded")}
        if plan.search is None and lacking:
            told = ", ".join(f"{n} {state}" for state, n in sorted(lacking.items()))
            without = sum(lacking.values())
            said.append(
                f"{wording.title(plan)}: {without} of {count(len(plan.runs), 'trial')} "
                f"{have(without)} no result ({told}); what is said of it may change when they have "
                "one."
            )
    return said


def flags(study: Study) -> str:
    """How many trials are flagged, and why."""
    runs = study.trials
    codes = Counter(code for found in runs["flags"] for code in found)
    if not codes:
        if len(runs) == 1:
            return "The one trial is not flagged."
        return f"None of the {count(len(runs), 'trial')} is flagged."
    told = ", ".join(f"{code} x{n}" for code, n in sorted(codes.items()))
    flagged = int(runs["flags"].map(bool).sum())
    return (
        f"{flagged} of {count(len(runs), 'trial')} {be(flagged)} flagged ({told}). Those "
        "with a result count in the means and in all that follows from them; each section gives "
        "the means without them beside."
    )
