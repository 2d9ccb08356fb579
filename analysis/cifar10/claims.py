"""Claims: what the reference study says that trials can answer, each with how they answer it.

A claim reads the trials of the newest launch that asks its question, one whose figures compare with
the reported ones before any other. Accuracies are those of the images that the study reports them
of. `None` is said where no launch asks.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.cifar10 import beside
from analysis.cifar10.evidence import (
    PAIRED,
    PREDICTION,
    TEST,
    VALIDATION,
    Comparison,
    Evidence,
    compared,
    figure,
    launch,
    over,
    spread,
)
from analysis.cifar10.final_model import final
from analysis.data.predictions import of
from analysis.data.study import POINT, Plan, Study
from analysis.sections import wording
from analysis.sections.routing import WEIGHT_DECAY, Kind, kind
from analysis.stats.intervals import binomial_error, deviation, mean_p
from analysis.stats.seed_values import between, by_seed, difference

Reported = Mapping[str, Any]
MODEL, MIXUP, SCHEDULE = "model.name", "augment.mixup", "schedule.name"
# How wide the interval of one more run may be for a figure inside it to be reproduced.
POINTS, NATS, EPOCHS = 0.01, 0.05, 10


@dataclass(frozen=True)
class Claim:
    """`says` makes the statement from reported.json, `where` is the part of it that has it."""

    says: Callable[[Reported], str]
    where: str
    looks: Callable[[Study, Reported], Evidence | None]
    command: str
    """What would ask."""


# --- batch size and epochs -------------------------------------------------------------------


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {"batch_size": cell["batch_size"], "epochs": cell["epochs"]}


def _grid(study: Study, known: Reported) -> tuple[Plan, tuple[str, ...]] | None:
    return launch(study, lambda plan: kind(plan) is Kind.GRID, known["grid_bs_epoch"]["model"])


def _best_cell(study: Study, known: Reported) -> Evidence | None:
    if (found := _grid(study, known)) is None:
        return None
    plan, why = found
    figures = known["grid_bs_epoch"]
    best = _cell(figures["chosen"])
    others = [cell for one in figures["cells"] if (cell := _cell(one)) != best]
    return over(plan, [(best, cell) for cell in others], why_not=why)


def _low_cell(size: int, epochs: int) -> Claim:
    """That a cell lies below the cells beside it."""

    def low(known: Reported) -> Mapping[str, Any]:
        cells: list[dict[str, Any]] = known["grid_bs_epoch"]["cells"]
        return next(c for c in cells if (c["batch_size"], c["epochs"]) == (size, epochs))

    def says(known: Reported) -> str:
        cell = low(known)
        printed, around = cell["epochs_printed"], _beside(known, cell)
        return (
            f"Batch {size} x {printed} epochs, with {cell['test']:.2f} %, lies below the cells "
            f"beside it ({', '.join(format(one['test'], '.2f') for one in around)})."
        )

    def looks(study: Study, known: Reported) -> Evidence | None:
        if (found := _grid(study, known)) is None:
            return None
        plan, why = found
        cell = low(known)
        pairs = [(_cell(one), _cell(cell)) for one in _beside(known, cell)]
        return over(plan, pairs, why_not=why)

    return Claim(says, "grid_bs_epoch", looks, "grid_bs_epoch --seeds 3")


def _beside(known: Reported, cell: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The cells one step of the grid away."""
    cells: list[Mapping[str, Any]] = known["grid_bs_epoch"]["cells"]
    steps = [sorted({one[axis] for one in cells}) for axis in ("batch_size", "epochs")]

    def place(one: Mapping[str, Any]) -> tuple[int, int]:
        return steps[0].index(one["batch_size"]), steps[1].index(one["epochs"])

    here = place(cell)
    return [
        one for one in cells if abs(place(one)[0] - here[0]) + abs(place(one)[1] - here[1]) == 1
    ]


# --- weight decay ----------------------------------------------------------------------------


def _decays(study: Study, model: str) -> tuple[Plan, tuple[str, ...]] | None:
    def asks(plan: Plan) -> bool:
        return kind(plan) is Kind.DECAY and model in set(plan.runs[MODEL])

    return launch(study, asks)


def _best_decay(model: str, field: str) -> Claim:
    def says(known: Reported) -> str:
        value = known["protocol"]["optimizer"][field]
        return f"A weight decay of {value:g} was the best of those that were tried on {model}."

    def looks(study: Study, known: Reported) -> Evidence | None:
        if (found := _decays(study, model)) is None:
            return None
        plan, why = found
        value = known["protocol"]["optimizer"][field]
        tried = plan.runs.loc[plan.runs[MODEL] == model, WEIGHT_DECAY].drop_duplicates()
        here = {MODEL: model}
        pairs = [
            (here | {WEIGHT_DECAY: value}, here | {WEIGHT_DECAY: other})
            for other in sorted(tried)
            if other != value
        ]
        return over(plan, pairs, VALIDATION, why)

    return Claim(says, "protocol.optimizer.weight_decay_search", looks, "weight_decay --seeds 3")


