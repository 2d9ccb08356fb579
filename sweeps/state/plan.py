"""The plan of a launch: the trials that it asked for, and how it is stored."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local_machine.secrets import masked_command, masked_values
from sweeps.spec.sweep import Trial
from trial_records import plan as plan_files
from trial_records.plan import FIRST_TASK, PlannedTask

PLANS = plan_files.FOLDER
LOGS = "logs"
SEARCHES = "searches"


@dataclass(frozen=True)
class Plan:
    """The trials of one launch, as it was asked for."""

    sweep: str
    trials: list[Trial]
    scale: str
    overrides: Mapping[str, Any]
    axes: list[str]
    command: str
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    search: Mapping[str, Any] | None = None
    """What a search says of itself where its trials are these; then the plan grows."""
    search_id: str = ""
    task: PlannedTask = FIRST_TASK
    """What trains all of its trials."""
    definition: str | None = None
    """The definition file's text, of a command line that is the definition; kept beside it."""

    def __post_init__(self) -> None:
        """What a plan says of a command is written and shown without secrets."""
        object.__setattr__(self, "command", masked_command(self.command))
        object.__setattr__(self, "overrides", masked_values(self.overrides))

    @functools.cached_property
    def id(self) -> str:
        """8 hex digits: the search's, or what stands for the set of trials, so that the same trials
        are the same plan."""
        if self.search_id:
            return self.search_id
        return plan_files.identity(trial.fingerprint for trial in self.trials)

    @property
    def setting(self) -> str:
        """Scale and overrides in a line."""
        words = ["search"] if self.search is not None else []
        words += [self.scale, *(f"{key}={value}" for key, value in self.overrides.items())]
        return " ".join(words)

    def head(self) -> dict[str, Any]:
        """What its file says beside the trials."""
        return {
            "schema_version": plan_files.SCHEMA_VERSION,
            "sweep": self.sweep,
            "id": self.id,
            "task": self._task(),
            "scale": self.scale,
            "overrides": dict(self.overrides),
            "axes": self.axes,
            "seeds": sorted({seed for trial in self.trials if type(seed := trial.seed) is int}),
            "created": self.created,
            "command": self.command,
            **({"search": dict(self.search)} if self.search is not None else {}),
        }

    def _task(self) -> dict[str, Any]:
        """Without what few tasks have."""
        has = {"command": self.task.command, "is_adopted": self.task.is_adopted}
        return self.task.model_dump(exclude={name for name, value in has.items() if not value})


def trial_to_json(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "fingerprint": trial.fingerprint,
        "point": dict(trial.point),
        "config": dict(trial.values),
    }
