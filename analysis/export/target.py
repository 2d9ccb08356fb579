"""Target: what an export writes into, by one protocol."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

from analysis.export.trial import Point, Trial
from local_machine.errors import InputError

RESULT = "result/"
"""How the names of a finished trial's results begin, beside the metrics of its steps."""


class Target(Protocol):
    """A tool's store in the destination folder, which one process writes at a time."""

    appends: bool
    """Whether rows can be added to a trial that is there; else it is written again, whole."""

    def has(self, trial: Trial) -> bool:
        """Whether the store has anything of the trial."""

    def write(self, trial: Trial, points: Sequence[Point], since: int) -> None:
        """Add the points from number `since` on, how the trial stands, and its results where it is
        done. Raises InputError where the tool refuses, OSError."""

    def remove(self, trial: Trial) -> None:
        """Remove all that the store has of the trial."""

    def close(self) -> None:
        """Write what is still in memory."""


def required(module: str, package: str) -> ModuleType:
    """A library of an optional extra. Raises InputError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"this export needs the package {package}, and {error.name} is not installed",
            f"pip install {package}",
        ) from None


def renamed(name: str, allowed: re.Pattern[str]) -> str:
    """The name where the tool allows it; else one of plain letters that ends in a digest of it, so
    that no two names become one."""
    if allowed.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9.-]", "_", name).strip("_")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
