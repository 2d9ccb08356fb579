"""The reported figures of the study that comes with the project."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from trainer import recipes


@functools.cache
def reported() -> dict[str, Any]:
    """The figures of the reference study, in percent: reported.json."""
    figures: dict[str, Any] = json.loads(Path(__file__).with_name("reported.json").read_bytes())
    return figures


@functools.cache
def recipe(model: str) -> dict[str, Any]:
    """The reported recipe of an architecture, flat; empty for one that this version does not
    know."""
    try:
        return recipes.reported(model).flat()
    except ValueError:
        return {}


def field_values(field: str) -> dict[str, float]:
    """What the study reports for a field of the configuration, by the words that say for which
    models; empty where it reports nothing.
    """
    given = reported()["protocol"]
    optimizer, cutout = given["optimizer"], given["augmentation"]["cutout"]
    general, wide = " (every model but WRN-28-10)", " (WRN-28-10)"
    table: dict[str, dict[str, float]] = {
        "optimizer.weight_decay": {
            general: optimizer["weight_decay"],
            wide: optimizer["weight_decay_wrn_28_10"],
        },
        "augment.cutout": {general: cutout["length"], wide: cutout["length_wrn_28_10"]},
        "optimizer.lr": {"": optimizer["lr"]},
        "optimizer.momentum": {"": optimizer["momentum"]},
        "label_smoothing": {"": given["loss"]["label_smoothing"]},
        "batch_size": {"": given["batch_size"]},
        "epochs": {"": given["epochs"]},
    }
    return table.get(field, {})
