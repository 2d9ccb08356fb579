"""Trials one after another in this process, where a debugger can look at them."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator, Sequence

from local_machine import signals
from slurm import environment
from slurm.environment import Child
from sweeps.execution.backends.backend import Backend, Work
from sweeps.execution.shutdown import Stop
from sweeps.execution.trial_order import read_seconds
from sweeps.execution.worker import PATIENCE_SECONDS, Worker, start_logging
from sweeps.spec.sweep import Trial


class Debug(Backend):
    """A worker in this process, which may be a notebook's and is its own again afterwards."""

    seconds: float = 0.0
    goes_on: bool = False

    def __init__(self) -> None:
        self._context = contextlib.ExitStack()
        self._context.enter_context(environment.within(Child.WORKER))
        self._context.enter_context(_logging_kept())

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def room(self, trials: Sequence[Trial]) -> int:
        return 1

    def submit(self, work: Work) -> None:
        """Run the plans' open trials, also those that others give back meanwhile. Raises
        KeyboardInterrupt where this process is asked to stop."""
        self._context.enter_context(signals.kept(signal.SIGTERM, signal.SIGALRM))
        stop = Stop(PATIENCE_SECONDS)
        seconds = read_seconds(work.store, [plan.id for plan in work.plans])
        worker = Worker(work.store, work.launch, "", work.retry, stop=stop, seconds=seconds)
        start_logging(worker)
        stop.listen(signal.SIGTERM)
        trials = {trial.name: trial for plan in work.plans for trial in plan.trials}
        if stop.during(lambda: worker.run(trials.values())):
            raise KeyboardInterrupt

    def poll(self) -> bool:
        return False

    def holds(self, trial: Trial) -> bool:
        return False

    def detach(self) -> None:
        pass

    def cancel(self) -> None:
        pass


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
