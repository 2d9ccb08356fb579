"""Ablations: what changing one part of the recipe brings, beside what was reported of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from analysis.cifar10 import reported_tables
from analysis.cifar10.comparable import stands_beside, why_no_evidence
from analysis.cifar10.reported import recipe
from analysis.cifar10.reported import reported as reported_figures
from analysis.data.study import POINT, Plan, Study
from analysis.figures import compare as figures
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.sections.sweep import choice, curve_pictures, lacking, notes, unflagged
from analysis.stats import paired, selection_bias, summary_tables
from analysis.stats.intervals import ALPHA, MIN_SEEDS
from analysis.stats.paired import Pair, value_words
from analysis.stats.seed_values import Difference, Point, by_seed, points, would_tell
from analysis.text.numbers import percent

MIXUP, SCHEDULE, STEM = "augment.mixup", "schedule.name", "model.stem"


def parts(plan: Plan, study: Study) -> list[Part]:
    """Draws every figure."""
    (axis,) = plan.axes
    base = baseline(plan)
    pairs = paired.compare(paired.against(points(plan), base), plan, study)
    several = len(points(plan)) > 1
    table = points_table(plan)
    name, against = wording.name(plan), value_words(base[axis])
    caption = (
        f"Accuracy (%) of {plan.sweep}: {wording.over_seeds(plan)}. train is the running accuracy "
        "on "
        "the images named beside it, train clean that on plain ones"
    )
    said = f"Every {axis} (A) of {plan.sweep} against the baseline {against} (B)"
    compared = [Table(f"{name}-pairs", said, paired.table(pairs))] * bool(pairs)
    return [
        Part(
            wording.title(plan),
            [
                wording.preface(plan, why_no_evidence(plan)),
                *[f"The baseline is {axis} {against}, {_why(plan, base)}."] * several,
                *_changes_too(plan, axis),
                choice(plan),
                *selection_bias.notes(plan, study),
                *lacking(plan),
                *against_reported(plan, pairs),
                *beside_dla(plan),
            ],
            [Table(name, caption, table), *unflagged(plan), *compared],
            [*_pictures(plan, pairs), *curve_pictures(plan)],
            [*_train_notes(plan, table), *notes(table), *paired.notes(pairs)],
        )
    ]


def baseline(plan: Plan) -> Point:
    """The point that has the reported recipe's value of the axis; else the first."""
    found = points(plan)
    return next((point for point in found if _is_reported(plan, point)), found[0])


def _is_reported(plan: Plan, point: Point) -> bool:
    (axis,) = plan.axes
    model = str(plan.runs["model.name"].iloc[0])
    if axis not in (known := recipe(model)):
        return False
    value = known[axis]
    return bool(pd.isna(point[axis])) if value is None else bool(point[axis] == value)


def _why(plan: Plan, base: Point) -> str:
    if _is_reported(plan, base):
        return "as in the reported recipe"
    return "the first of the launch, since the reported recipe's value is not in it"


def _changes_too(plan: Plan, axis: str) -> list[str]:
    """Fields beside the axis in which the points differ: then they are what is compared too."""
    others = [name for name in plan.fields if name not in {axis, "seed"}]
    varied = [name for name in others if plan.runs[name].nunique(dropna=False) > 1]
    if not varied:
        return []
    return [f"Beside it the points differ in {', '.join(varied)}: the differences are of all that."]


def points_table(plan: Plan) -> pd.DataFrame:
    """A row a point: its value, every split, what images the running train accuracy is on."""
    (axis,) = plan.axes
    cells = summary_tables.cells(plan.runs)
    images = [
        "augmented, mixed" if summary_tables.mixed(plan.runs.loc[rows]) else "augmented"
        for rows in plan.runs.groupby(POINT + axis, sort=False, dropna=False).groups.values()
    ]
    table = cells.assign(**{"train images": images})
    splits = [name for split in summary_tables.SPLITS for name in (split, f"{split} sd")]
    splits.insert(splits.index("train sd") + 1, "train images")
    return table[
        [axis, *splits, "n", "planned", summary_tables.SAMPLE, summary_tables.SEEDS, "flags"]
    ]


def _train_notes(plan: Plan, table: pd.DataFrame) -> list[str]:
    found = "train: running mean over the augmented images of the best epoch. "
    if table["train images"].str.contains("mixed").any():
        found += (
            "Where they are mixed, two images share one input and the label of the larger part "
            "counts, so that train is lower for that alone and does not compare with the others. "
        )
    found += "train clean: plain training images under the tested weights."
    if plan.runs["optimizer.ema_decay"].any():
        found += (
            " Where there is a moving average of the weights, the tested ones are that, and train "
            "is of the weights themselves."
        )
    if plan.runs["hard_fraction"].lt(1).any():
        found += " Where hard images are chosen, train is of these alone."
    return [found]


# --- beside what was reported ----------------------------------------------------------------


