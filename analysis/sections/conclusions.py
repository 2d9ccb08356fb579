"""Verdict: what was found, how sure it is, what is flagged; sentences that rules make from data.

The rules, which tests pin:

- A launch is evidence about the reported study only at full scale, on its data, with its settings.
- Validation chooses: the point with the best mean validation accuracy, of equals the first planned.
- It is told from the next best by the paired difference in validation accuracy over seeds that both
  have: Student's t test, adjusted by Holm for all pairs of points, since any might have come first.
  Under three seeds there is no test. The same difference in test accuracy stands beside it and
  decides nothing.
- Beside the reported figures stand test accuracies, and of the final model every figure that is
  reported. A measured mean lies above or below one only where seeds tell them apart
  (reported_tables.told_from_reported, beside.told), adjusted for all figures of the table or part.
- Claims are answered by the rules of answers.py, each where the launch that asks compares.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.cifar10 import beside, reported_tables
from analysis.cifar10.claims.every_claim import Answered, summary
from analysis.cifar10.comparable import why_no_evidence
from analysis.cifar10.final_model import is_of_the_model
from analysis.cifar10.reported import reported
from analysis.data.study import Plan, Study
from analysis.sections import diagnostics, wording
from analysis.sections.routing import Kind, kind
from analysis.stats import seed_values, summary_tables
from analysis.stats.intervals import sample_interval
from analysis.text.numbers import be, count, have, percent


def conclusions(study: Study, answers: list[Answered]) -> list[str]:
    """Paragraphs: evidence or not, the claims' answers, one for each launch, then what is missing
    and flagged."""
    launches = [
        " ".join([found(plan), *against_reported(plan, study)])
        for plan in study.plans
        if plan.search is None
    ]
    return [evidence(study), summary(answers), *launches, *missing(study), flags(study)]


def model_of(plan: Plan) -> str | None:
    """The model that the reported figures beside the launch are of; None for each its own."""
    match kind(plan):
        case Kind.GRID:
            return str(reported()["grid_bs_epoch"]["model"])
        case Kind.SINGLE:
            return str(reported()["wrn_final"]["model"])
        case _:
            return None


def evidence(study: Study) -> str:
    """Whether anything here is evidence about the reported study."""
    plans = [plan for plan in study.plans if plan.runs["test_accuracy"].notna().any()]
    if not plans:
        return "No launch has a result yet, so that there is nothing to conclude from."
    reasons = [why_no_evidence(plan, model_of(plan)) for plan in plans]
    if not any(reasons):
        return (
            "Every launch with a result has the reported study's settings, so that its figures "
            "compare with those that the study gives."
        )
    shared = [one for one in reasons[0] if all(one in some for some in reasons)]
    why = ", ".join(shared or dict.fromkeys(one for some in reasons for one in some))
    if all(reasons):
        return (
            f"Nothing here is evidence for or against the reported study ({why}). {size(study)} "
            "What it can say is which of two settings does better at that size, where seeds tell "
            "them apart; of the reported figures it can say nothing."
        )
    pairs = zip(plans, reasons, strict=True)
    names = ", ".join(wording.title(plan) for plan, some in pairs if not some)
    return f"Only these launches are evidence about the reported study: {names} (others: {why})."


def size(study: Study) -> str:
    """On how many images the trials with a result were trained, for how long, in which models."""
    runs = study.trials[study.trials["test_accuracy"].notna()]
    images, epochs, widths = (
        _span(pd.to_numeric(runs[name], errors="coerce").astype(float))
        for name in ("train_images", "epochs", "model.width")
    )
    wide = "as wide" if widths == "1" else f"{widths} times as wide"
    return (
        f"Its trials were trained on {images} images for {epochs} epochs, in models {wide} as the "
        "reported ones."
    )


def _span(numbers: pd.Series[float]) -> str:
    low, high = numbers.min(), numbers.max()
    if pd.isna(low):
        return "an unknown number of"
    return f"{low:,.7g}" if low == high else f"{low:,.7g} to {high:,.7g}"


# --- what was found --------------------------------------------------------------------------


def found(plan: Plan) -> str:
    """What validation chooses, with its test accuracy, and whether its lead is told from chance."""
    ranked = seed_values.ranked(plan)
    name = wording.title(plan)
    if not ranked:
        return f"{name}: no trial has a result."
    best = ranked[0]
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
    if len(ranked) > 1:
        said += " " + _next(plan, ranked)
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


def _next(plan: Plan, ranked: list[dict[str, Any]]) -> str:
    best, second = ranked[:2]
    name = seed_values.words(second)
    ours, theirs = seed_values.by_seed(plan, best), seed_values.by_seed(plan, second)
    gap = seed_values.against_first(plan, ranked)[0]
    if gap is None:
        return f"The next best, {name}, has no seed in common with it: nothing tells them apart."
    if all(ours[seed] == theirs[seed] for seed in ours.keys() & theirs.keys()):
        return f"The next best, {name}, has the same accuracy with each seed: nothing is told."
    if gap.mean <= 0:
        return f"On the seeds that both have it is not ahead of the next best, {name}: {gap}."
    said = f"Its lead on validation over the next best, {name}, is {gap}: {seed_values.judged(gap)}"
    test = seed_values.against_first(plan, ranked, "test_accuracy")[0]
    if test is not None:
        said += f"; on the test images it is {test}: {seed_values.judged(test)}"
    return f"{said}."


# --- beside what was reported ----------------------------------------------------------------


def against_reported(plan: Plan, study: Study) -> list[str]:
    """How many of the reported figures the measured ones lie above or below; nothing where the
    study reports none, or the launch does not compare with it.
    """
    if why_no_evidence(plan, model_of(plan)):
        return []
    known = _beside_reported(plan, study)
    if not known:
        return []
    judged = [(difference, larger) for difference, larger in known if larger in ("yes", "no")]
    told = [difference for difference, larger in judged if larger == "yes"]
    above = sum(difference > 0 for difference in told)
    below, untold, rest = len(told) - above, len(judged) - len(told), len(known) - len(judged)
    said = f"Of {count(len(known), 'reported figure')} beside it, "
    few = f"{rest} {have(rest)} too few seeds to tell"
    if not judged:
        return [f"{said}{few}."]
    said += (
        f"{above} {be(above)} exceeded and {below} {be(below)} missed by more than seeds explain; "
        f"{untold} {be(untold)} not told from what is measured"
    )
    return [f"{said}, and {few}." if rest else f"{said}."]


def _beside_reported(plan: Plan, study: Study) -> list[tuple[float, str]]:
    """The difference to each reported figure that was measured too, and whether it is told."""
    match kind(plan):
        case Kind.GRID:
            table = reported_tables.grid_cells(plan.runs, reported()["grid_bs_epoch"])
        case Kind.ARCHITECTURES:
            table = reported_tables.architectures(plan.runs, reported()["architectures"])
        case Kind.SINGLE if is_of_the_model(plan):
            done = plan.runs[(plan.runs["state"] == "done") & plan.runs["same_data"]]
            if done.empty:
                return []
            found = beside.figures(plan, study, diagnostics.median(done))
            return [(one.difference, one.larger) for one in found]
        case _:
            return []
    known = table[table["reported"].notna() & table["test"].notna()]
    return list(zip(known["difference"], known[summary_tables.LARGER], strict=True))


# --- what is missing and flagged -------------------------------------------------------------


def missing(study: Study) -> list[str]:
    """A sentence for each launch that has trials without a result, a search's own apart."""
    said = []
    for plan in study.plans:
        states = plan.runs["state"].value_counts()
        lacking = {state: int(n) for state, n in states.items() if state != "done"}
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
