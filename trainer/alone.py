"""One trial that no sweep holds, in a folder of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweeps.run import attempt_folder
from sweeps.run.attempt import Attempt
from sweeps.run.attempt_files import see_config
from sweeps.run.ends import LostTrialError
from sweeps.run.handle import Run
from trainer import distributed
from trainer.config import TrainConfig
from trainer.records.history import Row
from trainer.train import train
from trial_records import tables


def train_alone(
    config: TrainConfig,
    out: Path,
    on_epoch: Callable[[Row], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    facts: Mapping[str, Any] | None = None,
) -> Row:
    """Run the trial, or what is left of it, in the folder `out`, which no other process may write
    meanwhile; return the row of run.parquet, on every rank.

    `should_stop` is asked between steps; `facts` are for the record of this attempt. Raises as
    `train` does.
    """
    attempt = Attempt(out, config.fingerprint, config.to_json(), facts=facts or {})
    with distributed.join() as group:
        finished = group.from_main(lambda: _open(attempt))
        if finished is not None:
            return finished
        run = Run(attempt, stop=should_stop)
        try:
            metrics = train(config, run, on_epoch)
        except BaseException as error:
            with contextlib.suppress(OSError, LostTrialError):
                run.end(is_over=isinstance(error, Exception))
                attempt_folder.drop(out, attempt.token)
            raise
        return group.from_main(lambda: run.finish(metrics))


def _open(attempt: Attempt) -> Row | None:
    """The row of the trial's run where it is finished; else make its folder, and the attempt's."""
    see_config(attempt.trial, attempt.fingerprint, attempt.config)
    try:
        return tables.read_run(attempt.trial, attempt.fingerprint)
    except FileNotFoundError:
        attempt_folder.make(attempt.trial, attempt.token)
        return None
