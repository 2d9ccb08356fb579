"""One run: its predictions in detail, by class, its confusions, its calibration, its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.predictions import Classified, Predictions, of
from analysis.data.study import Plan, Study
from analysis.figures.diagnostics import calibration, class_bars, confusion_bars, matrix
from analysis.output.model import Part, Picture, Table
from analysis.sections import wording
from analysis.stats import classification, summary_tables
from analysis.stats.intervals import sample_interval
from analysis.stats.summary_tables import SAMPLE
from analysis.text import words
from analysis.text.examples import TEST_IMAGES, Noun
from analysis.text.numbers import fixed, interval, percent

# Of more, a figure or table of every class would be longer than anybody reads.
MOST_CLASSES = 1_000

Run = Mapping[str, Any]
Explain = Callable[[Study, Plan, Run, Predictions], list[Part]]
"""Why a run's network decided as it did, where whoever knows the network can say so."""


@dataclass(frozen=True)
class ReportedRun:
    """What was reported of one run of the same model on the same images."""

    right: int
    wrong: int
    support: Mapping[str, int]
    """Test images of each class, in the classes' order."""
    confusions: Mapping[tuple[str, str], int]
    """Test images of a class that were taken for another one."""


def parts(
    study: Study, plan: Plan, run: Run, title: str, explain: Explain, reported: ReportedRun | None
) -> list[Part]:
    """One trial's predictions; `run` is a row of `plan.runs`. Draws every figure."""
    predictions = of(study, plan, run)
    if predictions is None:
        said = {"done": "has no usable predictions", "excluded": "is excluded"}.get(
            run["state"], "has no result yet"
        )
        why = "Its figures by class, its confusions, its calibration and its images are left out."
        return [Part(title, [f"{run['trial']} {said}. {why}"])]
    name = words.file_name(f"{wording.name(plan)}-{run['trial']}")
    elsewhere = _made_elsewhere(run)
    return [
        *classified(predictions, name, title, TEST_IMAGES, reported=reported, elsewhere=elsewhere),
        *explain(study, plan, run, predictions),
    ]


def classified(
    predictions: Classified,
    name: str,
    title: str,
    noun: Noun,
    *,
    reported: ReportedRun | None = None,
    elsewhere: str = "",
) -> list[Part]:
    """Accuracy, every class, confusions, and calibration where there are logits. `elsewhere`: on
    what the predictions were made, where that is not what trained. Draws every figure."""
    first = _overall(predictions, reported, name, title, noun, elsewhere)
    calibrated = (
        [_calibrated(predictions, name, noun)] if isinstance(predictions, Predictions) else []
    )
    if len(predictions.classes) > MOST_CLASSES:
        first.notes.append(
            f"Of {len(predictions.classes):,} classes none is shown alone: more than "
            f"{MOST_CLASSES:,}."
        )
        return [first, *calibrated]
    return [
        first,
        _by_class(predictions, name, noun),
        _confused(predictions, reported, name, noun),
        *calibrated,
    ]


# --- one run ---------------------------------------------------------------------------------


def _overall(
    predictions: Classified,
    reported: ReportedRun | None,
    name: str,
    title: str,
    noun: Noun,
    elsewhere: str,
) -> Part:
    images = len(predictions.labels)
    correct = int(predictions.right.sum())
    notes = [
        f"{correct:,} of {images:,} {noun.many} are right ({percent(correct / images)} %), "
        f"{images - correct:,} are wrong."
    ]
    has_logits = isinstance(predictions, Predictions)
    about = f"{_interval(noun)}: Wilson's interval, from the number of {noun.many} alone."
    if has_logits:
        about = (
            "top-k: the label is among the k highest logits; of equal logits the lower class is "
            f"ahead. {about}"
        )
    footnotes = [about]
    if reported is not None:
        notes[0] += f" Reported: {reported.right:,} right, {reported.wrong:,} wrong."
    table = top(predictions, noun)
    if elsewhere:
        notes.append(f"These predictions were made {elsewhere}.")
    what = "Top-k accuracy" if has_logits else "Accuracy"
    caption = f"{what} (%) of {predictions.trial} on {images:,} {noun.many}"
    caption += f", predicted {elsewhere}" if elsewhere else ""
    return Part(title, notes, [Table(f"{name}-top-k", caption, table)], [], footnotes)


def _made_elsewhere(run: Run) -> str:
    """On what and how predictions were made, where that is not what trained; else nothing."""
    if not summary_tables.evaluated_elsewhere(pd.DataFrame([run])).item():
        return ""
    return (
        f"on {run['evaluated_on']} in {run['evaluated_precision']}, where training was on "
        f"{run['device']} in {run['precision_used']}"
    )


def _interval(noun: Noun) -> str:
    """The head of the column of Wilson's intervals."""
    return SAMPLE if noun is TEST_IMAGES else f"{noun.sample} 95 %"


