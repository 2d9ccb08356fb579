"""Offline runs of W&B: DEST/wandb/offline-run-*, a project for each sweep and a run for each trial.

Nothing is sent; `wandb sync DEST/wandb/offline-run-*` does that. A run that grew is written again
under its id, since an offline run cannot be opened again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis.export.target import RESULT, renamed, required
from analysis.export.trial import Point, Trial
from local_machine.errors import EXIT_IO, InputError
from local_machine.files import matching

# A name that begins with "_" is W&B's own.
_ALLOWED = re.compile(r"[^_].*")
_PROJECT = re.compile(r"[\w .-]{1,128}", re.ASCII)


class WandB:
    appends = False

    def __init__(self, dest: Path) -> None:
        """Raises InputError where W&B is not installed."""
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # it would send its own errors
        self._wandb = required("wandb", "wandb")
        self._dest = dest
        self._settings = self._wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True,
            x_disable_meta=True, x_save_requirements=False,
        )  # fmt: skip

    def has(self, trial: Trial) -> bool:
        return any(self._folders(trial))

    def remove(self, trial: Trial) -> None:
        for folder in list(self._folders(trial)):
            shutil.rmtree(folder)

    def write(self, trial: Trial, points: Sequence[Point], since: int) -> None:
        try:
            run = self._wandb.init(
                mode="offline", dir=str(self._dest), id=_id(trial), name=trial.name,
                project=renamed(trial.sweep, _PROJECT), group=trial.task.name[:128],
                config={**trial.config, "sweeps": trial.labels},
                settings=self._settings, reinit="create_new",
            )  # fmt: skip
            for point in points[since:]:
                run.log(_named(point.numbers), step=point.step)
            # Not into its summary, which has no NaN: what is logged is there as well.
            if results := trial.results:
                last = points[-1].step if points else 0
                run.log({RESULT + name: value for name, value in results.items()}, step=last)
            run.finish(exit_code=1 if trial.state == "failed" else 0)
        except self._wandb.Error as error:
            raise InputError(
                f"W&B refuses {trial.sweep}/{trial.name}: {error}",
                f"see {self._dest / 'wandb' / 'debug.log'}",
                exit_code=EXIT_IO,
            ) from None

    def close(self) -> None:
        self._wandb.teardown()

    def _folders(self, trial: Trial) -> list[Path]:
        return matching(self._dest / "wandb", f"offline-run-*-{_id(trial)}")


def _id(trial: Trial) -> str:
    return hashlib.sha256(f"{trial.sweep}/{trial.name}".encode()).hexdigest()[:16]


def _named(numbers: dict[str, float]) -> dict[str, float]:
    return {renamed(name, _ALLOWED): value for name, value in numbers.items()}
