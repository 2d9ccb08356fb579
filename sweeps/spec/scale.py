"""Scales: the same sweep at the study's size, or smaller by what its task says of the scale."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sweeps.task import Task


class Scale(StrEnum):
    FULL = "full"
    CPU = "cpu"
    SMOKE = "smoke"


def scaled(task: Task, configs: Sequence[Any], scale: Scale) -> list[dict[str, Any]]:
    """The overrides that bring each configuration of one sweep to `scale`. Raises InputError where
    the task has no such scale."""
    return [{} for _ in configs] if scale is Scale.FULL else task.scaled(configs, str(scale))
