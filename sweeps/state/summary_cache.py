"""The summary cache: what finished trials told of themselves, kept between commands.

results/<sweep>/logs/.seen.json

The records of a finished trial change no more, and reading those of 10,000 takes many seconds. So
what a status shows of them is kept beside the stamp of the files that it was read from: inode, size
and time of change, or the name of a compact file. Where a stamp differs, the files are read. The
last of several commands that write the file wins; it may be removed at any time, and where its seal
does not hold (seal.py), or it cannot be written, all is read again.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from local_machine import seal
from local_machine.errors import InputError
from local_machine.files import read_file, write_atomic
from sweeps.spec.sweep import Trial
from trial_records import trial_files

FILE = ".seen.json"
# So many trials are worth a file: to read fewer takes no tenth of a second.
MANY = 100


class Figures(NamedTuple):
    """What `sweeps.state.progress` tells of a finished trial."""

    epochs_done: int
    best: float | None
    seconds_per_epoch: float | None
    stopped_early: bool
    devices: float | None
    attempts: int
    run: str | None
    setting: str | None
    code: str | None


class _Entry(NamedTuple):
    stamp: str
    identity: str
    figures: Figures


_MARKER = b'"sha256":"'


class _File(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    trials: dict[str, _Entry]
    sha256: str


class SummaryCache:
    """The figures of a sweep's finished trials. `logs` is its folder of logs."""

    def __init__(self, logs: Path) -> None:
        self._path = logs / FILE
        self._new = 0

    @functools.cached_property
    def _entries(self) -> dict[str, _Entry]:
        try:
            content = read_file(self._path)
            return _File.model_validate_json(content).trials if seal.holds(content, _MARKER) else {}
        except (OSError, InputError, ValidationError):
            return {}

    def find(self, trial: Trial, folder: Path, parts: Mapping[str, Path]) -> Figures | None:
        """The figures of the trial, where its files are those that they were read from; `parts` has
        the compact file of each trial that is in one."""
        entry = self._entries.get(trial.name)
        if entry is None or entry.identity != _identity(trial):
            return None
        return entry.figures if entry.stamp == stamp(folder, parts) else None

    def keep(self, trial: Trial, stamp: str | None, figures: Figures) -> None:
        """Note the figures, for `save`; those that were read before the files had the stamp are
        not asked for."""
        if stamp is not None:
            self._entries[trial.name] = _Entry(stamp, _identity(trial), figures)
            self._new += 1

    def save(self) -> None:
        """Write the file, where there is enough that it does not hold."""
        if self._new < MANY or not self._path.parent.is_dir():
            return
        blank = _File(trials=self._entries, sha256=seal.BLANK.decode()).model_dump_json()
        content = seal.sealed(blank.encode(), _MARKER)
        with contextlib.suppress(OSError):
            write_atomic(self._path, lambda file: file.write(content))
        self._new = 0


def _identity(trial: Trial) -> str:
    """Of what the figures are: the trial, by the objective of its plan."""
    return " ".join(map(str, (trial.fingerprint, *trial.task.objective)))


def stamp(folder: Path, parts: Mapping[str, Path]) -> str | None:
    """What tells one state of a finished trial's files from every other; None where one is gone."""
    try:
        # Not by Path, which takes longer than the system does.
        files = [os.stat(f"{folder}/{name}") for name in (trial_files.RUN, trial_files.EPOCHS)]  # noqa: PTH116
    except OSError:
        part = parts.get(folder.name)
        # Not by Path, whose question may raise.
        here = os.path.exists(f"{folder}/{trial_files.EPOCHS}")  # noqa: PTH110
        return None if part is None or here else part.name
    return " ".join(f"{one.st_ino} {one.st_size} {one.st_ctime_ns}" for one in files)
