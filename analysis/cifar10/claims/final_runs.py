"""Claims of the final model, WRN-28-10."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.cifar10 import beside
from analysis.cifar10.claims.claim import EPOCHS, NATS, POINTS, Claim, Reported
from analysis.cifar10.claims.evidence import (
    PAIRED,
    PREDICTION,
    TEST,
    Comparison,
    Evidence,
    compared,
    figure,
    over_seeds,
    ran,
)
from analysis.cifar10.comparable import why_no_evidence
from analysis.cifar10.final_model import final
from analysis.data.predictions import of
from analysis.data.study import Plan, Study
from analysis.stats.intervals import binomial_error, deviation, mean_p
from analysis.stats.seed_values import difference
from analysis.text import words
from analysis.text.numbers import fixed


def _of_final(study: Study, known: Reported) -> tuple[Plan, tuple[str, ...], pd.DataFrame] | None:
    """Its launch, why that is not evidence, and its finished runs."""
    if (plan := final(study)) is None:
        return None
    done = plan.runs[(plan.runs["state"] == "done") & plan.runs["same_data"]]
    model = str(known["wrn_final"]["model"])
    return (plan, tuple(why_no_evidence(plan, model)), done) if len(done) else None


def _final_accuracy(study: Study, known: Reported) -> Evidence | None:
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    top_1, images = known["wrn_final"]["top_1"] / 100, done["test_images"].max()
    values = done[TEST].dropna().tolist()
    one, near = figure(top_1, values, POINTS, 1 / images, binomial_error(top_1, images))
    measured = f"{over_seeds(values)} % of the test images"
    return Evidence(measured, PREDICTION, (one,), why, is_near=near, by=(ran(plan),))


def _last(plan: Plan, done: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Columns of each finished run's last epoch, those that have all."""
    epochs = plan.epochs[plan.epochs["trial"].isin(done["trial"])]
    last = epochs.sort_values("epoch", kind="stable").groupby("trial", observed=True).tail(1)
    return last[list(columns)].dropna()


def _gap(study: Study, known: Reported) -> Evidence | None:
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    most = known["wrn_final"]["train_minus_val_at_most"] / 100
    last = _last(plan, done, "train_accuracy", "val_accuracy")
    gaps = (last["train_accuracy"] - last["val_accuracy"]).tolist()
    if not gaps:
        return None
    chosen = (done["train_accuracy"] - done["val_accuracy"]).dropna().tolist()
    measured = f"{over_seeds(gaps)} points in the last epoch"
    measured += f", {over_seeds(chosen)} points in the best one" if chosen else ""
    over = [gap - most for gap in gaps]
    mean = statistics.fmean(over)
    one = Comparison(mean < 0, mean_p(over), mean, deviation(over))
    return Evidence(
        measured,
        f"Student's t over seeds against {100 * most:g} point",
        (one,),
        why,
        by=(ran(plan),),
    )


def _say_gap(known: Reported) -> str:
    figures = known["wrn_final"]
    row = next(one for one in known["architectures"] if one["model"] == figures["model"])
    return (
        f"WRN-28-10's training accuracy is within {figures['train_minus_val_at_most']:g} point of "
        f"its validation accuracy ({row['train']:.2f} and {row['validation']:.2f} %)."
    )


def _late_loss(study: Study, known: Reported) -> Evidence | None:
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    values = _last(plan, done, "val_loss_smoothed")["val_loss_smoothed"].tolist()
    if not values:
        return None
    one, near = figure(known["wrn_final"]["val_loss"]["late"], values, NATS, 0.001)
    nats = over_seeds(values, lambda value: fixed(value, digits=3))
    measured = f"{nats} nats in the last epoch, smoothed as in training"
    return Evidence(measured, PREDICTION, (one,), why, is_near=near, by=(ran(plan),))


def _say_loss(known: Reported) -> str:
    late = known["wrn_final"]["val_loss"]["late"]
    return f"Late in training WRN-28-10's validation loss is {late:g}."


def _best_epoch(study: Study, known: Reported) -> Evidence | None:
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    values = (done["best_epoch"].dropna().astype(float) + 1).tolist()
    if not values:
        return None
    one, near = figure(known["wrn_final"]["best_epoch"]["number"], values, EPOCHS, 1.0)
    seen = ", ".join(f"{value:.0f}" for value in values)
    measured = f"best epochs {seen} of {words.values(done['epochs_run'].astype(int))}"
    return Evidence(measured, PREDICTION, (one,), why, is_near=near, by=(ran(plan),))


def _say_best_epoch(known: Reported) -> str:
    best = known["wrn_final"]["best_epoch"]
    return (
        f"The best epoch is number {best['number']}, with {best['validation']:g} % on validation."
    )


