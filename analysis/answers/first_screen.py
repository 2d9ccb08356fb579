"""The first screen: what won, by how much, how sure that is, what is flagged, what is missing.

At most five sentences, each under 20 words, by these rules, which tests pin:

1. The best point of the main launch and its mean; of one configuration its value.
2. How sure its lead is, by the rules of `answers`; of one configuration the accuracy on the test
   images.
3. Where several launches compare points: in how many the lead is clear, likely, undecided, or has
   not enough seeds.
4. Where figures of the same study were reported: what `beside` says of them.
5. How many trials are done, what became of the others, and how many are flagged.

The main launch compares points, rather than searches, rather than trains one configuration; among
such launches it is the one with the most finished trials, of equals the first. How sure its lead is
has no part in that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import fmean

import pandas as pd

from analysis.answers.answer import (
    Answer,
    Sure,
    answer,
    best_points,
    measured,
    question,
    value,
    winner,
)
from analysis.data.study import Plan, Study
from analysis.data.study_choices import read_all
from analysis.figures import answer as figures
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.sections.search.asked_trials import as_float
from analysis.stats.intervals import MIN_SEEDS, seed_interval
from analysis.text.numbers import be, count, have, p_value, percent, plural

_MOST_ROWS = 10
_FULL = "full"


# --- what the page is about ------------------------------------------------------------------


def title(study: Study) -> str:
    """The one sweep's name; the name of the study that chose among several; else how many there
    are, and in which results folder."""
    if len(study.sweeps) == 1:
        return study.sweeps[0].name
    names = {sweep.name for sweep in study.sweeps}
    studies = [
        found.study
        for _, found in read_all(study.results, [])
        if {one.stage for one in found.stages} <= names
    ]
    if len(studies) == 1:
        return studies[0]
    return f"{count(len(study.sweeps), 'sweep')} of {study.results.resolve().name}"


def about(study: Study) -> str:
    """In a line how many sweeps, at which scales, with how many trials."""
    scales = list(dict.fromkeys(plan.scale for plan in study.plans))
    said = (
        f"{count(len(study.sweeps), 'sweep')}, {count(len(study.trials), 'trial')}, "
        f"{', '.join(scales)} {plural(len(scales), 'scale')}"
    )
    return said if _FULL in scales else f"{said}: smaller than full scale"


def main(answers: list[Answer]) -> Answer:
    """Of the launch that answers the main question."""

    def rank(found: Answer) -> tuple[bool, bool, int]:
        done = int(found.plan.runs["state"].eq("done").sum())
        compares = found.following is not None
        return compares and found.plan.search is None, compares, done

    return max(answers, key=rank)


# --- sentences -------------------------------------------------------------------------------


def sentences(study: Study, answers: list[Answer], beside: Iterable[str] = ()) -> list[str]:
    first = main(answers)
    said = [
        _best(first, len(answers) > 1),
        *_how_sure(first),
        *_over_all(answers),
        *beside,
        state(study.trials),
    ]
    return said[:5]


def _best(found: Answer, is_one_of_many: bool) -> str:
    name, metric = _brief(found.plan.sweep), _metric(found.plan)
    if not found.values:
        named = found.plan.task.metric is not None
        return f"{name} has no result yet." if named else f"{name} names no objective."
    where = f"In {name} the" if is_one_of_many else "The"
    if found.points == 1 and not found.plan.axes:
        n = len(found.values)
        mean = f"{where} mean {metric} of {n} seeds" if n > 1 else f"{where} {metric}"
        return f"{mean} is {found.worded(found.mean)}."
    best = "only result" if found.following is None else "best point"
    worded = found.worded(found.mean)
    mean = f"{worded} {metric}" if found.is_fraction else f"{metric} {worded}"
    return f"{where} {best} is {_short_winner(found)}, with {mean}."


def _how_sure(found: Answer) -> list[str]:
    gap = found.gap
    match found.sure:
        case Sure.NOTHING:
            return _on_test_images(found)
        case Sure.FEW_SEEDS:
            if found.plan.search is not None:
                return ["A search runs each point once: another seed may order them differently."]
            return [f"Whether it is really better is open: a test needs {MIN_SEEDS} shared seeds."]
        case Sure.UNDECIDED if gap is not None and gap.mean <= 0:
            return ["It is not ahead of the next best on the seeds that both have."]
        case Sure.UNDECIDED:
            assert gap is not None
            return [f"{_its_lead(found)} is undecided: other seeds may turn it around."]
        case sure:
            assert gap is not None and gap.p is not None
            return [
                f"{_its_lead(found)} is {sure} (p {p_value(gap.p)}, {count(gap.seeds, 'seed')})."
            ]


def _on_test_images(found: Answer) -> list[str]:
    """Of the trainer's one configuration, which nothing is chosen by."""
    runs = found.plan.runs
    if not found.is_fraction or found.plan.axes or not runs["test_accuracy"].notna().any():
        return []
    mean, seeds = runs["test_accuracy"].mean(), int(runs["test_accuracy"].notna().sum())
    return [
        f"{'The mean' if seeds > 1 else 'The'} accuracy on the test images is {percent(mean)} %."
    ]


