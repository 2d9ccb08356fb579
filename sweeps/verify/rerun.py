"""Runs a finished trial again: whole, in a worker of its own, in a results folder that is thrown
away."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local_machine import clock, processes
from local_machine.devices import threads_of
from local_machine.errors import EXIT_IO, InputError, storage_error
from local_machine.files import read_file
from slurm import environment
from slurm.environment import Child
from sweeps.execution.shutdown import was_killed
from sweeps.spec.sweep import Trial
from sweeps.state.plan import LOGS, Plan
from sweeps.state.trial_store import TrialStore
from trial_records import trial_files
from trial_records.trial_files import Failure

_LOG = "worker.log"


class NotRerunError(Exception):
    """The trial could not be run again here; why, in a line."""


class RefusedError(NotRerunError):
    """It was not even begun."""


def _environment(recorded: Mapping[str, Any]) -> dict[str, str]:
    """A worker's, so that it computes as the trial did: as many threads, and on a CPU where that
    trained it."""
    found = environment.built(Child.WORKER)
    if (threads := threads_of(recorded.get("device"))) is not None:
        # Sums are taken in another order by another number of threads.
        found |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    found.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return found


@contextlib.contextmanager
def rerun(trial: Trial, recorded: Mapping[str, Any], sweep: str) -> Iterator[Path]:
    """Run the trial to its end; its folder, which is gone after the block.

    Raises NotRerunError where it fails, InputError where the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="sweeps-verify-") as place:
        store = TrialStore(Path(place), sweep)
        plan = Plan(sweep, [trial], "full", {}, list(trial.point), "sweeps.verify", task=trial.task)
        try:
            store.write_plan(plan)
            (store.folder / LOGS).mkdir()
            _run(store, plan, recorded)
        except OSError as error:
            raise storage_error(error) or error from None
        folder = store.folder_of(trial)
        if not (folder / trial_files.RUN).exists():
            raise NotRerunError(_why(store, trial))
        yield folder


def _run(store: TrialStore, plan: Plan, recorded: Mapping[str, Any]) -> None:
    """Until the worker has ended; it and what it started end with this block."""
    command = [
        sys.executable, "-m", "sweeps.execution.worker", str(store.folder), "--plan", plan.id,
        "--launch", repr(clock.now()), "--parent", str(os.getpid()),
    ]  # fmt: skip
    with (store.folder / LOGS / _LOG).open("ab") as output:
        worker = processes.start(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(recorded),
            start_new_session=True,
        )
        try:
            worker.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                processes.signal_group(worker.pid, signal.SIGKILL)
            worker.wait()
    if worker.returncode == EXIT_IO:
        raise InputError(
            f"a rerun cannot be written: {_last_words(store)}",
            "free some space there, or have it elsewhere: export TMPDIR=FOLDER",
            exit_code=EXIT_IO,
        )
    if was_killed(worker.returncode):
        raise NotRerunError(f"its worker was ended by signal {-worker.returncode}")


def _why(store: TrialStore, trial: Trial) -> str:
    """What its failure says, or else the end of the worker's log."""
    with contextlib.suppress(InputError):
        failure = Failure.read(store.folder_of(trial))
        if failure is not None:
            return f"{failure.cause}: {' '.join(failure.exception.split())}"
    return _last_words(store)


def _last_words(store: TrialStore) -> str:
    """Of the worker."""
    lines = read_file(store.folder / LOGS / _LOG).decode(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["its worker ended without a word"])[-1]
