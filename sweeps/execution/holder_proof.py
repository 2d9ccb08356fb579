"""Proof that what a lease names is a process, or a job, of this sweep.

A lease is a file, which others may have written: a number in it is not a reason to end anything.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from local_machine import processes
from slurm.job_state import Job
from sweeps.state import lease as leases
from sweeps.state.access import is_written_by_us
from sweeps.state.lease import WORKER, Lease
from sweeps.state.liveness import has_mark, marks, submission_of
from sweeps.state.plan import LOGS

# The variable by which a process is known to be a worker of a launch.
LAUNCH = "SWEEPS_LAUNCH"

# A worker, and one that version 0.1 started.
_WORKERS = ("sweeps.execution.worker", "sweeps.worker")
# The commands that hold leases themselves, besides workers.
_COMMANDS = re.compile(r"sweeps\.(launch|search|study|retry|compact)")


def against_process(sweep: Path, folder: Path, lease: Lease) -> str | None:
    """What speaks against the process that holds `folder` being one of the sweep's, run by this
    user; None where nothing does."""
    if not lease.is_own_process:
        return "it cannot be seen whether it still runs"
    if processes.owner(lease.pid) != os.geteuid() or not _is_written_by_us(folder, lease):
        return "it is another user's"
    words = processes.command(lease.pid)
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if module in _WORKERS:
        ours = _is_worker(words, sweep, lease)
    else:
        ours = _COMMANDS.fullmatch(module) is not None and _names(words, sweep, lease)
    # It may have ended, and its number been given again, while we looked.
    if ours and lease.is_own_process:
        return None
    return "its command line is not that of a worker of this sweep"


def against_job(sweep: Path, folder: Path, lease: Lease, job: Job) -> str | None:
    """What speaks against the job that holds `folder` being the lease's own; None where nothing
    does."""
    if not _is_written_by_us(folder, lease):
        return "it is another user's"
    if submission_of(job) == lease.submission:
        return None
    # The comment of an array that no launch sent is its user's own: a file in the logs marks it.
    array = lease.submission.removeprefix(WORKER)
    if job.id.partition("_")[0] == array and has_mark(job, marks(sweep / LOGS)):
        return None
    return f"its comment does not begin with {lease.submission}"


def _is_written_by_us(folder: Path, lease: Lease) -> bool:
    path = leases.place_of(folder, lease)
    return path is not None and is_written_by_us(path)


def _is_worker(words: list[str], sweep: Path, lease: Lease) -> bool:
    at = words.index("-m") + 2
    launch = _option(words, "--launch")
    return (
        at < len(words)
        and _same(lease.pid, words[at], sweep)
        and launch == repr(lease.launch)
        and processes.variables(lease.pid).get(LAUNCH) == launch
    )


def _names(words: list[str], sweep: Path, lease: Lease) -> bool:
    """Whether a command was given this sweep, or a study, and its results folder."""
    given = {*words, *(Path(word).stem for word in words)}
    results = _option(words, "--results") or "results"
    is_named = sweep.name in given or "sweeps.study" in words
    return is_named and _same(lease.pid, results, sweep.parent)


def _option(words: list[str], name: str) -> str:
    """What follows the option, as `--name value` or `--name=value`; "" where it is not given."""
    for at, word in enumerate(words):
        if word == name and at + 1 < len(words):
            return words[at + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def _same(pid: int, word: str, folder: Path) -> bool:
    """Whether a word of the process's command line names the folder."""
    cwd = processes.folder(pid)
    with contextlib.suppress(OSError):
        return cwd is not None and (cwd / word).samefile(folder)
    return False