def top(predictions: Classified, noun: Noun = TEST_IMAGES) -> pd.DataFrame:
    """Top-1 and, where there are logits, 3 and 5 in percent, as text, with Wilson's interval. Of no
    more than k classes, every image would be right."""
    images = len(predictions.labels)
    counts = {1: int(predictions.right.sum())}
    if isinstance(predictions, Predictions):
        more = (k for k in (3, 5) if k < len(predictions.classes))
        counts |= {k: classification.top_k(predictions, k) for k in more}
    rows = []
    for k, right in counts.items():
        row = {
            "top-k": f"top-{k}",
            "right": f"{right:,} of {images:,}",
            "measured": percent(right / images),
            _interval(noun): interval(sample_interval(right / images, images)),
        }
        rows.append(row)
    table = pd.DataFrame(rows)
    return table if isinstance(predictions, Predictions) else table.drop(columns="top-k")


def _by_class(predictions: Classified, name: str, noun: Noun) -> Part:
    trial = predictions.trial
    scores = classification.scores(predictions)
    found = classification.accuracies(predictions)
    tables = [
        Table(
            f"{name}-classes",
            f"Precision, recall, F1 and support ({noun.many}) of every class, {trial}",
            classes(scores),
        )
    ]
    footnotes = [
        "Precision, recall and F1 are fractions; a ratio of nothing, as the precision of a class "
        "that was never predicted, is 0. Macro: the mean over classes; weighted: by support. A "
        "class' recall is its accuracy, in the figure with Wilson's interval from its own "
        f"{noun.short}."
    ]
    if not found["images"].all():
        have = int((found["images"] > 0).sum())
        footnotes.append(
            f"A class without {noun.many} has neither figures nor a bar: the averages and the "
            f"dashed mean are over the {have} of {len(found)} classes that have some."
        )
    caption = (
        f"{noun.accuracy.capitalize()} of every class of {trial} as bars, whiskers for Wilson's "
        f"95 % interval, the mean of the classes ({percent(found['accuracy'].mean())} %) dashed; "
        "dots, if any, are the same on a closer scale"
    )
    bars = [Picture(f"{name}-classes", caption, class_bars(found, noun))]
    return Part("Every class", [], tables, bars, footnotes)


def classes(scores: pd.DataFrame) -> pd.DataFrame:
    """`classification.scores` as text, with four decimals."""
    table = scores.copy()
    for column in ("precision", "recall", "f1"):
        table[column] = [fixed(value) for value in scores[column]]
    return table.rename(columns={"f1": "F1"})


def _confused(predictions: Classified, reported: ReportedRun | None, name: str, noun: Noun) -> Part:
    trial = predictions.trial
    largest = classification.confusions(predictions)
    counts = classification.confusion(predictions)
    pictures = [
        Picture(
            f"{name}-confusion",
            f"Confusion matrix of {trial}: {noun.many} by true class (rows) and predicted class "
            "(columns). The diagonal, what is right, is grey and out of the colour scale; a white "
            "cell is empty",
            matrix(counts, predictions.classes, noun),
        )
    ]
    if largest.empty:
        return Part("Confusions", [f"No {noun.one} is wrong: nothing is confused."], [], pictures)
    which = f"{len(largest)} largest confusions" if len(largest) > 1 else "only confusion"
    caption = f"The {which} of {trial}"
    footnotes = [
        f"share: of the true class' {noun.many}. Equal counts stand in the classes' order."
    ]
    beside = ""
    if reported is not None and predictions.classes == tuple(reported.support):
        beside = " the reported one as an outline where there is one;"
        theirs = reported.confusions
        pairs = list(zip(largest["true"], largest["predicted"], strict=True))
        counts_there = [theirs.get(pair, float("nan")) for pair in pairs]
        largest["reported count"] = pd.array(counts_there, dtype="Int64")
        largest["reported images"] = [reported.support[true] for true, _ in pairs]
        footnotes.append(
            f"A pair without a reported count is not among the {len(theirs)} that are reported."
        )
    shown = largest.assign(share=[percent(share) for share in largest["share"]])
    heads = {"share": "share, %", "images": noun.short}
    table = Table(f"{name}-confusions", caption, shown.rename(columns=heads))
    pictures.append(
        Picture(
            f"{name}-confusions",
            f"{caption}, true class → predicted class, as a share (%) of the true class' "
            f"{noun.many};{beside} the text at a bar is the count",
            confusion_bars(largest, noun),
        )
    )
    return Part("Confusions", [], [table], pictures, footnotes)


def _calibrated(predictions: Predictions, name: str, noun: Noun) -> Part:
    bins = classification.reliability(predictions)
    ece, nll, brier = (
        classification.ece(bins),
        classification.nll(predictions),
        classification.brier(predictions),
    )
    said = f"ECE {percent(ece)} points, NLL {fixed(nll)} nats, Brier {fixed(brier)}"
    caption = (
        f"Reliability of {predictions.trial}: accuracy of the {noun.many} in each of "
        f"{classification.BINS} bins of confidence, against the dashed line where both are equal; "
        f"below, the {noun.short} in each bin. {said}"
    )
    return Part(
        "Calibration",
        [],
        [],
        [Picture(f"{name}-reliability", caption, calibration(bins, said, noun))],
        [
            f"ECE, expected calibration error: the mean over {noun.short} of their bin's distance "
            f"between accuracy and mean confidence, {classification.BINS} bins of equal width "
            "(Guo et al. 2017). NLL: mean cross-entropy of the labels, natural logarithm, no "
            "smoothing. Brier: squared difference between probabilities and outcome, summed over "
            f"the classes, from 0 to 2 (Brier 1950).{' None was reported.' * (noun is TEST_IMAGES)}"
        ],
    )