def _its_lead(found: Answer) -> str:
    rival = winner(found.plan, found.following)
    over = rival if len(rival.split()) <= 5 else "the next best"
    return f"Its lead of {found.amount} over {over}"


def _over_all(answers: list[Answer]) -> list[str]:
    found: Counter[Sure] = Counter(one.sure for one in answers if one.sure is not Sure.NOTHING)
    if found.total() < 2:
        return []
    judged = [one for one in (Sure.CLEAR, Sure.LIKELY, Sure.UNDECIDED) if found[one]]
    said = [
        f"{found[one]} {be(found[one]) + ' ' if one is judged[0] else ''}{one}" for one in judged
    ]
    if few := found[Sure.FEW_SEEDS]:
        said.append(f"{few} {have(few)} {Sure.FEW_SEEDS}")
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return [f"Of {found.total()} leads, {listed}."]


def state(trials: pd.DataFrame) -> str:
    """How many trials are done, what became of the others, how many are flagged."""
    states = trials["state"].value_counts()
    done, planned = int(states.get("done", 0)), len(trials)
    flagged = int(trials["flags"].map(bool).sum())
    others = {str(name): int(n) for name, n in sorted(states.items()) if name != "done" and n}
    # A state of another version may be any text.
    others = {(name.split() or ["unknown"])[0]: n for name, n in others.items()}
    marked = f"; {flagged} {be(flagged)} flagged" if flagged else "; none is flagged"
    if not others:
        whole = "The one trial is" if planned == 1 else f"All {planned:,} trials are"
        return f"{whole} done{marked if planned > 1 or flagged else ''}."
    told = [f"{n:,} {name}" for name, n in others.items()]
    rest = ", ".join(told[:3]) + (f" and {len(told) - 3} more states" if len(told) > 3 else "")
    if not done:
        return f"No trial is done yet ({rest}){marked}."
    return f"{done:,} of {count(planned, 'trial')} {be(done)} done ({rest}){marked}."


def _metric(plan: Plan) -> str:
    """By what the launch is compared, in at most a few words."""
    if plan.is_trainers:
        return "validation accuracy"
    return _brief(str(plan.task.metric))


def _short_winner(found: Answer) -> str:
    said = winner(found.plan, found.best)
    return said if len(said.split()) <= 6 else "listed under Best configuration"


def _brief(name: str, most: int = 30) -> str:
    """A name is at most two words of a sentence, however many it has."""
    name = " ".join(name.split())
    name = name if len(name) <= most else f"{name[: most - 3].rstrip()}..."
    parts = name.split()
    return name if len(parts) <= 2 else f"{' '.join(parts[:2])}..."


# --- table and figure ------------------------------------------------------------------------


