"""Claims of the six architectures."""

from __future__ import annotations

import itertools

from analysis.cifar10.claims.claim import POINTS, Claim, Reported
from analysis.cifar10.claims.evidence import (
    PREDICTION,
    TEST,
    VALIDATION,
    Evidence,
    figure,
    launch,
    over,
    over_seeds,
    ran,
)
from analysis.data.study import Plan, Study
from analysis.sections.routing import Kind, kind
from analysis.stats.seed_values import by_seed

MODEL = "model.name"


def _models(study: Study) -> tuple[Plan, tuple[str, ...]] | None:
    return launch(study, lambda plan: kind(plan) is Kind.ARCHITECTURES)


def _order(known: Reported) -> list[str]:
    rows = sorted(known["architectures"], key=lambda row: -row["test"])
    return [str(row["model"]) for row in rows]


def _in_order(study: Study, known: Reported) -> Evidence | None:
    if (found := _models(study)) is None:
        return None
    order = [{MODEL: model} for model in _order(known)]
    return over(found[0], list(itertools.pairwise(order)), why_not=found[1])


def _first(study: Study, known: Reported) -> Evidence | None:
    if (found := _models(study)) is None:
        return None
    rows = sorted(known["architectures"], key=lambda row: -row["validation"])
    best, *others = ({MODEL: row["model"]} for row in rows)
    return over(found[0], [(best, one) for one in others], VALIDATION, found[1])


def _say_first(known: Reported) -> str:
    best = max(known["architectures"], key=lambda row: row["validation"])
    return f"{best['model']} has the highest validation accuracy, {best['validation']:.2f} %."


def _accuracies(study: Study, known: Reported) -> Evidence | None:
    if (found := _models(study)) is None:
        return None
    plan, why = found
    images = plan.runs["test_images"].max()
    comparisons, near, said = [], [], []
    for row in known["architectures"]:
        values = list(by_seed(plan, {MODEL: row["model"]}, TEST).values())
        one, is_near = figure(row["test"] / 100, values, POINTS, 1 / images)
        comparisons.append(one)
        near.append(is_near)
        said.append(f"{row['model']} {over_seeds(values) if values else 'no result'}")
    measured = f"test accuracy, %: {', '.join(said)}"
    is_near = all(near)
    return Evidence(measured, PREDICTION, tuple(comparisons), why, is_near=is_near, by=(ran(plan),))


def _say_accuracies(known: Reported) -> str:
    each = ", ".join(f"{row['model']} {row['test']:.2f}" for row in known["architectures"])
    return f"The architectures' test accuracies, %: {each}."


CLAIMS = (
    Claim(
        lambda known: f"By test accuracy the models are in the order {', '.join(_order(known))}.",
        "architectures", _in_order, "architectures --seeds 3",
    ),
    Claim(_say_first, "architectures", _first, "architectures --seeds 3"),
    Claim(_say_accuracies, "architectures", _accuracies, "architectures --seeds 3"),
)  # fmt: skip
