"""Beside: every reported figure of the final model beside the same of our runs, as one family.

Over three seeds or more the question is whether the reported run could be one more of ours, whose
seeds move it as they move ours and whose test images are a sample too. Under three nothing is known
of what a seed does, so that nothing follows about the recipe; what the images of two single runs
say of these two networks is all that there is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.cifar10.reported import reported
from analysis.data.predictions import Predictions, of
from analysis.data.study import Plan, Study
from analysis.stats import classification
from analysis.stats.intervals import ALPHA, MIN_SEEDS, holm, prediction_p, proportions_p
from analysis.stats.summary_tables import LARGER, SEEDS_P
from analysis.text.numbers import fixed, p_value, percent, spread

ACCURACY, CLASS, CONFUSION = "accuracy", "class", "confusion"
IMAGES_P, NETWORKS = "images p", "these two networks"
Run = Mapping[str, Any]
Key = tuple[str, str]
"""Group and name."""


@dataclass(frozen=True)
class Share:
    """A figure of one run, a fraction; where it is a share of images, how many of how many."""

    value: float
    images: int
    """Of which it is a share, or which it is made from."""
    hits: int | None = None


@dataclass(frozen=True)
class Figure:
    """`values` are ours, one a run; `shown` is that of the run in detail."""

    key: Key
    theirs: Share
    values: tuple[float, ...]
    shown: Share
    p: float | None = None
    """That the reported run is one more of ours, adjusted by Holm; None under three seeds."""
    images_p: float | None = None
    """That the two networks are equally often right, adjusted so; None from three seeds on."""

    @property
    def difference(self) -> float:
        return statistics.fmean(self.values) - self.theirs.value

    @property
    def larger(self) -> str:
        """In the words of summary_tables.LARGER."""
        return "not enough seeds" if self.p is None else "yes" if self.p <= ALPHA else "no"


def figures(plan: Plan, study: Study, run: Run) -> list[Figure]:
    """Of a launch of the reported final model: what is reported and was measured, p-values adjusted
    for all of it. `run` is the row of `plan.runs` that is shown in detail.
    """
    rows: list[Any] = plan.runs[(plan.runs["state"] == "done") & plan.runs["same_data"]].to_dict(
        "records"
    )
    ours = [shares(row, of(study, plan, row)) for row in rows]
    detail = shares(run, of(study, plan, run))
    found = []
    for key, theirs in reported_shares().items():
        values = tuple(one[key].value for one in ours if key in one)
        if values and key in detail:
            found.append(Figure(key, theirs, values, detail[key]))
    return told(found)


def told(figures: Sequence[Figure]) -> list[Figure]:
    """With the p-values of one family, adjusted by Holm's method: over seeds, of those that have
    three; else on the images of two runs.
    """
    over_seeds = _adjusted([_seeds_p(one) for one in figures])
    on_images = _adjusted([_images_p(one) for one in figures])
    return [
        replace(one, p=p, images_p=images_p)
        for one, p, images_p in zip(figures, over_seeds, on_images, strict=True)
    ]


def _adjusted(found: Sequence[float | None]) -> list[float | None]:
    adjusted = iter(holm([p for p in found if p is not None]))
    return [None if p is None else next(adjusted) for p in found]


def _seeds_p(one: Figure) -> float | None:
    """The larger p-value of two scales. A share that seeds move far is cut off at 1, where ours
    then agree by accident: by the angle alone, or the share alone, too many studies assert
    something.
    """
    single, values = one.theirs.value, one.values
    share, image = statistics.fmean(values), 1 / max(1, one.shown.images)
    # Of one image more that is wrong, or right where few are.
    step = abs(_angle(share) - _angle(share - image if share > 0.5 else share + image))
    error = 1 / (2 * math.sqrt(one.theirs.images))
    on_angle = prediction_p(_angle(single), [_angle(value) for value in values], step, error)
    # The best guess of the probability, where nothing differs.
    pooled = (share * len(values) + single) / (len(values) + 1)
    images = one.theirs.images
    error = math.sqrt(max(pooled * (1 - pooled), 1 / images) / images)
    on_share = prediction_p(single, values, image, error)
    return None if on_angle is None or on_share is None else max(on_angle, on_share)


def _angle(share: float) -> float:
    """The arcsine of the root (Freeman and Tukey 1950), under which a share near 0 or 1 spreads as
    evenly as any other, with a binomial standard error of 1 / (2 x sqrt(images)) everywhere."""
    return math.asin(math.sqrt(min(1.0, max(0.0, share))))


def _images_p(one: Figure) -> float | None:
    ours, theirs = one.shown, one.theirs
    if len(one.values) >= MIN_SEEDS or ours.hits is None or theirs.hits is None:
        return None
    return proportions_p(ours.hits, ours.images, theirs.hits, theirs.images)


# --- what was reported, and the same of a run ------------------------------------------------


def reported_shares() -> dict[Key, Share]:
    figures, data = reported()["wrn_final"], reported()["protocol"]["data"]
    row = next(one for one in reported()["architectures"] if one["model"] == figures["model"])
    images = int(figures["correct"] + figures["wrong"])
    found = {
        # While the weights move: of no one network, so that no image is a hit of one.
        (ACCURACY, "train"): Share(row["train"] / 100, int(data["train_images"])),
        (ACCURACY, "validation"): _share(row["validation"] / 100, int(data["val_images"])),
        (ACCURACY, "test, top-1"): _share(figures["top_1"] / 100, images),
        (ACCURACY, "top-3"): _share(figures["top_3"] / 100, images),
        (ACCURACY, "top-5"): _share(figures["top_5"] / 100, images),
    }
    for name in ("macro", "weighted"):
        one = figures[name]
        found |= {
            (ACCURACY, f"{name} average, {word}"): Share(one[column], one["support"])
            for word, column in _SCORES
        }
    for one in figures["per_class"]:
        right = round(one["recall"] * one["support"])
        predicted = max(1, round(right / one["precision"])) if one["precision"] else 1
        found[CLASS, f"{one['class']}, precision"] = Share(one["precision"], predicted, right)
        found[CLASS, f"{one['class']}, recall"] = Share(one["recall"], one["support"], right)
        found[CLASS, f"{one['class']}, F1"] = Share(one["f1"], one["support"])
    support = {one["class"]: one["support"] for one in figures["per_class"]}
    for pair in figures["confusions"]:
        of_images, count = support[pair["label"]], pair["count"]
        name = pair_name(pair["label"], pair["predicted"])
        found[CONFUSION, name] = Share(count / of_images, of_images, count)
    return found


_SCORES = (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))


def pair_name(label: str, predicted: str) -> str:
    return f"{label} → {predicted}"


def _share(value: float, images: int) -> Share:
    return Share(value, images, round(value * images))


def shares(run: Run, predictions: Predictions | None) -> dict[Key, Share]:
    """What can be set beside `reported_shares`; what a run has not is left out."""
    return dict(_of_run(run)) | (dict(_of_images(predictions)) if predictions else {})


def _of_run(run: Run) -> Iterator[tuple[Key, Share]]:
    for name, column, images in (
        ("train", "train_accuracy", "train_images"),
        ("validation", "val_accuracy", "val_images"),
        ("test, top-1", "test_accuracy", "test_images"),
        ("top-3", "top_3", "test_images"),
        ("top-5", "top_5", "test_images"),
    ):
        if pd.notna(run[column]) and pd.notna(run[images]):
            yield (ACCURACY, name), _share(float(run[column]), int(run[images]))


def _of_images(predictions: Predictions) -> Iterator[tuple[Key, Share]]:
    if list(predictions.classes) != [row["class"] for row in reported()["wrn_final"]["per_class"]]:
        return
    matrix, scores = classification.confusion(predictions), classification.scores(predictions)
    place = {name: i for i, name in enumerate(predictions.classes)}
    for row in scores.to_dict("records"):
        name, support, i = row["class"], int(row["support"]), place.get(row["class"])
        for word, column in _SCORES:
            if pd.isna(row[column]) or name == classification.SUMMARY[0]:
                continue
            if i is None:
                yield (ACCURACY, f"{name}, {word}"), Share(row[column], support)
            elif word == "F1":
                yield (CLASS, f"{name}, {word}"), Share(row[column], support)
            else:
                images = int(matrix[:, i].sum()) if word == "precision" else support
                yield (CLASS, f"{name}, {word}"), Share(row[column], images, int(matrix[i, i]))
    for label, i in place.items():
        images = int(matrix[i].sum())
        for predicted, j in place.items():
            if i != j and images:
                count = int(matrix[i, j])
                yield (CONFUSION, pair_name(label, predicted)), Share(count / images, images, count)


# --- what is shown ---------------------------------------------------------------------------


def table(figures: Sequence[Figure], group: str) -> pd.DataFrame:
    """A row a figure of the group, as text: in percent, of classes as fractions with four decimals,
    of confusions the counts beside.
    """
    rows = []
    for one in figures:
        if one.key[0] != group:
            continue
        text = fixed if "average" in one.key[1] or group == CLASS else percent
        row = {
            "figure": one.key[1],
            "measured": spread(one.values, text),
            "reported": text(one.theirs.value),
            "difference": text(one.difference, "+"),
        }
        if group == CONFUSION:
            row["reported count"] = str(one.theirs.hits)
        row["reported images"] = f"{one.theirs.images:,}"
        row[SEEDS_P] = p_value(one.p)
        row[LARGER] = one.larger
        if one.p is None:
            row[IMAGES_P], row[NETWORKS] = p_value(one.images_p), networks(one.images_p)
        rows.append(row)
    return pd.DataFrame(rows).fillna("-")


def networks(p: float | None) -> str:
    return "-" if p is None else "told apart" if p <= ALPHA else "not told apart"


def notes(figures: Sequence[Figure]) -> list[str]:
    """What follows, and from which family."""
    if not figures:
        return []
    judged = [one for one in figures if one.p is not None]
    runs = max(len(one.values) for one in figures)
    if judged:
        names = [one.key[1] for one in judged if one.larger == "yes"]
        which = f": {'; '.join(names)}" if names else ""
        return [
            f"Of the {len(judged)} reported figures that are compared here, {len(names)} differ by "
            f"more than seeds explain{which}."
        ]
    compared = [one for one in figures if one.images_p is not None]
    apart = [one.key[1] for one in compared if networks(one.images_p) == "told apart"]
    which = f": {'; '.join(apart)}" if apart else ""
    ours = "one run of ours stands" if runs == 1 else f"{runs} runs of ours stand"
    return [
        f"Here {ours} beside one of theirs: how far another seed moves either is not known, so "
        "that nothing follows about the recipe. On their images the two networks are told apart "
        f"in {len(apart)} of {len(compared)} figures{which}."
    ]


def footnotes(figures: Sequence[Figure]) -> list[str]:
    if not figures:
        return []
    judged = sum(one.p is not None for one in figures)
    found = [
        "difference: the mean over our runs minus the one reported run. Precision, recall, F1 and "
        "their averages are fractions, everything else is in percent or, as a difference, in "
        "points; a confusion is a share of the true class' images. train: ours is the running mean "
        "over the augmented images of the best epoch; the study does not say what its is of."
    ]
    if judged:
        found.append(
            f"{LARGER}: yes where {SEEDS_P} is at most {ALPHA:g}. {SEEDS_P}: how likely one more "
            "run of our recipe lies as far from our mean as the reported run does (Student's t, "
            "the prediction of one more run; the larger p-value of two scales, the share itself "
            "and the arcsine of its root, under which shares near 0 and 1 spread as others do; "
            "its variance is increased by the binomial one of the images that the figure is of). "
            f"All {judged} figures of the tables of this part are one family, and Holm's method "
            "adjusts for their number: where nothing differs, at most one family in twenty has a "
            "yes."
        )
    if compared := sum(one.images_p is not None for one in figures):
        found.append(
            f"{IMAGES_P}: Fisher's exact test of the two shares, of the run that is shown in "
            f"detail and of the reported one, adjusted by Holm for all {compared} figures that "
            f"have one; {NETWORKS} are told apart where it is at most {ALPHA:g}. It is about these "
            "two trained networks and says nothing of other seeds of their recipes; F1 and the "
            "averages are not a share of images and have none. "
            f"{LARGER}: under {MIN_SEEDS} seeds nothing is said."
        )
    return found
