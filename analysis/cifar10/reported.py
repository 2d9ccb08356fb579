"""The reported figures of the study that comes with the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def reported() -> dict[str, Any]:
    """The figures of the reference study, in percent: reported.json."""
    path = Path(__file__).with_name("reported.json")
    figures: dict[str, Any] = json.loads(path.read_bytes())
    return figures


def recipe(model: str) -> dict[str, Any]:
    """The reported recipe of an architecture, flat; empty for one that this version does not
    know."""
    from trainer.recipes import reported

    try:
        return reported(model).flat()
    except ValueError:
        return {}
