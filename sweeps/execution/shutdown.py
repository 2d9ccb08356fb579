"""Stop: whether this process was asked to stop. Training asks after every step.

A signal sets a flag. An exception out of the handler would be lost wherever a library catches
everything: in the import of torch, in a destructor.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass

from local_machine import signals

log = logging.getLogger("sweeps.execution.shutdown")

# What asks a process to stop, before it listens or where it does not. Any other signal that ends
# one was an accident.
_REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequested(BaseException):
    """Asked to stop, and too long in one step. No Exception, so that no trial's handler eats it."""


@dataclass
class Stop:
    """Whether this process was asked to stop."""

    patience_seconds: float = 0.0
    """How long the current step may still take before StopRequested ends it; 0: for ever."""
    warned: bool = False
    in_steps: bool = False
    """Whether training asks after each step now, so that the flag is soon seen."""

    def __post_init__(self) -> None:
        self.plain_seconds = self.patience_seconds

    def listen(self, *numbers: signal.Signals) -> None:
        """Take these signals as requests to stop. Only in the main thread."""
        for number in numbers:
            signals.handle(number, self._hear)
        if self.patience_seconds:
            signals.handle(signal.SIGALRM, self._end_at_once)

    def during(self, work: Callable[[], bool]) -> bool:
        """Do the work; whether it was stopped. A request ends nothing any more after that: the
        process goes on to its own end."""
        try:
            try:
                return work()
            finally:
                self.disarm()
        except StopRequested:
            # It may have come before the timer was off; another would be a patience away.
            self.disarm()
            return True

    def allow(self, seconds: float) -> None:
        """The current step may take so much longer than any other."""
        if self.patience_seconds:
            self.patience_seconds = self.plain_seconds + seconds

    def disarm(self) -> None:
        """The request was heard: it ends nothing any more."""
        self.patience_seconds = 0.0
        signals.alarm(0)

    def _hear(self, number: int, _: object) -> None:
        log.warning("%s: stopping after this step", signal.Signals(number).name)
        self.warned = True
        if self.patience_seconds:
            # Once more and again after that, since one exception may be lost.
            signals.alarm(self.patience_seconds, self.patience_seconds)
            # In imports and between trials nobody asks for seconds. Lost, it leaves the flag.
            if not self.in_steps:
                raise StopRequested

    def _end_at_once(self, *_: object) -> None:
        if self.patience_seconds:
            raise StopRequested

    def __call__(self) -> bool:
        return self.warned


def was_killed(code: int) -> bool:
    """Whether a process with this exit code was ended by a signal that did not ask it to stop."""
    return code < 0 and -code not in _REQUESTS