def _worse_decay(study: Study, known: Reported) -> Evidence | None:
    """Of every model of the table but WRN-28-10; one that no launch has is no evidence either way,
    and keeps the claim from being reproduced."""
    optimizer = known["protocol"]["optimizer"]
    more, less = optimizer["weight_decay"], optimizer["weight_decay_wrn_28_10"]
    wide = known["wrn_final"]["model"]
    models = [row["model"] for row in known["architectures"] if row["model"] != wide]
    looked = {model: found for model in models if (found := _decays(study, model)) is not None}
    if not looked:
        return None
    comparisons, said, why = [], [], dict.fromkeys(w for _, ws in looked.values() for w in ws)
    for model in models:
        if model not in looked:
            comparisons.append(Comparison(True, None))
            said.append(f"{model} not run")
            continue
        here = {MODEL: model}
        plan, _ = looked[model]
        gap = between(plan, here | {WEIGHT_DECAY: more}, here | {WEIGHT_DECAY: less})
        comparisons.append(compared(gap))
        said.append(f"{model} {'not run with both' if gap is None else gap}")
    measured = f"validation accuracy, {more:g} minus {less:g}: {'; '.join(said)}"
    return Evidence(measured, PAIRED, tuple(comparisons), tuple(why))


# --- ablations -------------------------------------------------------------------------------


def _ablation(axis: str, better: Callable[[Any], bool], any_value: bool) -> Any:
    """That the recipe's own value lies over the others, or over those that `better` names."""

    def looks(study: Study, known: Reported) -> Evidence | None:
        if (found := launch(study, lambda plan: plan.axes == [axis])) is None:
            return None
        plan, why = found
        own = known["protocol"]["schedule"]["name"] if axis == SCHEDULE else 0.0
        tried = plan.runs[POINT + axis].drop_duplicates()
        pairs = [({axis: own}, {axis: value}) for value in tried if better(value)]
        return over(plan, pairs, why_not=why, any_value=any_value)

    return looks


# --- architectures ---------------------------------------------------------------------------


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
        said.append(f"{row['model']} {spread(values) if values else 'no result'}")
    measured = f"test accuracy, %: {', '.join(said)}"
    return Evidence(measured, PREDICTION, tuple(comparisons), why, is_near=all(near))


# --- the final model -------------------------------------------------------------------------


def _of_final(study: Study, known: Reported) -> tuple[Plan, tuple[str, ...], pd.DataFrame] | None:
    """Its launch, why that is not evidence, and its finished runs."""
    if (plan := final(study)) is None:
        return None
    done = plan.runs[(plan.runs["state"] == "done") & plan.runs["same_data"]]
    model = str(known["wrn_final"]["model"])
    return (plan, tuple(wording.why_no_evidence(plan, model)), done) if len(done) else None


def _final_accuracy(study: Study, known: Reported) -> Evidence | None:
    if (found := _of_final(study, known)) is None:
        return None
    _, why, done = found
    top_1, images = known["wrn_final"]["top_1"] / 100, done["test_images"].max()
    values = done[TEST].dropna().tolist()
    one, near = figure(top_1, values, POINTS, 1 / images, binomial_error(top_1, images))
    measured = f"{spread(values)} % of the test images"
    return Evidence(measured, PREDICTION, (one,), why, is_near=near)


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
    measured = f"{spread(gaps)} points in the last epoch"
    measured += f", {spread(chosen)} points in the best one" if chosen else ""
    over = [gap - most for gap in gaps]
    mean = statistics.fmean(over)
    one = Comparison(mean < 0, mean_p(over), mean, deviation(over))
    return Evidence(measured, f"Student's t over seeds against {100 * most:g} point", (one,), why)


def _late_loss(study: Study, known: Reported) -> Evidence | None:
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    values = _last(plan, done, "val_loss_smoothed")["val_loss_smoothed"].tolist()
    if not values:
        return None
    one, near = figure(known["wrn_final"]["val_loss"]["late"], values, NATS, 0.001)
    measured = f"{spread(values, 1, 3)} nats in the last epoch, smoothed as in training"
    return Evidence(measured, PREDICTION, (one,), why, is_near=near)


def _best_epoch(study: Study, known: Reported) -> Evidence | None:
    if (found := _of_final(study, known)) is None:
        return None
    _, why, done = found
    values = (done["best_epoch"].dropna().astype(float) + 1).tolist()
    if not values:
        return None
    one, near = figure(known["wrn_final"]["best_epoch"]["number"], values, EPOCHS, 1.0)
    seen = ", ".join(f"{value:.0f}" for value in values)
    measured = f"best epochs {seen} of {wording.values(done['epochs_run'].astype(int))}"
    return Evidence(measured, PREDICTION, (one,), why, is_near=near)


