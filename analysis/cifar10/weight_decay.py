"""Weight decay: accuracy over its values, which one validation chooses, and how surely."""

from __future__ import annotations

import math

import pandas as pd

from analysis.cifar10.comparable import why_no_evidence
from analysis.cifar10.reported import recipe
from analysis.data.study import POINT, Plan, Study
from analysis.figures import compare as figures
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.sections.routing import WEIGHT_DECAY
from analysis.sections.search import section as search
from analysis.sections.sweep import curve_pictures, lacking, notes, unflagged
from analysis.stats import paired, selection_bias, summary_tables
from analysis.stats.paired import value_words
from analysis.stats.seed_values import (
    Difference,
    Point,
    against_first,
    at,
    by_seed,
    judged,
    points,
    ranked,
)
from analysis.text.numbers import count, percent

MODEL = "model.name"

_FLATTERED = (
    "The chosen value is the best on these very validation images and seeds, which flatters its "
    "lead on validation; the test images chose nothing."
)


def parts(plan: Plan, study: Study) -> list[Part]:
    """A grid's part, or those of a search. Draws every figure."""
    if plan.search is not None:
        return search.parts(plan, study)
    table = summary_tables.sweep(plan.runs)
    models = [str(model) for model in plan.runs[MODEL].unique()]
    best = {model: point for model in models if (point := chosen(plan, model)) is not None}
    pairs = paired.compare(
        [pair for m, point in best.items() for pair in paired.against(values(plan, m), point)],
        plan,
        study,
    )
    name = wording.name(plan)
    caption = f"Accuracy (%) over the weight decays of {plan.sweep}: mean ± sd over seeds"
    said = f"Every weight decay (A) of {plan.sweep} against the one that validation chooses (B)"
    compared = [Table(f"{name}-pairs", said, paired.table(pairs))] * bool(pairs)
    sentences = [sentence for model in models for sentence in judgement(plan, model)]
    sentences += [
        f"{model}: {said}"
        for model, point in best.items()
        for said in selection_bias.of_best(study, plan, at(plan, point).iloc[0])
    ]
    return [
        Part(
            wording.title(plan),
            [
                wording.preface(plan, why_no_evidence(plan)),
                *sentences,
                *selection_bias.notes(plan, study),
                *lacking(plan),
            ],
            [Table(name, caption, table), *unflagged(plan), *compared],
            [*_pictures(plan, best), *curve_pictures(plan)],
            [*notes(table), _FLATTERED, *paired.notes(pairs)],
        )
    ]


def values(plan: Plan, model: str) -> list[Point]:
    """The model's points, by their weight decay."""
    here = [point for point in points(plan) if point.get(MODEL, model) == model]
    return sorted(here, key=lambda point: float(point[WEIGHT_DECAY]))


def chosen(plan: Plan, model: str) -> Point | None:
    """The model's point of the best mean validation accuracy, of equals the first planned; None
    where there is none.
    """
    return next((point for point in ranked(plan) if point.get(MODEL, model) == model), None)


def judgement(plan: Plan, model: str) -> list[str]:
    """Which value validation chooses for the model, whether it ends the grid, and what seeds do
    not tell from it: a paragraph.
    """
    best, grid = chosen(plan, model), values(plan, model)
    if best is None:
        return [f"{model}: no trial has a validation accuracy."]
    mean, n = _mean(by_seed(plan, best)), len(by_seed(plan, best))
    value = value_words(best[WEIGHT_DECAY])
    said = [
        f"{model}: validation chooses a weight decay of {value}, with {percent(mean)} % on "
        f"validation ({count(n, 'seed')})"
    ]
    tests = by_seed(plan, best, "test_accuracy")
    said[0] += f" and {percent(_mean(tests))} % on the test images." if tests else "."
    if len(grid) == 1:
        return [said[0] + " It is the only one that was tried."]
    said.append(_edge(grid, best))
    said += _alike(plan, grid, best)
    said.append(_against_reported(plan, model, grid, best))
    return [" ".join(said)]


def _edge(grid: list[Point], best: Point) -> str:
    for end, word in ((grid[0], "smallest"), (grid[-1], "largest")):
        if end[WEIGHT_DECAY] == best[WEIGHT_DECAY]:
            return f"It is the {word} of the grid, beyond which a better one may lie."
    return "It lies inside the grid."


def _alike(plan: Plan, grid: list[Point], best: Point) -> list[str]:
    """What seeds tell from the best by validation, which is what chose it, and what not."""
    answers: dict[str, list[str]] = {}
    for point, found in _from_best(plan, grid, best):
        if found is None:
            answer = "without a seed in common with it"
        elif found.told_apart is None:
            answer = "with too few seeds to be told from it"
        else:
            answer = "told from it by seeds" if found.told_apart else "not told from it by seeds"
        answers.setdefault(answer, []).append(value_words(point[WEIGHT_DECAY]))
    listed = "; ".join(f"{answer}: {', '.join(them)}" for answer, them in answers.items())
    return [f"On validation, {listed}."]


def _from_best(plan: Plan, grid: list[Point], best: Point) -> list[tuple[Point, Difference | None]]:
    """Every other value, and the best minus it on validation."""
    others = [point for point in grid if point[WEIGHT_DECAY] != best[WEIGHT_DECAY]]
    return list(zip(others, against_first(plan, [best, *others]), strict=True))


def _against_reported(plan: Plan, model: str, grid: list[Point], best: Point) -> str:
    choice = recipe(model).get(WEIGHT_DECAY)
    if choice is None:
        return "The study reports nothing of it."
    said = f"The reported choice is {value_words(choice)}"
    if best[WEIGHT_DECAY] == choice:
        return f"{said}, the same."
    there = [
        found for point, found in _from_best(plan, grid, best) if point[WEIGHT_DECAY] == choice
    ]
    if not there:
        return f"{said}, which is not in the grid."
    found = there[0]
    if found is None:
        return f"{said}, which has no result with a seed of the chosen one."
    if found.mean <= 0:
        return f"{said}; on the seeds that both have, the value chosen here is not ahead: {found}."
    return f"{said}; the lead of the value chosen here is {found}: {judged(found)}."


def _pictures(plan: Plan, best: dict[str, Point]) -> list[Picture]:
    seeds = pd.DataFrame(
        {
            "model": plan.runs[MODEL],
            "value": plan.runs[POINT + WEIGHT_DECAY].astype(float),
            "validation": plan.runs["val_accuracy"].astype(float),
            "test": plan.runs["test_accuracy"].astype(float),
            "flagged": plan.runs["flags"].map(bool),
        }
    ).dropna(subset=["validation", "test"], how="all")
    if not best:
        return []
    figure = figures.decay(
        seeds,
        {model: float(point[WEIGHT_DECAY]) for model, point in best.items()},
        {model: known[WEIGHT_DECAY] for model in best if (known := recipe(model))},
    )
    caption = (
        f"Accuracy over weight decay in {plan.sweep}, on a logarithmic axis: validation (filled), "
        "which selects, and test (open), which selects nothing; a dot for every seed, a line "
        "through the means, bars for their 95 % intervals over seeds, a ring around the choice, a "
        "dashed line at the reported one"
    )
    return [Picture(f"{wording.name(plan)}-decay", caption, figure)]


def _mean(found: dict[int, float]) -> float:
    return math.fsum(found.values()) / len(found)
