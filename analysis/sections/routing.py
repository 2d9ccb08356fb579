"""Kind: which section of the report a launch belongs in."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from analysis.data.study import Plan

WEIGHT_DECAY = "optimizer.weight_decay"
# One of these alone is an ablation: what switching a part of the recipe brings.
_ABLATED = (
    "augment.", "schedule.", "early_stopping.", "label_smoothing", "hard_fraction", "precision",
    "model.stem", "model.dropout", "model.patch", "optimizer.name", "optimizer.nesterov",
    "optimizer.decay_norms_and_biases", "optimizer.ema_decay",
)  # fmt: skip

# Of more, a comparison of each with the recipe's own value is too long for anybody to read.
_MOST_VALUES = 40


class Kind(StrEnum):
    """Values are the sections' titles, in the report's order."""

    GRID = "Batch size x epochs"
    ARCHITECTURES = "Architectures"
    DECAY = "Weight decay"
    ABLATION = "Ablations"
    SINGLE = "Diagnostics"
    SEARCH = "Searches"
    SWEEP = "Other sweeps"


def kind(plan: Plan) -> Kind:
    """By its axes: whoever varies what the study varies gets the study's section for it."""
    if plan.search is not None:
        decay = plan.is_of_today and set(plan.search.space) == {WEIGHT_DECAY}
        return Kind.DECAY if decay else Kind.SEARCH
    axes = set(plan.axes)
    if not plan.is_of_today:
        return Kind.SWEEP  # where nothing is expected of a field
    if not axes:
        return Kind.SINGLE
    if axes == {"model.name"}:
        return Kind.ARCHITECTURES
    if axes == {"batch_size", "epochs"} and _all_integer(plan, axes):
        return Kind.GRID
    if axes in ({WEIGHT_DECAY}, {WEIGHT_DECAY, "model.name"}):
        return Kind.DECAY
    if len(axes) == 1 and plan.axes[0].startswith(_ABLATED) and _values(plan) <= _MOST_VALUES:
        return Kind.ABLATION
    return Kind.SWEEP


def _values(plan: Plan) -> int:
    from analysis.data.study import POINT

    return int(plan.runs[POINT + plan.axes[0]].nunique())


def _all_integer(plan: Plan, axes: set[str]) -> bool:
    from analysis.data.study import POINT

    return all(pd.api.types.is_integer_dtype(plan.runs[POINT + axis]) for axis in axes)