def _largest_confusion(study: Study, known: Reported) -> Evidence | None:
    """Against each other pair that is reported."""
    if (found := _of_final(study, known)) is None:
        return None
    plan, why, done = found
    rows: list[Any] = done.to_dict("records")
    counted = {
        int(row["seed"]): beside.shares(row, predictions)
        for row in rows
        if (predictions := of(study, plan, row)) is not None
    }
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
    measured = f"{spread(list(shares[0].values()))} % of its images are {pairs[0][1]}; "
    highest, name = max(means)
    measured += f"of the reported pairs {name} is the largest, {highest:.2f} %"
    return Evidence(measured, PAIRED, tuple(map(compared, gaps)), why)


# --- the claims ------------------------------------------------------------------------------


def _say_best_cell(known: Reported) -> str:
    figures = known["grid_bs_epoch"]
    best = figures["chosen"]
    return (
        f"Batch {best['batch_size']} x {best['epochs']} epochs is the best cell of the grid, by "
        f"{figures['metric']}."
    )


def _say_first(known: Reported) -> str:
    best = max(known["architectures"], key=lambda row: row["validation"])
    return f"{best['model']} has the highest validation accuracy, {best['validation']:.2f} %."


def _say_accuracies(known: Reported) -> str:
    each = ", ".join(f"{row['model']} {row['test']:.2f}" for row in known["architectures"])
    return f"The architectures' test accuracies, %: {each}."


def _say_worse_decay(known: Reported) -> str:
    optimizer = known["protocol"]["optimizer"]
    return (
        f"For all models but WRN-28-10 a weight decay of {optimizer['weight_decay_wrn_28_10']:g} "
        f"is worse than {optimizer['weight_decay']:g}."
    )


def _say_gap(known: Reported) -> str:
    figures = known["wrn_final"]
    row = next(one for one in known["architectures"] if one["model"] == figures["model"])
    return (
        f"WRN-28-10's training accuracy is within {figures['train_minus_val_at_most']:g} point of "
        f"its validation accuracy ({row['train']:.2f} and {row['validation']:.2f} %)."
    )


def _say_loss(known: Reported) -> str:
    late = known["wrn_final"]["val_loss"]["late"]
    return f"Late in training WRN-28-10's validation loss is {late:g}."


def _say_best_epoch(known: Reported) -> str:
    best = known["wrn_final"]["best_epoch"]
    return (
        f"The best epoch is number {best['number']}, with {best['validation']:g} % on validation."
    )


def _say_confusion(known: Reported) -> str:
    pair = known["wrn_final"]["confusions"][0]
    return (
        f"The largest confusion is {beside.pair_name(pair['label'], pair['predicted'])}, "
        f"{pair['count']} test images."
    )


def _say_schedule(known: Reported) -> str:
    schedule = known["protocol"]["schedule"]
    return f"{schedule['name']} was chosen over {' and '.join(schedule['compared_with'])}."


CLAIMS: tuple[Claim, ...] = (
    Claim(_say_best_cell, "grid_bs_epoch.chosen", _best_cell, "grid_bs_epoch --seeds 3"),
    _low_cell(128, 100),
    _low_cell(256, 25),
    _best_decay("resnet18", "weight_decay"),
    _best_decay("wrn_28_10", "weight_decay_wrn_28_10"),
    Claim(
        _say_worse_decay, "protocol.optimizer.weight_decay_search", _worse_decay,
        "weight_decay --seeds 3",
    ),
    Claim(
        lambda known: f"MixUp is {known['protocol']['augmentation']['mixup']}.",
        "protocol.augmentation.mixup",
        _ablation(MIXUP, lambda value: value > 0, any_value=True),
        "mixup --seeds 3",
    ),
    Claim(
        _say_schedule, "protocol.schedule",
        _ablation(SCHEDULE, lambda value: value in ("step", "multi_step"), any_value=False),
        "schedules --seeds 3",
    ),
    Claim(
        lambda known: f"By test accuracy the models are in the order {', '.join(_order(known))}.",
        "architectures", _in_order, "architectures --seeds 3",
    ),
    Claim(_say_first, "architectures", _first, "architectures --seeds 3"),
    Claim(_say_accuracies, "architectures", _accuracies, "architectures --seeds 3"),
    Claim(
        lambda known: f"WRN-28-10 reaches {known['wrn_final']['top_1']:.2f} % of the test images.",
        "wrn_final.top_1", _final_accuracy, "wrn_final --seeds 5",
    ),
    Claim(_say_gap, "wrn_final.train_minus_val_at_most", _gap, "wrn_final --seeds 5"),
    Claim(
        _say_loss,
        "wrn_final.val_loss.late", _late_loss, "wrn_final --seeds 5",
    ),
    Claim(_say_best_epoch, "wrn_final.best_epoch", _best_epoch, "wrn_final --seeds 5"),
    Claim(_say_confusion, "wrn_final.confusions", _largest_confusion, "wrn_final --seeds 5"),
)  # fmt: skip