def against_reported(plan: Plan, pairs: list[Pair]) -> list[str]:
    """What the study says of the axis, and whether these trials agree: a direction is agreed with,
    or not, only where seeds tell the point from the baseline by the paired difference in test
    accuracy.
    """
    (axis,) = plan.axes
    if axis not in _CLAIMS or not stands_beside(plan):
        return []
    said, claim, concerned = _CLAIMS[axis]
    answers: dict[str, list[str]] = {}
    for pair in pairs:
        if concerned(pair.a[axis], pair.b[axis]):
            answers.setdefault(agrees(pair.test), []).append(value_words(pair.a[axis]))
    if not answers:
        return [f"{said} No point of this launch speaks to it."]
    found = "; ".join(f"{', '.join(them)}: {answer}" for answer, them in answers.items())
    tested = sum(pair.test is not None and pair.test.p is not None for pair in pairs)
    how = f" ({paired.adjusted_for(tested)})" if tested else ""
    return [f"{said} {claim} By the paired difference in test accuracy{how}: {found}."]


def beside_dla(plan: Plan) -> list[str]:
    """Which stem gives DLA-34's reported test accuracy, by reported_tables.told_from_reported."""
    if plan.axes != [STEM] or set(plan.runs["model.name"]) != {"dla34"}:
        return []
    if not stands_beside(plan):
        return []
    figure = _dla() / 100
    cells = [cell for cell in summary_tables.cells(plan.runs).to_dict("records") if cell["n"]]
    known = [(figure, cell[summary_tables.TESTS], cell["images"]) for cell in cells]
    adjusted = reported_tables.told_from_reported(known)
    more_seeds = reported_tables.needed_beside_reported(known, adjusted)
    said = []
    for cell, p, more in zip(cells, adjusted, more_seeds, strict=True):
        test = float(cell["test"])
        what = "more than seeds explain" if p is not None and p <= ALPHA else "which seeds explain"
        would = "one seed does not show how many would" if more is None else f"{more} would"
        said.append(
            f"behind the {cell[STEM]} stem it has {percent(test)} %, "
            f"{percent(test - figure, '+')} points from the reported figure, "
            + (f"with too few seeds to tell ({would})" if p is None else what)
        )
    tested = sum(p is not None for p in adjusted)
    how = f" ({paired.adjusted_for(tested, 'stems')})" if tested else ""
    return [f"DLA-34{how}: {'; '.join(said)}."] if said else []


def agrees(found: Difference | None) -> str:
    """With the claim that a point lies under the baseline."""
    if found is None:
        return "no seed has both"
    if found.told_apart is None:
        return f"not enough seeds ({found.seeds} of {MIN_SEEDS}; {would_tell(found)})"
    if not found.told_apart:
        return (
            "neither agrees nor disagrees, since seeds do not tell it from the baseline "
            f"({would_tell(found)})"
        )
    return "agrees" if found.mean < 0 else "disagrees"


def _dla() -> float:
    rows = reported_figures()["architectures"]
    return next(float(row["test"]) for row in rows if row["model"] == "dla34")


# Axis: what was said; the claim it makes; which points (value, baseline's) it is about.
_CLAIMS: Mapping[str, tuple[str, str, Callable[[Any, Any], bool]]] = {
    MIXUP: (
        "Reported, without figures: MixUp lowered accuracy and was left off.",
        "That says that a value above 0 lies under 0.",
        lambda value, base: value > 0 and base == 0,
    ),
    SCHEDULE: (
        "Reported, without figures: cosine was chosen over step and multi-step.",
        "That says that those two lie under cosine.",
        lambda value, base: value in ("step", "multi_step") and base == "cosine",
    ),
    STEM: (
        f"Reported: {_dla():.2f} % on the test images for DLA-34, which a stem made for ImageNet "
        "would explain.",
        "That takes the imagenet stem to lie under the cifar one.",
        lambda value, base: value == "imagenet" and base == "cifar",
    ),
}


# --- figures ---------------------------------------------------------------------------------


def _pictures(plan: Plan, pairs: list[Pair]) -> list[Picture]:
    if all(pair.validation is None and pair.test is None for pair in pairs):
        return []
    (axis,) = plan.axes
    against = f"{axis} {value_words(pairs[0].b[axis])}"
    panels = {
        f"{split} accuracy minus the baseline's, points": [
            _row(plan, pair, column) for pair in pairs
        ]
        for split, column in (("validation", "val_accuracy"), ("test", "test_accuracy"))
    }
    caption = (
        f"What each {axis} of {plan.sweep} brings against {against} with the same seed, in points "
        f"of validation and of test accuracy: {figures.marks_words(panels)}; right of the dashed "
        "line is better than the baseline with these seeds"
    )
    return [
        Picture(f"{wording.name(plan)}-differences", caption, figures.differences(panels, against))
    ]


def _row(plan: Plan, pair: Pair, column: str) -> figures.Row:
    """The pair's difference a seed, as fractions."""
    a, b = by_seed(plan, pair.a, column), by_seed(plan, pair.b, column)
    sides = [paired.runs(plan, point) for point in (pair.a, pair.b)]
    seeds = sorted(a.keys() & b.keys())
    return figures.Row(
        paired.label(pair.a),
        [a[seed] - b[seed] for seed in seeds],
        [any(bool(side[seed]["flags"]) for side in sides) for seed in seeds],
        paired.marks(sides[0]),
    )
