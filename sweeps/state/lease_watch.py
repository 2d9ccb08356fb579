"""The watch over a lease that this process holds: a thread that says that its holder lives, and
looks whether it still holds it; and one that ends the process where it does not.

A process that was cut off (a suspended machine, a network that was away, a node that Slurm took for
dead) may find that its trial was given to another attempt. It sees that within FENCE_SECONDS, also
in the middle of a long step, and has END_SECONDS to come to its end by itself. A lease that cannot
be read for UNREADABLE_SECONDS is taken for lost. What it writes meanwhile goes to a folder that
counts no more (sweeps/run/attempt_folder.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Self

from local_machine import clock
from local_machine.errors import EXIT_IO, InputError
from sweeps.run.attempt import BOUND_SECONDS
from sweeps.run.ends import LostTrialError
from sweeps.state import lease as leases
from sweeps.state.lease import Lease

log = logging.getLogger("sweeps.state.lease_watch")

# How often a holder looks whether the lease is still its own, and how often it says that it lives.
FENCE_SECONDS = 5.0
BEAT_SECONDS = 15.0
# For how long it may not be able to look, and how long it may take to end then.
UNREADABLE_SECONDS = 60.0
END_SECONDS = BOUND_SECONDS - FENCE_SECONDS - UNREADABLE_SECONDS


class Watch:
    """A context in which a held lease is watched."""

    def __init__(self, folder: Path, lease: Lease) -> None:
        self.folder = folder
        self.lease = lease
        self.is_lost = False
        """As the last look found it."""
        self._over = threading.Event()
        # How often the second thread woke since the first one last saw the lease. Not by a clock:
        # of a process that was stopped, both were.
        self._unseen = 0

    def __enter__(self) -> Self:
        for keep in (self._keep, self._end_when_lost):
            threading.Thread(target=keep, name="watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def check(self) -> None:
        """Raises LostTrialError where a thread has found the lease to be another's, or could not
        look for too long."""
        if self.is_lost:
            raise LostTrialError

    def look(self) -> None:
        """Look now. Raises LostTrialError where the lease is another's."""
        # A file server that does not answer takes nothing away, for a while.
        with contextlib.suppress(InputError):
            self.is_lost = self.is_lost or not leases.is_held(self.folder, self.lease)
            self._unseen = 0
        self.check()

    def _keep(self) -> None:
        beaten = -BEAT_SECONDS
        while not self._over.wait(FENCE_SECONDS):
            try:
                self.look()
            except LostTrialError:
                return
            if clock.monotonic() - beaten >= BEAT_SECONDS:
                beaten = clock.monotonic()
                leases.beat(self.folder, self.lease)

    def _end_when_lost(self) -> None:
        """In a thread that touches no file, since a file server may keep the other one waiting."""
        while not self._over.wait(FENCE_SECONDS):
            self._unseen += 1
            self.is_lost = self.is_lost or self._unseen * FENCE_SECONDS > UNREADABLE_SECONDS
            if self.is_lost:
                break
        if self.is_lost and not self._over.wait(END_SECONDS):
            log.error("another attempt holds %s, or its lease cannot be read: ending", self.folder)
            os._exit(EXIT_IO)
