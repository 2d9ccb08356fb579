"""Diagnostics of one point of a sweep: all its seeds, then one run's predictions in detail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis import dataset, diagnostics, selection, tables, words
from analysis.figures.diagnostics import (
    calibration,
    class_bars,
    confusion_bars,
    matrix,
    panels,
)
from analysis.load import Plan, Study, reported
from analysis.page import Part, Picture, Table
from analysis.predictions import Predictions, of
from analysis.sections.sweep import unflagged
from analysis.stats import MIN_SEEDS, difference_interval, sample_interval, seed_interval
from analysis.tables import DIFFERENCE_95, SAMPLE, SEEDS

Run = Mapping[str, Any]

# Column heading: column of run.parquet. The test images' top-1 is their accuracy.
_FIGURES = {
    "train": "train_accuracy",
    "train clean": "train_accuracy_clean",
    "validation": "val_accuracy",
    "test, top-1": "test_accuracy",
    "top-3": "top_3",
    "top-5": "top_5",
}
_LARGER = "larger than the error"


def parts(plan: Plan, study: Study) -> list[Part]:
    """Of a launch without axes. Draws every figure."""
    study_model = reported()["wrn_final"]["model"] if _beside(plan.runs) else None
    done = plan.runs[(plan.runs["state"] == "done") & plan.runs["same_data"]]
    notes = [words.preface(plan, study_model)]
    if done.empty:
        notes.append("No run has finished yet: there is nothing to diagnose.")
        return [Part(words.title(plan), notes, [], _curves(plan))]
    run = median(done)
    notes += selection.notes(plan, study)
    notes += [
        f"{len(done)} of {words.count(len(plan.runs), 'run')} have finished.",
        f"What follows in detail is one run, {run['trial']} (seed {run['seed']}): {_choice(done)} "
        "The best one would flatter, and its test images select nothing.",
    ]
    table = Table(
        f"{words.name(plan)}-seeds",
        f"Accuracy (%) of every seed of {plan.sweep} on each set of images",
        seeds(plan.runs),
    )
    tables_ = [table, *unflagged(plan), *_against_reported(plan, study_model)]
    first = Part(words.title(plan), notes, tables_, _curves(plan), _about_seeds(plan.runs))
    title = f"{words.title(plan)}: seed {run['seed']}"
    return [first, *of_run(study, plan, run, title)]


def _against_reported(plan: Plan, model: str | None) -> list[Table]:
    """The mean over seeds beside the reported accuracy, by the rule that every section has."""
    if model is None:
        return []
    caption = f"Mean over the seeds of {plan.sweep} beside the reported {model}, %"
    frame = tables.single(plan.runs, reported()["wrn_final"]["top_1"] / 100)
    return [Table(f"{words.name(plan)}-reported", caption, frame)]


def median(done: pd.DataFrame) -> dict[str, Any]:
    """The run of the median validation accuracy: the lower middle of an even number, of equals the
    first by seed.
    """
    order = done.sort_values(["val_accuracy", "seed", "trial"], na_position="first")
    return {str(key): value for key, value in order.iloc[(len(order) - 1) // 2].items()}


def of_run(study: Study, plan: Plan, run: Run, title: str) -> list[Part]:
    """One trial's predictions; `run` is a row of `plan.runs`. Draws every figure."""
    predictions = of(study, plan, run)
    if predictions is None:
        said = "has no result yet" if run["state"] != "done" else "has no usable predictions"
        why = "Its figures by class, its confusions, its calibration and its images are left out."
        return [Part(title, [f"{run['trial']} {said}. {why}"])]
    from analysis.sections import explain

    name = words.file_name(f"{words.name(plan)}-{run['trial']}")
    figures = reported()["wrn_final"] if _beside(plan.runs) else None
    return [
        _overall(predictions, figures, name, title, _made_elsewhere(run)),
        _by_class(predictions, figures, name),
        _confused(predictions, figures, name),
        _calibrated(predictions, name),
        *explain.parts(study, plan, run, predictions),
    ]


