"""The protocol of what runs trials, for launch, search and study alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sweeps.code.launched import LaunchedCode
from sweeps.spec.sweep import Trial
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore


@dataclass(frozen=True)
class Work:
    """Trials to run, of plans that are written down."""

    store: TrialStore
    plans: Sequence[Plan]
    trials: Sequence[Trial]
    launch: float
    """Whose attempts they are: what failed within a launch is not tried again within it."""
    retry: bool = False
    """Only what failed or was lost: workers leave alone what never ran."""
    apart: bool = False
    """Each trial in a process or job of its own, which ends with it."""


class Backend(AbstractContextManager["Backend"], Protocol):
    """What runs trials. What it holds for itself ends with its context."""

    seconds: float
    """Between two looks at the trials' files."""
    goes_on: bool
    """Whether what was submitted goes on without this process."""
    code: LaunchedCode | None = None
    """What its processes run from; None: from the modules that they find."""

    def __exit__(self, *_: object) -> None:
        """By default it holds nothing."""
        return

    def room(self, trials: Sequence[Trial]) -> int:
        """How many trials such as these it runs at once."""

    def submit(self, work: Work) -> None:
        """Have the trials run. Raises InputError, SlurmError and OSError where that cannot be."""

    def poll(self) -> bool:
        """Look after what was submitted; False when nothing of it runs or waits any more.

        Raises InputError where a worker gave up on the machine or the input, in its own words.
        """

    def tell_early_ends(self) -> None:
        """Say on stderr what ended before the work did, and why; by default nothing can."""
        return

    def holds(self, trial: Trial) -> bool:
        """Whether it will see to the trial, though no lease shows that yet."""

    def detach(self) -> None:
        """Wait until others can see what was submitted; it is left alone from now on."""

    def cancel(self) -> None:
        """End what would not go on alone; its trials are given back."""
