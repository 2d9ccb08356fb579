"""Trackio's own database, DEST/SWEEP.db: a project for each sweep, a run for each trial.

`TRACKIO_DIR=DEST trackio show` shows it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.export.target import RESULT, renamed, required
from analysis.export.trial import Point, Trial
from local_machine.errors import EXIT_IO, InputError

# Trackio names its files so, and leaves other characters out.
_PROJECT = re.compile(r"[A-Za-z0-9_-]+")
_ALLOWED = re.compile(r"(?!(?:project|run|timestamp|step|time|metrics)$)[^_].*")


class Trackio:
    appends = True

    def __init__(self, dest: Path) -> None:
        """Raises InputError where Trackio is not installed, or works in another folder already."""
        # It reads this when it is imported.
        os.environ["TRACKIO_DIR"] = str(dest.absolute())
        os.environ["HF_HUB_OFFLINE"] = "1"
        self._trackio = required("trackio", "trackio")
        place = required("trackio.utils", "trackio").TRACKIO_DIR
        if place != dest.absolute():
            raise InputError(
                f"Trackio works in {place} in this process already",
                "export in a process of its own: python -m analysis.export",
            )
        self._names: dict[str, set[str]] = {}

    def has(self, trial: Trial) -> bool:
        if trial.sweep not in self._names:
            self._names[trial.sweep] = {run.name for run in self._runs(trial.sweep)}
        return trial.name in self._names[trial.sweep]

    def remove(self, trial: Trial) -> None:
        if self.has(trial):
            for run in self._runs(trial.sweep):
                if run.name == trial.name:
                    run.delete()
            self._names[trial.sweep].discard(trial.name)

    def write(self, trial: Trial, points: Sequence[Point], since: int) -> None:
        labels = {f"sweeps.{name}": value for name, value in trial.labels.items()}
        last = points[-1].step if points else 0
        with _refusals(trial), contextlib.redirect_stdout(io.StringIO()):
            run = self._trackio.init(
                project=renamed(trial.sweep, _PROJECT),
                name=trial.name,
                group=trial.task.name,
                config={**_named(trial.config), **labels},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            for point in points[since:]:
                run.log(_named(point.numbers), step=point.step)
            # A run without any row would not be stored.
            results = {RESULT + name: value for name, value in trial.results.items()}
            if results or not points:
                run.log(results, step=last)
            # Not the run's own: Trackio would finish it again, aloud, when Python ends.
            self._trackio.finish()
        self._names.setdefault(trial.sweep, set()).add(trial.name)

    def close(self) -> None:
        pass

    def _runs(self, sweep: str) -> list[Any]:
        """The runs of the sweep that the database has."""
        try:
            return list(self._trackio.Api().runs(renamed(sweep, _PROJECT)))
        except ValueError:
            return []  # there is no such project yet


def _named(values: dict[str, Any]) -> dict[str, Any]:
    return {renamed(name, _ALLOWED): value for name, value in values.items()}


@contextlib.contextmanager
def _refusals(trial: Trial) -> Iterator[None]:
    """What Trackio only warns of, as an InputError."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = ""
        try:
            yield
        except ValueError as error:
            said = str(error)
    said = said or next((str(one.message) for one in caught if one.category is UserWarning), "")
    if said:
        raise InputError(
            f"Trackio refuses {trial.sweep}/{trial.name}: {said}",
            "see to what it says, then export again: it goes on from where it stopped",
            exit_code=EXIT_IO,
        )