def table(answers: list[Answer], anchors: dict[str, str]) -> Table:
    """A row a launch. `anchors`: where the page says more of a launch, by its title."""
    mean = "validation accuracy" if all(one.is_fraction for one in answers) else "mean"
    rows = [
        {
            "sweep": found.plan.sweep,
            "question": question(found.plan),
            "best point": winner(found.plan, found.best),
            mean: value(found),
            "lead (95 %)": found.lead,
            "how sure": str(found.sure),
            "seeds": _seeds(found),
            "scale": found.plan.scale,
            "flagged": _flags(found.plan),
        }
        for found in answers
    ]
    links = tuple(anchors.get(wording.title(found.plan), "") for found in answers)
    return Table("answers", "What each sweep answers", pd.DataFrame(rows), links)


def notes(answers: list[Answer]) -> list[str]:
    """How the table is to be read: of what it holds alone."""
    said = []
    if any(one.sure is not Sure.NOTHING for one in answers):
        said.append(
            "How sure a lead over the next best point is: clear, p at most 0.01; likely, p at most "
            "0.05; else undecided. The test is Student's paired t test over seeds. The p-values "
            "and the intervals allow for all pairs of a sweep's points (Holm)."
        )
    if any(one.is_fraction and one.plan.scale != _FULL for one in answers):
        said.append(
            "Below full scale trials are smaller. Points are named by their values at full scale."
        )
    return said


def _seeds(found: Answer) -> str:
    """Of the comparison, or of the one point."""
    n = found.gap.seeds if found.gap is not None else len(found.values)
    return str(n)


def _flags(plan: Plan) -> str:
    codes = Counter(code for codes in plan.runs["flags"] for code in codes)
    told = [f"{n} {code}" for code, n in codes.most_common(2)]
    more = len(codes) - 2
    return "\n".join([*told, *[f"{more} more"] * (more > 0)]) or "-"


def picture(found: Answer) -> Picture | None:
    """Of the main launch: its points by their means; of a search, what it found in which order."""
    plan, column = found.plan, measured(found.plan)
    if not found.values:
        return None
    label = f"{_metric(plan)}{', %' if found.is_fraction else ''}"
    unit = 100.0 if found.is_fraction else 1.0
    down = plan.task.direction == "minimize"
    if plan.search is not None:
        values = [
            unit * as_float(value) if is_done else float("nan")
            for value, is_done in zip(plan.runs[column], plan.runs["state"].eq("done"), strict=True)
        ]
        caption = f"{plan.sweep}: {label} of each trial, and the best so far"
        return Picture("answer", caption, figures.progress(values, down, label))
    rows = [
        _row(winner(plan, point) if point else plan.sweep, [unit * one for one in values])
        for point, values in best_points(plan, _MOST_ROWS)
    ]
    which = f"the {len(rows)} best of {found.points} points" if found.points > len(rows) else (
        "its points, best first" if len(rows) > 1 else "its one point"
    )  # fmt: skip
    marks = "dots: seeds; diamond: mean" if any(len(row.values) > 1 for row in rows) else "one seed"
    marks += "; line: 95 % interval" * any(row.interval is not None for row in rows)
    caption = f"{plan.sweep}: {which} ({marks})"
    return Picture("answer", caption, figures.ranking(rows, label))


def _row(name: str, values: list[float]) -> figures.Row:
    return figures.Row(name, values, fmean(values), seed_interval(values))


def first_screen(
    study: Study, answers: list[Answer], beside: Iterable[str], anchors: dict[str, str]
) -> tuple[list[str], Part]:
    """The sentences, and the table and figure that stand with them. Draws the figure."""
    drawn = picture(main(answers))
    shown = [] if drawn is None else [drawn]
    return sentences(study, answers, beside), Part(
        notes=notes(answers), tables=[table(answers, anchors)], pictures=shown
    )


def answers(study: Study) -> list[Answer]:
    return [answer(plan) for plan in study.plans]
