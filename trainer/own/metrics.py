"""Metrics of a person's own: fn(logits, targets) -> number, of a whole set of images.

Logits are (N, classes) in fp32, targets class indices (N,), int64, both on the CPU. A function
whose first parameter is called `predictions` gets the predicted classes (N,) in the place of the
logits.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from local_machine.code import references
from local_machine.errors import InputError
from trainer.config import TrainConfig

Metrics = Mapping[str, Callable[[Tensor, Tensor], Any]]
PREDICTIONS = "predictions"


def own_metrics(config: TrainConfig) -> Metrics:
    """The functions by their names. Raises InputError where one cannot be imported."""
    return {
        one.rpartition(":")[2]: references.load_callable(one, f"metrics: {one}")
        for one in config.metrics
    }


def measured(metrics: Metrics, logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Each metric's value; NaN and infinity are values, too. Raises InputError for what is not a
    number, and what a function raises."""
    return {name: _value(name, one, logits, targets) for name, one in metrics.items()}


def _value(
    name: str, function: Callable[[Tensor, Tensor], Any], logits: Tensor, targets: Tensor
) -> float:
    parameters = [*inspect.signature(function).parameters]
    found = function(logits.argmax(1) if parameters[:1] == [PREDICTIONS] else logits, targets)
    if isinstance(found, Tensor) and found.numel() == 1:
        found = found.item()
    if not isinstance(found, numbers.Real):
        raise InputError(
            f"the metric {name} returned a {type(found).__name__}, not a number",
            "return a float from it",
        )
    return float(found)
