"""Trials one after another in this process, where a debugger can look at them."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from slurm import environment
from slurm.environment import Child
from sweeps.execution.backends.backend import Backend, Work
from sweeps.execution.shutdown import Stop
from sweeps.execution.trial_order import read_seconds
from sweeps.execution.worker import PATIENCE_SECONDS, Worker, start_logging
from sweeps.spec.sweep import Trial
from trainer.config import TrainConfig


class Debug(Backend):
    seconds: float = 0.0
    goes_on: bool = False

    def __init__(self) -> None:
        environment.enter(Child.WORKER)

    def room(self, configs: Sequence[TrainConfig]) -> int:
        return 1

    def submit(self, work: Work) -> None:
        """Run the plans' open trials, also those that others give back meanwhile. Raises
        KeyboardInterrupt where this process is asked to stop."""
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
