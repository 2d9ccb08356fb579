"""What was logged while a trial ran, attempt after attempt: each line once, as it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from local_machine.errors import InputError
from local_machine.files import matching, open_file
from sweeps.execution import job_entry
from sweeps.execution.worker import END, START
from sweeps.state import lease as leases
from sweeps.state.job_log import logs_of
from sweeps.state.lease import WORKER
from sweeps.state.plan import LOGS
from sweeps.state.trial_store import TrialStore


class TrialLog:
    """The log of a trial, over the files of all workers and jobs that ran it."""

    def __init__(self, store: TrialStore, trial: str) -> None:
        self._store, self._trial = store, trial
        self._read: dict[Path, int] = {}  # bytes
        self._inside: dict[Path, bool] = {}  # whether the last line read is of this trial

    def new_lines(self, *, whole: bool = False) -> Iterator[str]:
        """The lines since the last call; with `whole`, also a last one that has no end yet."""
        folder = self._store.folder / LOGS
        own = {path for job in self.jobs() for path in logs_of(folder, job)}
        found = [*matching(folder, "*.log"), *matching(folder, "*_log.out")]
        for log in sorted((path for path in found if path.is_file()), key=_written):
            for line in self._lines(log, whole=whole):
                if log in own or self._is_ours(log, line):
                    yield line

    def jobs(self) -> list[str]:
        """The jobs that ran, or were to run, this trial alone: of each launch that sent it."""
        found: list[str] = []
        for path in matching(self._store.folder / LOGS, ".*.json"):
            # Other hidden files are there, and a damaged note must not hide what can be printed.
            with contextlib.suppress(InputError, OSError):
                note = job_entry.read_note(path)
                pairs = zip(note.trials, note.jobs, strict=False)
                found += [job for one, job in pairs if one == self._trial]
        with contextlib.suppress(InputError, OSError):
            lease = leases.read(self._store.folder / self._trial)
            if lease is not None and lease.job and not lease.submission.startswith(WORKER):
                found.append(lease.job)
        return sorted(set(found))

    def _lines(self, log: Path, *, whole: bool) -> list[str]:
        begin = self._read.get(log, 0)
        with open_file(log) as file:
            file.seek(begin)
            content = file.read()
        if not whole:
            content = content[: content.rfind(b"\n") + 1]
        self._read[log] = begin + len(content)
        return content.decode(errors="replace").splitlines()

    def _is_ours(self, log: Path, line: str) -> bool:
        """Whether the line stands between the marks that a worker of many trials sets around each
        attempt at this one, or is one."""
        inside = self._inside.get(log, False)
        if START in line:
            inside = f"{START} {self._trial}," in line
        self._inside[log] = inside and END not in line
        return inside


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
