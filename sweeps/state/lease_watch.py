"""The watch over a lease that this process holds: a thread that says that its holder lives, and
looks whether it still holds it.

A process that was cut off (a suspended machine, a network that was away, a node that Slurm took for
dead) may find that its trial was given to another attempt. It sees that within FENCE_SECONDS, also
in the middle of a long step, and once more right before it writes each file of the trial. What it
may still put in place is the one file whose writing had begun.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Self

from local_machine import clock
from local_machine.errors import InputError
from sweeps.run.ends import LostTrialError
from sweeps.state import lease as leases
from sweeps.state.lease import Lease

# How often a holder looks whether the lease is still its own, and how often it says that it lives.
FENCE_SECONDS = 5.0
BEAT_SECONDS = 15.0


class Watch:
    """A context in which a held lease is watched."""

    def __init__(self, folder: Path, lease: Lease) -> None:
        self.folder = folder
        self.lease = lease
        self.is_lost = False
        """As the last look found it."""
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep, name="watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def check(self) -> None:
        """Raises LostTrialError where the thread has found the lease to be another's."""
        if self.is_lost:
            raise LostTrialError

    def look(self) -> None:
        """Look now. Raises LostTrialError where the lease is another's."""
        # A file server that does not answer takes nothing away.
        with contextlib.suppress(InputError):
            self.is_lost = self.is_lost or not leases.is_held(self.folder, self.lease)
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
                leases.beat(self.folder)
