"""Progress: where the trials of a launch stand that have no result, and how far each has come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# A trial in one of these states may still get a result; in any other it is over.
OPEN = ("running", "queued", "pending", "lost", "unknown")


@dataclass(frozen=True)
class Unfinished:
    """A trial without a result.

    `state` is one of OPEN, or failed or pruned. `done` and `planned` count units of its task's
    budget (epochs, steps), or rows where the task has none; `planned` is None where it is not
    known. `reason` says why it stands there: where it runs, why it was lost, what is damaged.
    """

    trial: str
    state: str
    done: int = 0
    planned: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Progress:
    """Of one launch: its trials without a result, in the plan's order, and the seconds until the
    last one ends, None where that is not known."""

    trials: list[Unfinished] = field(default_factory=list)
    seconds_left: float | None = None

    @property
    def is_live(self) -> bool:
        """Whether anything runs, or waits in a queue."""
        return any(one.state in ("running", "queued") for one in self.trials)

    def states(self, names: Iterable[str]) -> list[str]:
        """The state of each trial; "" of one that has a result."""
        known = {one.trial: one.state for one in self.trials}
        return [known.get(name, "") for name in names]
