"""Which attempt at which trial a run is, and what watches it."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trial_records import metrics
from trial_records.config import TRAINER

# How long after its lease was lost no process of an attempt does anything any more.
BOUND_SECONDS = 95.0


class Watcher(Protocol):
    """What knows whether the attempt still holds its trial; both raise LostTrialError."""

    def check(self) -> None:
        """By what is known."""

    def look(self) -> None:
        """By looking now."""


class Unwatched:
    """Of an attempt that holds no lease."""

    def check(self) -> None: ...

    look = check


@dataclass(frozen=True)
class Attempt:
    """Which attempt at which trial a run is."""

    trial: Path
    """The trial's folder."""
    fingerprint: str
    config: str
    """The content of its config.json."""
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of its lease; its private folder, of that name, is there already."""
    number: int = 1
    limit_seconds: float = math.inf
    """How long its job may take; then the cluster stops it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known of it where it was started, for its task's records."""
    task: str = TRAINER
    """The name of the trial's task."""

    @property
    def whose(self) -> dict[str, str]:
        """The columns by which each of the trial's files says whose it is."""
        return metrics.whose(self.trial, self.fingerprint, self.task)
