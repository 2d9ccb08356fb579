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