# --- seeds -----------------------------------------------------------------------------------


def seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a planned run, as text: its accuracies (%), best epoch, state and flags; then mean, sd
    and Student's 95 % interval over the finished ones, where there are several.
    """
    rows = []
    for run in runs.to_dict("records"):
        row = {"seed": str(run["seed"])}
        row |= {name: _percent(run[column]) for name, column in _FIGURES.items()}
        best = run["best_epoch"]
        row["best epoch"] = "-" if pd.isna(best) else f"{best + 1:.0f} of {run['epochs']}"
        row["state"] = str(run["state"])
        rows.append(row | {"flags": ", ".join(run["flags"])})
    done = runs[runs["state"] == "done"]
    if len(done) > 1:
        known = {name: done[column].dropna().tolist() for name, column in _FIGURES.items()}
        lines = {
            "mean": {name: _percent(pd.Series(found).mean()) for name, found in known.items()},
            "sd": {name: _percent(pd.Series(found).std()) for name, found in known.items()},
            SEEDS: {name: _interval(seed_interval(found)) for name, found in known.items()},
        }
        if len(done) < MIN_SEEDS:
            del lines[SEEDS]
        empty = {"best epoch": "", "state": f"n {len(done)}", "flags": ""}
        rows += [{"seed": label} | line | empty for label, line in lines.items()]
    return pd.DataFrame(rows)


def _choice(done: pd.DataFrame) -> str:
    if len(done) == 1:
        return "the only one that has finished."
    middle = "the median" if len(done) % 2 else "the lower middle"
    return f"of those that have finished, it has {middle} validation accuracy."


def _about_seeds(runs: pd.DataFrame) -> list[str]:
    run = runs.iloc[0]
    mixed = "mixed and " if tables.mixed(runs) else ""
    notes = [
        f"train: running mean over the {mixed}augmented images of the best epoch, while the "
        "weights still move. train clean: plain training images under the tested weights. "
        "test: all test images, once, under the weights of the best epoch by validation "
        "accuracy. top-k: the label is among the k highest logits.",
    ]
    if mixed:
        notes.append(
            "With MixUp and CutMix a training image counts as right when the heavier of its two "
            "labels is predicted."
        )
    if run["optimizer.ema_decay"]:
        notes.append(
            "train is of the weights as they were trained; validation, test and train clean are of "
            "their moving average."
        )
    if (runs["state"] == "done").sum() < MIN_SEEDS:
        notes.append(f"{SEEDS}: no interval under three seeds.")
    else:
        notes.append(f"{SEEDS}: Student's t, of the mean over the finished seeds.")
    return notes


def _curves(plan: Plan) -> list[Picture]:
    runs = plan.runs
    if plan.epochs.empty:
        return []
    labels, best = {}, {}
    for run in runs[runs["trial"].isin(set(plan.epochs["trial"]))].to_dict("records"):
        states = {"done": "", "missing": ", without an end yet"}
        state = states.get(run["state"], f", {run['state']}")
        labels[str(run["trial"])] = f"seed {run['seed']}{state}"
        if not pd.isna(run["best_epoch"]):
            best[str(run["trial"])] = int(run["best_epoch"])
    smoothing = bool(runs["label_smoothing"].iloc[0])
    mixed = tables.mixed(runs)
    images = "mixed and augmented images" if mixed else "augmented images"
    losses = ""
    if smoothing:
        losses = (
            " The training loss has label smoothing: the validation loss to set beside it is the "
            "one smoothed alike; the plain one stands apart."
        )
    caption = (
        f"{words.count(len(labels), 'seed')} of {plan.sweep} over epochs (from 0): loss and "
        "accuracy on training and validation images, learning rate, and training minus "
        f"validation accuracy in points. Training figures are running means over {images} while "
        f"the weights move, so that a gap below 0 is no mistake.{losses} A dot is the best epoch "
        "by validation accuracy."
    )
    figure = panels(plan.epochs, labels, best, smoothing=smoothing, mixed=mixed)
    return [Picture(f"{words.name(plan)}-panels", caption, figure)]


# --- one run ---------------------------------------------------------------------------------


def _beside(runs: pd.DataFrame) -> bool:
    """Whether the study reports figures of this model on these images."""
    model = reported()["wrn_final"]["model"]
    return set(runs["model.name"]) == {model} and dataset.is_studys(runs)


def _overall(
    predictions: Predictions,
    figures: dict[str, Any] | None,
    name: str,
    title: str,
    elsewhere: str = "",
) -> Part:
    images = len(predictions.labels)
    correct = diagnostics.top_k(predictions, 1)
    notes = [
        f"{correct:,} of {images:,} test images are right ({100 * correct / images:.2f} %), "
        f"{images - correct:,} are wrong."
    ]
    footnotes = [
        "top-k: the label is among the k highest logits; of equal logits the lower class is "
        f"ahead. {SAMPLE}: Wilson's interval, from the number of test images alone."
    ]
    if figures is not None:
        notes[0] += f" Reported: {figures['correct']:,} right, {figures['wrong']:,} wrong."
        footnotes.append(
            f"difference: measured minus reported, in points; {DIFFERENCE_95}: Newcombe's, from "
            f"both numbers of test images; {_LARGER}: that interval leaves out 0. It leaves out "
            "the seed, and both are one run."
        )
    table = top(predictions, figures)
    if elsewhere:
        notes.append(f"These predictions were made {elsewhere}.")
    caption = f"Top-k accuracy (%) of {predictions.trial} on {images:,} test images"
    caption += f", predicted {elsewhere}" if elsewhere else ""
    return Part(title, notes, [Table(f"{name}-top-k", caption, table)], [], footnotes)


def _made_elsewhere(run: Run) -> str:
    """On what and how predictions were made, where that is not what trained; else nothing."""
    if not tables.evaluated_elsewhere(pd.DataFrame([run])).item():
        return ""
    return (
        f"on {run['evaluated_on']} in {run['evaluated_precision']}, where training was on "
        f"{run['device']} in {run['precision_used']}"
    )


def top(predictions: Predictions, figures: dict[str, Any] | None) -> pd.DataFrame:
    """Top-1, 3 and 5 in percent, as text, with Wilson's interval; beside the reported ones. Of no
    more than k classes, every image would be right."""
    images = len(predictions.labels)
    rows = []
    for k in (k for k in (1, 3, 5) if k == 1 or k < len(predictions.classes)):
        right = diagnostics.top_k(predictions, k)
        row = {
            "top-k": f"top-{k}",
            "right": f"{right:,} of {images:,}",
            "measured": _percent(right / images),
            SAMPLE: _interval(sample_interval(right / images, images)),
        }
        if figures is not None:
            row |= _set_beside(right / images, images, figures[f"top_{k}"] / 100, _images(figures))
        rows.append(row)
    return pd.DataFrame(rows)


def _images(figures: dict[str, Any]) -> int:
    return int(figures["correct"] + figures["wrong"])


def _set_beside(measured: float, images: int, figure: float, of_images: int) -> dict[str, str]:
    """The reported share, the difference, its interval and the verdict."""
    low, high = difference_interval(measured, images, figure, of_images)
    return {
        "reported": _percent(figure),
        "difference": _percent(measured - figure, "+"),
        DIFFERENCE_95: _interval((low, high), "+"),
        _LARGER: "no" if low <= 0 <= high else "yes",
    }


def _by_class(predictions: Predictions, figures: dict[str, Any] | None, name: str) -> Part:
    trial = predictions.trial
    scores = diagnostics.scores(predictions)
    found = diagnostics.accuracies(predictions)
    tables = [
        Table(
            f"{name}-classes",
            f"Precision, recall, F1 and support (test images) of every class, {trial}",
            classes(scores),
        )
    ]
    footnotes = [
        "Precision, recall and F1 are fractions; a ratio of nothing, as the precision of a class "
        "that was never predicted, is 0. Macro: the mean over classes; weighted: by support. A "
        "class' recall is its accuracy, in the figure with Wilson's interval from its own images."
    ]
    if not found["images"].all():
        footnotes.append("A class without test images has no bar and is not in the dashed mean.")
    if figures is not None and _same_classes(predictions, figures):
        tables.append(
            Table(
                f"{name}-classes-reported",
                f"The same of {trial} beside the reported figures",
                classes_beside(scores, figures),
            )
        )
        footnotes.append(
            "Only recall has an error here, Newcombe's 95 % from both numbers of the class' "
            "images; precision's denominator is itself a draw. One in twenty of such differences "
            "would be larger than the error by chance alone."
        )
    mean = 100 * found["accuracy"].mean()
    caption = (
        f"Test accuracy of every class of {trial} as bars, whiskers for Wilson's 95 % interval, "
        f"the mean of the classes ({mean:.2f} %) dashed; dots, if any, are the same on a closer "
        "scale"
    )
    return Part(
        "Every class",
        [],
        tables,
        [Picture(f"{name}-classes", caption, class_bars(found))],
        footnotes,
    )


def classes(scores: pd.DataFrame) -> pd.DataFrame:
    """`diagnostics.scores` as text, with four decimals."""
    table = scores.copy()
    for column in ("precision", "recall", "f1"):
        table[column] = [_fourth(value) for value in scores[column]]
    return table.rename(columns={"f1": "F1"})


def classes_beside(scores: pd.DataFrame, figures: dict[str, Any]) -> pd.DataFrame:
    """The same beside the reported figures: `x`, `x reported`, `x difference`, with four decimals,
    and whether recall's difference is larger than the error.
    """
    accuracy = {"f1": figures["top_1"] / 100, "support": _images(figures)}
    theirs = [*figures["per_class"], accuracy, figures["macro"], figures["weighted"]]
    rows = []
    for score, other in zip(scores.to_dict("records"), theirs, strict=True):
        row: dict[str, Any] = {"class": score["class"]}
        for column, heading in (("precision", "precision"), ("recall", "recall"), ("f1", "F1")):
            figure = other.get(column, float("nan"))
            row[heading] = _fourth(score[column])
            row[f"{heading} reported"] = _fourth(figure)
            row[f"{heading} difference"] = _fourth(score[column] - figure, "+")
        row["support"], row["support reported"] = score["support"], other["support"]
        verdict = ""
        if "class" in other and score["support"]:
            verdict = _set_beside(
                score["recall"], score["support"], other["recall"], other["support"]
            )[_LARGER]
        rows.append(row | {f"recall {_LARGER}": verdict})
    return pd.DataFrame(rows)


def _same_classes(predictions: Predictions, figures: dict[str, Any]) -> bool:
    return list(predictions.classes) == [row["class"] for row in figures["per_class"]]


def _confused(predictions: Predictions, figures: dict[str, Any] | None, name: str) -> Part:
    trial = predictions.trial
    largest = diagnostics.confusions(predictions)
    counts = diagnostics.confusion(predictions)
    pictures = [
        Picture(
            f"{name}-confusion",
            f"Confusion matrix of {trial}: test images by true class (rows) and predicted class "
            "(columns). The diagonal, what is right, is grey and out of the colour scale; a white "
            "cell is empty",
            matrix(counts, predictions.classes),
        )
    ]
    if largest.empty:
        return Part("Confusions", ["No test image is wrong: nothing is confused."], [], pictures)
    caption = f"The {len(largest)} largest confusions of {trial}"
    footnotes = ["share: of the true class' test images. Equal counts stand in the classes' order."]
    tables = []
    beside = ""
    if figures is not None and _same_classes(predictions, figures):
        beside = " the reported one as an outline where there is one;"
        support = {row["class"]: row["support"] for row in figures["per_class"]}
        theirs = {(row["label"], row["predicted"]): row["count"] for row in figures["confusions"]}
        pairs = list(zip(largest["true"], largest["predicted"], strict=True))
        counts_there = [theirs.get(pair, float("nan")) for pair in pairs]
        largest["reported count"] = pd.array(counts_there, dtype="Int64")
        largest["reported images"] = [support[true] for true, _ in pairs]
        tables.append(
            Table(
                f"{name}-confusions-reported",
                f"The reported {len(theirs)} largest confusions beside those of {trial}: counts, "
                "and shares of the true class (%)",
                confusions_beside(predictions, figures),
            )
        )
        footnotes += [
            f"A pair without a reported count is not among the {len(theirs)} that are reported.",
            "The reported pairs are the largest of one run. Picked so, they are likelier too "
            "high than too low, and another run of the same recipe tends to have fewer of them. "
            f"{DIFFERENCE_95}: Newcombe's, of the shares.",
        ]
    shown = largest.assign(share=[_percent(share) for share in largest["share"]])
    tables.insert(
        0, Table(f"{name}-confusions", caption, shown.rename(columns={"share": "share, %"}))
    )
    pictures.append(
        Picture(
            f"{name}-confusions",
            f"{caption}, true class → predicted class, as a share (%) of the true class' test "
            f"images;{beside} the text at a bar is the count",
            confusion_bars(largest),
        )
    )
    return Part("Confusions", [], tables, pictures, footnotes)


def confusions_beside(predictions: Predictions, figures: dict[str, Any]) -> pd.DataFrame:
    """The reported pairs, as text: count and share (%) of both, the difference and its interval."""
    counts = diagnostics.confusion(predictions)
    place = {name: i for i, name in enumerate(predictions.classes)}
    theirs = {row["class"]: row["support"] for row in figures["per_class"]}
    rows = []
    for pair in figures["confusions"]:
        row, column = place[pair["label"]], place[pair["predicted"]]
        count, images, of_images = counts[row, column], counts[row].sum(), theirs[pair["label"]]
        line = {
            "true": pair["label"],
            "predicted": pair["predicted"],
            "count": f"{count} of {images:,}",
            "reported count": f"{pair['count']} of {of_images:,}",
        }
        if images:
            line["measured"] = _percent(count / images)
            line |= _set_beside(count / images, int(images), pair["count"] / of_images, of_images)
        rows.append(line)
    return pd.DataFrame(rows)


def _calibrated(predictions: Predictions, name: str) -> Part:
    bins = diagnostics.reliability(predictions)
    ece, nll, brier = (
        diagnostics.ece(bins),
        diagnostics.nll(predictions),
        diagnostics.brier(predictions),
    )
    said = f"ECE {100 * ece:.2f} points, NLL {nll:.4f} nats, Brier {brier:.4f}"
    caption = (
        f"Reliability of {predictions.trial}: accuracy of the test images in each of "
        f"{diagnostics.BINS} bins of confidence, against the dashed line where both are equal; "
        f"below, the images in each bin. {said}"
    )
    return Part(
        "Calibration",
        [],
        [],
        [Picture(f"{name}-reliability", caption, calibration(bins, said))],
        [
            "ECE, expected calibration error: the mean over images of their bin's distance between "
            f"accuracy and mean confidence, {diagnostics.BINS} bins of equal width (Guo et al. "
            "2017). NLL: mean cross-entropy of the labels, natural logarithm, no smoothing. Brier: "
            "squared difference between probabilities and outcome, summed over the classes, from "
            "0 to 2 (Brier 1950). None was reported."
        ],
    )


# --- text ------------------------------------------------------------------------------------


def _percent(fraction: float, sign: str = "") -> str:
    return "-" if pd.isna(fraction) else f"{100 * fraction:{sign}z.2f}"


def _interval(interval: tuple[float, float] | None, sign: str = "") -> str:
    if interval is None:
        return "-"
    return f"{_percent(interval[0], sign)} to {_percent(interval[1], sign)}"


def _fourth(fraction: float, sign: str = "") -> str:
    return "" if pd.isna(fraction) else f"{fraction:{sign}z.4f}"
