"""A time budget: a study stops by itself after so many hours, and the same command goes on later.

It stops as on Ctrl-C: what trains is saved between two steps and given back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from local_machine import processes
from local_machine.devices import device_here, threads_of, visible_gpus
from local_machine.errors import InputError
from sweeps.execution.request import LaunchRequest
from sweeps.study.dry_run import Forecast, forecasts
from sweeps.study.runner import StudyRunner


@dataclass
class TimeBudget:
    """Hours of one device; of one core, on a CPU. None: without end."""

    hours: float | None
    devices: int = 1
    """Which are at work at the same time."""
    is_over: bool = False

    @classmethod
    def of(cls, hours: float | None, request: LaunchRequest) -> TimeBudget:
        """Raises InputError where trials run as jobs, which go on without the study."""
        if hours is not None and request.on_slurm:
            raise InputError(
                "--stop-after counts the hours of this machine, and the trials run as Slurm jobs",
                "end it after a stage instead: --until STAGE; or run here: --on local",
            )
        return cls(hours, _at_work(request.at_once))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Send this process SIGTERM when the hours are over, unless the block has ended."""
        if self.hours is None:
            yield
            return
        timer = threading.Timer(3600 * self.hours / self.devices, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        processes.send_signal(os.getpid(), signal.SIGTERM)

    def tell_what_is_left(self, runner: StudyRunner, begin: int, end: int) -> None:
        """On stderr, what these stages have yet to train, its cost, and the line to type."""
        found = Forecast(list(forecasts(runner, begin, end)))
        left = [one for one in found.stages if one.left]
        names = ", ".join(one.stage.name for one in left) or "the report"
        print(
            f"stopped after {self.hours:g} {found.unit}, as --stop-after says; left: "
            f"{sum(one.left for one in left)} trials of {len(left)} stages ({names}), "
            f"{found.cost_line()}\n"
            f"go on: {runner.command}",
            file=sys.stderr,
        )


def _at_work(workers: int) -> int:
    """How many GPUs so many workers use, or how many cores."""
    gpus = len(visible_gpus())
    return min(workers, gpus) if gpus else workers * (threads_of(device_here(workers)) or 1)
