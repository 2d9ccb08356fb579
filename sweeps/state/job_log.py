"""What a Slurm job left behind: its logs, found by its id, and how Slurm says that it ended.

A job that dies before Python starts tells nobody else why: a missing interpreter, a module that
cannot be loaded, a folder that the node does not see.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from pathlib import Path

from local_machine.errors import printable
from local_machine.secrets import masked
from slurm.job_state import Job

TAIL_BYTES = 16_384
LINE = 300
# What Slurm says after each end, whatever its cause.
_AFTERWARDS = re.compile(
    r"srun: (launch|Job step aborted|Terminating|Force Terminated|got SIGCONT).*"
    r"|srun: error: \S+: tasks? [\d,-]+: .*"
    r"|srun: (error: )?Timed out waiting for job step.*"
    r"|slurmstepd: error: \*\*\* .*"
)


def logs_of(folder: Path, job: str) -> list[Path]:
    """The logs of a job, or a task of an array, in a sweep's log folder, by rank."""
    paths = (folder / f"{job}_{rank}_log.out" for rank in itertools.count())
    return list(itertools.takewhile(Path.is_file, paths))


def last_words(folder: Path, job: str, count: int = 1) -> list[str]:
    """The last lines of its logs that say something; none where there is no such log."""
    for path in logs_of(folder, job):
        lines = [line for line in _tail(path).splitlines() if line.strip()]
        said = [line for line in lines if not _AFTERWARDS.fullmatch(line.strip())] or lines
        if said:
            return [printable(masked(line.strip()))[:LINE] for line in said[-count:]]
    return []


def ending(job: Job) -> str:
    """How Slurm says that it ended: `FAILED, exit code 127`."""
    words = [str(job.state)]
    if job.exit_code:
        words.append(f"exit code {job.exit_code}")
    if job.signal:
        words.append(f"signal {job.signal}")
    return ", ".join(words)


def _tail(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:  # noqa: PTH123
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return ""
        file.seek(max(0, status.st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")
