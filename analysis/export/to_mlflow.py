"""MLflow's own store, DEST/mlflow.db: an experiment for each sweep, a run for each trial.

It is an SQLite database, which `mlflow ui --backend-store-uri sqlite:///DEST/mlflow.db` shows; the
current MLflow no longer writes `mlruns` folders.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.export.target import RESULT, renamed, required
from analysis.export.trial import Point, Trial
from local_machine import clock
from local_machine.errors import EXIT_IO, InputError

_ALLOWED = re.compile(r"(?!\.+(?:/|$))[\w. -]+(?:/(?!\.+(?:/|$))[\w. -]+)*", re.ASCII)
# What one call takes.
_METRICS, _PARAMS, _LONGEST = 1000, 100, 6000
_ENDS = {"done": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
_TRIAL = "sweeps.trial"


class MLflow:
    appends = True

    def __init__(self, dest: Path) -> None:
        """Raises InputError where MLflow is not installed, or cannot use the folder's name."""
        if set(str(dest.absolute())) & set("?#%"):
            raise InputError(
                f"{dest}: MLflow cannot use a folder with ?, # or % in its name", "give another"
            )
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        client = required("mlflow.tracking", "mlflow-skinny").MlflowClient
        dest.mkdir(parents=True, exist_ok=True)
        self._dest = dest
        self._client: Any = client(tracking_uri=f"sqlite:///{dest.absolute()}/mlflow.db")
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, dict[str, str]] = {}

    def has(self, trial: Trial) -> bool:
        return trial.name in self._known(trial.sweep)

    def remove(self, trial: Trial) -> None:
        if (run := self._known(trial.sweep).pop(trial.name, None)) is not None:
            self._client.delete_run(run)

    def write(self, trial: Trial, points: Sequence[Point], since: int) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._write(trial, points, since)
        except MlflowException as error:
            raise InputError(
                f"MLflow refuses {trial.sweep}/{trial.name}: {str(error).partition(chr(10))[0]}",
                f"see whether {self._dest / 'mlflow.db'} is of another version of MLflow",
                exit_code=EXIT_IO,
            ) from None

    def _write(self, trial: Trial, points: Sequence[Point], since: int) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run = self._run(trial)
        at = int(1000 * (trial.ended if trial.run else clock.now()))
        metrics = [
            Metric(renamed(name, _ALLOWED), value, at, point.step)
            for point in points[since:]
            for name, value in point.numbers.items()
        ]
        last = points[-1].step if points else 0
        metrics += [
            Metric(renamed(RESULT + name, _ALLOWED), value, at, last)
            for name, value in trial.results.items()
        ]
        for some in _batches(metrics, _METRICS):
            self._client.log_batch(run, metrics=some)
        if not since:
            config = trial.config.items()
            params = [Param(renamed(name, _ALLOWED), str(one)[:_LONGEST]) for name, one in config]
            for some in _batches(params, _PARAMS):
                self._client.log_batch(run, params=some)
        tags = [RunTag(f"sweeps.{name}", value) for name, value in trial.labels.items()]
        self._client.log_batch(run, tags=tags)
        if trial.is_over:
            self._client.set_terminated(run, _ENDS[trial.state], end_time=at)

    def close(self) -> None:
        pass

    def _run(self, trial: Trial) -> str:
        known = self._known(trial.sweep)
        if trial.name not in known:
            made = self._client.create_run(
                self._experiment(trial.sweep),
                start_time=int(1000 * trial.began),
                run_name=trial.name,
                tags={_TRIAL: trial.name},
            )
            known[trial.name] = made.info.run_id
        return known[trial.name]

    def _known(self, sweep: str) -> dict[str, str]:
        """The run of each trial of the sweep that the store has."""
        if sweep not in self._runs:
            runs = self._stored(self._experiment(sweep))
            self._runs[sweep] = {run.data.tags[_TRIAL]: run.info.run_id for run in runs}
        return self._runs[sweep]

    def _stored(self, experiment: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs(
                [experiment], f"tags.`{_TRIAL}` != ''", page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _experiment(self, sweep: str) -> str:
        if sweep not in self._experiments:
            found = self._client.get_experiment_by_name(sweep)
            artifacts = (self._dest.absolute() / "artifacts").as_uri()
            self._experiments[sweep] = (
                found.experiment_id
                if found
                else self._client.create_experiment(sweep, artifact_location=artifacts)
            )
        return self._experiments[sweep]


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """`itertools.batched` of Python 3.12, as lists."""
    left = iter(items)
    while some := list(itertools.islice(left, size)):
        yield some
