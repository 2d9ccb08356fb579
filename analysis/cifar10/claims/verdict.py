"""Verdict: what a report's trials say of the reported study; sentences that rules make from data.

The rules, which tests pin, beside those of answers/conclusions.py:

- A launch is evidence about the reported study only at full scale, on its data, with its settings.
- Beside the reported figures stand test accuracies, and of the final model every figure that is
  reported. A measured mean lies above or below one only where seeds tell them apart
  (reported_tables.told_from_reported, beside.told), adjusted for all figures of the table or part.
- Claims are answered by the rules of answers.py, each where the launch that asks compares.
"""

from __future__ import annotations

import pandas as pd

from analysis.answers.conclusions import conclusions
from analysis.cifar10 import beside, reported_tables
from analysis.cifar10.claims.every_claim import Answered, summary
from analysis.cifar10.comparable import why_no_evidence
from analysis.cifar10.final_model import is_of_the_model
from analysis.cifar10.reported import reported
from analysis.data.study import Plan, Study
from analysis.sections import diagnostics, wording
from analysis.sections.routing import Kind, kind
from analysis.stats import summary_tables
from analysis.text.numbers import be, count, have


def verdict(study: Study, answers: list[Answered]) -> list[str]:
    """Paragraphs: evidence or not, the claims' answers, then every launch's conclusions."""
    return [evidence(study), summary(answers), *conclusions(study, against_reported)]


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
    said = [
        f"{n} {verb(n)} {what}"
        for n, verb, what in (
            (above, be, "exceeded by more than seeds explain"),
            (below, be, "missed by more than seeds explain"),
            (untold, be, "not told from what is measured"),
            (rest, have, "too few seeds to tell"),
        )
        if n
    ]
    return [f"Of {count(len(known), 'reported figure')} beside it, {'; '.join(said)}."]


def _beside_reported(plan: Plan, study: Study) -> list[tuple[float, str]]:
    """The difference to each reported figure that was measured too, and whether it is told."""
    match kind(plan):
        case Kind.GRID:
            table = reported_tables.grid_cells(plan.runs, reported()["grid_bs_epoch"])
        case Kind.ARCHITECTURES:
            table = reported_tables.architectures(plan.runs, reported()["architectures"])
        case Kind.SINGLE if is_of_the_model(plan):
            done = diagnostics.finished(plan)
            if done.empty:
                return []
            found = beside.figures(plan, study, diagnostics.median(done))
            return [(one.difference, one.larger) for one in found]
        case _:
            return []
    known = table[table["reported"].notna() & table["test"].notna()]
    return list(zip(known["difference"], known[summary_tables.LARGER], strict=True))
