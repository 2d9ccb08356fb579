"""Claims of batch size x epochs, weight decay, MixUp and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analysis.cifar10.claims.claim import Claim, Reported
from analysis.cifar10.claims.evidence import (
    PAIRED,
    VALIDATION,
    Comparison,
    Evidence,
    compared,
    launch,
    over,
    ran,
)
from analysis.data.study import POINT, Plan, Study
from analysis.sections.routing import WEIGHT_DECAY, Kind, kind
from analysis.stats.seed_values import between

MODEL, MIXUP, SCHEDULE = "model.name", "augment.mixup", "schedule.name"

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


def _say_best_cell(known: Reported) -> str:
    figures = known["grid_bs_epoch"]
    best = figures["chosen"]
    return (
        f"Batch {best['batch_size']} x {best['epochs']} epochs is the best cell of the grid, by "
        f"{figures['metric']}."
    )


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
    """Of every model of the table but WRN-28-10; one that no launch has is evidence neither way
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
    by = tuple(dict.fromkeys(ran(plan) for plan, _ in looked.values()))
    return Evidence(measured, PAIRED, tuple(comparisons), tuple(why), by=by)


def _say_worse_decay(known: Reported) -> str:
    optimizer = known["protocol"]["optimizer"]
    return (
        f"For all models but WRN-28-10 a weight decay of {optimizer['weight_decay_wrn_28_10']:g} "
        f"is worse than {optimizer['weight_decay']:g}."
    )


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


def _say_schedule(known: Reported) -> str:
    schedule = known["protocol"]["schedule"]
    return f"{schedule['name']} was chosen over {' and '.join(schedule['compared_with'])}."


CLAIMS = (
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
)  # fmt: skip