def _counted(study: Study, plan: Plan, done: pd.DataFrame) -> dict[int, dict[Any, beside.Share]]:
    """By seed, every share of the run's predictions."""
    rows: list[Any] = done.to_dict("records")
    return {
        int(row["seed"]): beside.shares(row, predictions)
        for row in rows
        if (predictions := of(study, plan, row)) is not None
    }


def _all_epochs(study: Study, known: Reported) -> Evidence | None:
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    values = done["epochs_run"].dropna().astype(float).tolist()
    if not values:
        return None
    one, near = figure(known["protocol"]["epochs"], values, EPOCHS, 1.0)
    seen = ", ".join(f"{value:.0f}" for value in values)
    return Evidence(f"epochs run: {seen}", PREDICTION, (one,), why, is_near=near, by=(ran(plan),))


def _say_all_epochs(known: Reported) -> str:
    protocol = known["protocol"]
    return (
        f"Early stopping with a patience of {protocol['early_stopping']['patience']} leaves "
        f"WRN-28-10 all of its {protocol['epochs']} epochs."
    )


def _hardest(known: Reported) -> Mapping[str, Any]:
    rows: list[dict[str, Any]] = known["wrn_final"]["per_class"]
    return min(rows, key=lambda row: float(row["recall"]))


def _hardest_class(study: Study, known: Reported) -> Evidence | None:
    """Against each other class."""
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    counted = _counted(study, plan, done)
    hardest = _hardest(known)["class"]
    recalls = {
        row["class"]: {seed: one[key].value for seed, one in counted.items() if key in one}
        for row in known["wrn_final"]["per_class"]
        if (key := (beside.CLASS, f"{row['class']}, recall"))
    }
    mine = recalls.pop(hardest)
    if not mine:
        return None
    images = min(one[beside.CLASS, f"{hardest}, recall"].images for one in counted.values())
    gaps = [difference(other, mine, images) for other in recalls.values()]
    lowest, name = min(
        (100 * statistics.fmean(values.values()), name)
        for name, values in {**recalls, hardest: mine}.items()
        if values
    )
    measured = f"recall of {hardest} {over_seeds(list(mine.values()))} %; "
    measured += f"the lowest is that of {name}, {lowest:.2f} %"
    return Evidence(measured, PAIRED, tuple(map(compared, gaps)), why, by=(ran(plan),))


def _say_hardest_class(known: Reported) -> str:
    row = _hardest(known)
    return f"Of all classes {row['class']} has the lowest recall, {100 * row['recall']:.2f} %."


def _largest_confusion(study: Study, known: Reported) -> Evidence | None:
    """Against each other pair that is reported."""
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    counted = _counted(study, plan, done)
    pairs = [
        (beside.CONFUSION, beside.pair_name(pair["label"], pair["predicted"]))
        for pair in known["wrn_final"]["confusions"]
    ]
    shares = [
        {seed: one[key].value for seed, one in counted.items() if key in one} for key in pairs
    ]
    if not shares[0]:
        return None
    images = max(one[pairs[0]].images for one in counted.values() if pairs[0] in one)
    gaps = [difference(shares[0], other, images) for other in shares[1:]]
    means = [(100 * statistics.fmean(found.values()), key[1])
             for found, key in zip(shares, pairs, strict=True) if found]  # fmt: skip
    measured = f"{over_seeds(list(shares[0].values()))} % of its images are {pairs[0][1]}; "
    highest, name = max(means)
    measured += f"of the reported pairs {name} is the largest, {highest:.2f} %"
    return Evidence(measured, PAIRED, tuple(map(compared, gaps)), why, by=(ran(plan),))


def _say_confusion(known: Reported) -> str:
    pair = known["wrn_final"]["confusions"][0]
    return (
        f"The largest confusion is {beside.pair_name(pair['label'], pair['predicted'])}, "
        f"{pair['count']} test images."
    )


CLAIMS = (
    Claim(
        lambda known: f"WRN-28-10 reaches {known['wrn_final']['top_1']:.2f} % of the test images.",
        "wrn_final.top_1", _final_accuracy, "wrn_final --seeds 5",
    ),
    Claim(_say_gap, "wrn_final.train_minus_val_at_most", _gap, "wrn_final --seeds 5"),
    Claim(_say_loss, "wrn_final.val_loss.late", _late_loss, "wrn_final --seeds 5"),
    Claim(_say_best_epoch, "wrn_final.best_epoch", _best_epoch, "wrn_final --seeds 5"),
    Claim(_say_all_epochs, "protocol.early_stopping", _all_epochs, "wrn_final --seeds 5"),
    Claim(_say_hardest_class, "wrn_final.per_class", _hardest_class, "wrn_final --seeds 5"),
    Claim(_say_confusion, "wrn_final.confusions", _largest_confusion, "wrn_final --seeds 5"),
)  # fmt: skip
