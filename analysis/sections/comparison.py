"""Comparison: two results folders, before and after a change, point by point and seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data import dataset
from analysis.data.study import Plan, Study
from analysis.output.model import Part, Section, Table
from analysis.output.page import Page
from analysis.sections import wording
from analysis.sections.history.marks import excluded
from analysis.stats import seed_values
from analysis.stats.intervals import POWER_NOTE
from analysis.stats.paired import value_words
from analysis.stats.seed_values import by_seed, difference, judged
from analysis.text import words
from analysis.text.numbers import count, percent

_COLUMNS = {"validation": "val_accuracy", "test": "test_accuracy"}
_SURROUNDINGS = (
    "data_set",
    "git_commit",
    "code_sha256",
    "torch_version",
    "device",
    "precision_used",
    "step_used",
    "world_size",
    "evaluated_on",
    "evaluated_precision",
)


@dataclass(frozen=True)
class Pair:
    """The same sweep at the same scale in both folders."""

    before: Plan
    after: Plan


def comparison(before: Study, after: Study) -> Page:
    """A launch of `after` is compared with the newest one of `before` that has its sweep's name,
    scale and axes.
    """
    pairs, alone = _pairs(before, after)
    parts = [_part(pair) for pair in pairs]
    rows = [{"only in": where, "launch": wording.title(plan)} for where, plan in alone]
    notes = [
        f"Before: {before.results}. After: {after.results}. Differences are after minus before, "
        "paired by seed: the same seed has the same split, order and draws."
    ]
    for word, study in (("Before", before), ("After", after)):
        notes += [f"{word}: {said}" for said in excluded(study)]
    if not pairs:
        notes.append("No sweep is in both folders at the same scale with the same axes.")
    tables = [Table("alone", "Launches that have no counterpart", pd.DataFrame(rows))] * bool(rows)
    problems = [
        {"file": one.what, "what to do": one.help} for one in [*before.problems, *after.problems]
    ]
    if problems:
        tables.append(Table("problems", "Files that could not be used", pd.DataFrame(problems)))
    return Page(
        f"{before.results.name} and {after.results.name}",
        [Section("Before and after", [Part("", notes, tables), *parts])],
    )


def _pairs(before: Study, after: Study) -> tuple[list[Pair], list[tuple[str, Plan]]]:
    def key(plan: Plan) -> tuple[str, str, tuple[str, ...]]:
        return plan.sweep, plan.scale, tuple(sorted(plan.axes))

    old, new = (
        {key(plan): plan for plan in study.plans if plan.search is None}
        for study in (before, after)
    )
    pairs = [Pair(old[one], new[one]) for one in new if one in old]
    alone = [("before", old[one]) for one in old if one not in new]
    return pairs, alone + [("after", new[one]) for one in new if one not in old]


def _part(pair: Pair) -> Part:
    before, after = (
        {_key(point): point for point in seed_values.points(plan)}
        for plan in (pair.before, pair.after)
    )
    shared = [point for key, point in after.items() if key in before]
    gaps = [dict(zip(_COLUMNS, row, strict=True)) for row in zip(*_gaps(pair, shared), strict=True)]
    rows = [_row(pair, point, gap) for point, gap in zip(shared, gaps, strict=True)]
    name = wording.name(pair.after)
    caption = f"{pair.after.sweep} before and after, accuracy in % over the seeds that both have"
    notes = [*_settings(pair), *_lacking(pair)]
    for word, here, there in (("before", before, after), ("after", after, before)):
        if alone := [seed_values.words(point) for key, point in here.items() if key not in there]:
            notes.append(f"Only {word}: {'; '.join(alone)}.")
    tables = [Table(f"{name}-before-after", caption, pd.DataFrame(rows))] * bool(rows)
    if any(gap is not None for row in gaps for gap in row.values()):
        notes.append(f"Each of validation and test is a family of its own. {POWER_NOTE}")
    return Part(f"{pair.after.sweep}, {pair.after.scale} scale", notes, tables)


def _key(point: seed_values.Point) -> tuple[tuple[str, Any], ...]:
    """None for NaN, which pandas makes of None and which equals nothing."""
    return tuple(sorted((axis, None if pd.isna(v) else v) for axis, v in point.items()))


def _gaps(
    pair: Pair, shared: Sequence[seed_values.Point]
) -> list[list[seed_values.Difference | None]]:
    """After minus before at each of the points, a family a column."""
    return [
        seed_values.family(
            [
                difference(
                    by_seed(pair.after, point, column),
                    by_seed(pair.before, point, column),
                    seed_values.images(pair.after, column),
                )
                for point in shared
            ],
            f"points of the table ({name})",
        )
        for name, column in _COLUMNS.items()
    ]


def _row(
    pair: Pair, point: seed_values.Point, gaps: dict[str, seed_values.Difference | None]
) -> dict[str, Any]:
    row: dict[str, Any] = {axis: value_words(value) for axis, value in point.items()}
    row = row or {"point": "the only one"}
    same = dataset.same(pair.before.runs, pair.after.runs)
    for name, column in _COLUMNS.items():
        old, new = by_seed(pair.before, point, column), by_seed(pair.after, point, column)
        gap = gaps[name] if same else None
        common = sorted(old.keys() & new.keys())
        row[f"{name} n"] = len(common)
        for side, values in ((f"{name} before", old), (f"{name} after", new)):
            row[side] = percent(_mean(values, common)) if common else "-"
        row[f"{name} difference"] = "-" if gap is None else str(gap)
        follows = "-" if gap is None else _follows(gap, old, new)
        row[f"{name}: what follows"] = follows if same else "nothing: of other images"
    old, new = (by_seed(plan, point, "seconds") for plan in (pair.before, pair.after))
    common = sorted(old.keys() & new.keys())
    times = [_mean(values, common) for values in (old, new)]
    row["minutes before"], row["minutes after"] = (
        (f"{seconds / 60:.2f}" if common else "-") for seconds in times
    )
    return row


def _follows(gap: seed_values.Difference, old: dict[int, float], new: dict[int, float]) -> str:
    same = all(new[seed] == old[seed] for seed in old.keys() & new.keys())
    return "the same to the last digit" if same else judged(gap)


def _mean(values: dict[int, float], seeds: list[int]) -> float:
    return math.fsum(values[seed] for seed in seeds) / len(seeds) if seeds else math.nan


def _settings(pair: Pair) -> list[str]:
    """What the two launches do not have in common."""
    changed = []
    varied = {"seed", *pair.after.axes}
    fields = dict.fromkeys([*pair.before.fields, *pair.after.fields])
    for field in (*_SURROUNDINGS, *(name for name in fields if name not in varied)):
        old, new = (
            words.values(plan.runs[field].dropna().sort_values()) if field in plan.runs else ""
            for plan in (pair.before, pair.after)
        )
        if old != new:
            changed.append(f"{field}: {old or 'none'} before, {new or 'none'} after")
    return ["What differs between them: " + "; ".join(changed) + "."] if changed else []


def _lacking(pair: Pair) -> list[str]:
    said = []
    for word, plan in (("before", pair.before), ("after", pair.after)):
        flagged = plan.runs[plan.runs["flags"].map(bool)]
        lacking = int(plan.runs["test_accuracy"].isna().sum())
        if lacking or len(flagged):
            said.append(
                f"{word}: of {count(len(plan.runs), 'trial')}, {lacking} without a result "
                f"and {len(flagged)} flagged."
            )
    return said
