"""Sentences of studies that lack what they speak of: one trial, one point, nothing that differs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from results_folder import Point, fail, finish, folder_of, write_plan

from analysis.cifar10 import ablations, architectures, grid
from analysis.cifar10.task import load
from analysis.data.study import Plan, Study
from analysis.output.model import Part
from analysis.sections import comparison, cost, summary, sweep  # fmt: skip
from analysis.sections.trials import every_trial
from analysis.stats.paired import value_words
from trainer.config import TrainConfig
from trainer.recipes import reported as protocol

MIXUP, MODEL, RATE = "augment.mixup", "model.name", "optimizer.lr"
VALUES: dict[str, list[Any]] = {
    MIXUP: [0.0, 0.2, 0.5],
    MODEL: ["resnet18", "vit", "dla34"],
    RATE: [0.1, 0.05, 0.01],
}
SECTIONS = {
    MIXUP: ablations.parts,
    MODEL: architectures.parts,
    RATE: sweep.parts,
    "grid": grid.parts,
}
NO_TEST = {"test_accuracy": None, "test_images": 0}


def points_of(axis: str, count: int, seeds: int) -> list[Point]:
    found: list[Point] = []
    for i in range(count):
        point = (
            {"batch_size": (64, 128, 256)[i], "epochs": 25}
            if axis == "grid"
            else {axis: VALUES[axis][i]}
        )
        base = protocol(point[MODEL]) if axis == MODEL else TrainConfig()
        found += [(point, base.override(point | {"seed": seed})) for seed in range(seeds)]
    return found


def study_of(results: Path, axis: str, case: str) -> Study:
    count, seeds = {"one trial": (1, 1), "one point": (1, 3), "one left": (3, 1)}.get(case, (3, 3))
    points = points_of(axis, count, seeds)
    write_plan(results, points, seeds=list(range(seeds)))
    for i, point in enumerate(points):
        folder = folder_of(results, point)
        if case == "nothing" or (case == "one left" and i):
            fail(folder, "ERROR")
        else:
            finish(folder, point[1], **(NO_TEST if case == "no test images" else {}))
    return load(results, [])


CASES = ("one trial", "one point", "all equal", "one left", "no test images", "nothing")


def sentences(parts: list[Part]) -> Iterator[str]:
    for part in parts:
        yield from (part.title, *part.notes, *part.footnotes)
        yield from (table.caption for table in part.tables)
        yield from (picture.caption for picture in part.pictures)


def parts_of(plan: Plan, study: Study, axis: str, results: Path) -> list[Part]:
    compared = comparison.comparison(study, load(results, []))
    return [
        *SECTIONS[axis](plan, study),
        *every_trial.parts(plan, study),
        *summary.summary(study).parts,
        *cost.cost(study).parts,
        *(part for section in compared.sections for part in section.parts),
    ]


NOUNS = "trial|seed|point|result|pair|step|comparison|configuration|epoch|figure|stem"
WRONG = {
    "plural": rf"\b1 (?:\w+ )?(?:{NOUNS})s\b|\b(?:0|[2-9]|\d\d+) (?:{NOUNS})\b(?! of)",
    "verb": rf"\b1 (?:{NOUNS}) (?:are|have)\b|\b(?:[2-9]|\d\d+) (?:{NOUNS})s (?:is|has)\b",
    "signed nothing": r"-0\.00",
    "no words": r"\bnan\b|\bNone\b|\binf\b|\bNaN\b",
    "holes": r"  |\.\.(?!\.)| [.,;:](?:\s|$)|\(\)|: \.",
}


@pytest.mark.long
@pytest.mark.parametrize("axis", SECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_sentences_speak_of_what_is_there(tmp_path: Path, axis: str, case: str) -> None:
    study = study_of(tmp_path, axis, case)
    (plan,) = study.plans
    parts = parts_of(plan, study, axis, tmp_path)
    for table in (table for part in parts for table in part.tables):
        assert len(table.frame), f"{table.name} is empty"
        assert not table.shown.isin(["-0.00", "nan", "None"]).any(axis=None)
    text = list(sentences(parts))
    for said in text:
        for what, pattern in WRONG.items():
            assert not re.search(pattern, said), f"{what}: {said}"
    whole = "\n".join(text)
    if plan.runs["seed"].nunique() == 1:
        assert not re.search("mean ± sd|thick the mean|mean of n|over its seeds", whole)
    if case in ("one trial", "one point"):
        assert not re.search(
            r"the best mean|next best|aseline|pair by pair|Pareto|a line style a point|on top",
            whole,
        )
    if case == "nothing":
        assert "No trial has a result" in whole
        assert not re.search("Wilson's interval|is at most|seeds needed", whole)
    if case == "one left":
        assert "of the only one with a result" in whole and "next best" not in whole
    if case == "all equal":
        assert "the first planned of 3 points that have it" in whole
        assert "not ahead of the next best" in whole and "more than seeds explain." not in whole
    if case == "no test images":
        assert "on the test images; test" not in whole


def test_a_best_that_is_not_told_from_the_next_says_so_and_how_many_seeds_would(
    tmp_path: Path,
) -> None:
    points = points_of(RATE, 3, 3)
    write_plan(tmp_path, points, seeds=[0, 1, 2])
    for i, (point, config) in enumerate(points):
        accuracy = (0.90, 0.93, 0.915, 0.90, 0.90, 0.91, 0.5, 0.51, 0.5)[i]
        finish(
            folder_of(tmp_path, (point, config)), config,
            val_accuracy=accuracy, test_accuracy=accuracy,
        )  # fmt: skip
    said = sweep.choice(load(tmp_path, []).plans[0])
    assert "optimizer.lr 0.1" in said and f"the next best, {RATE} {value_words(0.05)}, is" in said
    assert "adjusted by Holm for 3 pairs of points" in said
    assert re.search(
        r"seeds do not tell them apart \(about \d+ seeds would, with 80 % power\)", said
    )


def test_an_axis_of_one_value_is_not_varied_and_has_no_effect(tmp_path: Path) -> None:
    points: list[Point] = [
        (point := {RATE: rate, "label_smoothing": 0.1}, TrainConfig().override(point))
        for rate in (0.1, 0.05)
    ]
    write_plan(tmp_path, points)
    for point in points:
        finish(folder_of(tmp_path, point), point[1])
    study = load(tmp_path, [])
    (part,) = sweep.parts(study.plans[0], study)
    assert f"It varies {RATE} (0.1, 0.05). It has one value of label_smoothing (0.1)." in part.notes
    assert not [table for table in part.tables if table.name.endswith("effects")]
