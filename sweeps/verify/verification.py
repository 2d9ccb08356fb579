"""Verifies one finished trial: reads its records, runs it again, compares, and says what came of
it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from local_machine import clock, origin
from local_machine.devices import threads_of
from local_machine.errors import InputError
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import load
from sweeps.state.trial_store import TrialStore
from sweeps.task import Task
from sweeps.verify.compare import Compared, Records, compare
from sweeps.verify.rerun import RefusedError, rerun
from trial_records.verified import MACHINE, Verification, attempts_of, digest_of, setting_of

# What a verification says of where each of the two runs comes from.
_ORIGIN = (
    "code_sha256", "git_commit", "git_dirty", "torch_version", "python_version", "device", "host",
)  # fmt: skip


def verify(store: TrialStore, trial: Trial, tolerance: float) -> Verification:
    """Raises RefusedError where the trial cannot be run again here, or its records are damaged,
    NotRerunError where its rerun failed, InputError where the disk is full."""
    recorded = _records(store, trial)
    run = recorded.run
    ranks = run.get("world_size") or 1
    if ranks > 1:
        raise RefusedError(f"it was trained on {ranks} ranks, and a rerun has one process")
    task = _task(trial)
    started = clock.monotonic()
    with rerun(trial, run, store.sweep) as folder:
        again = Records.read(folder)
    seconds = clock.monotonic() - started
    allowed = tolerance if _may_differ(run, again.run) else None
    same_code = run.get("code_sha256") == again.run.get("code_sha256") is not None
    found = compare(recorded, again, task.timings, allowed, is_same_code=same_code)
    return _said(trial, run, again.run, found, allowed, task.is_exact, seconds)


def _task(trial: Trial) -> Task:
    """Raises RefusedError where today's code cannot train the trial."""
    try:
        if trial.problem is not None:
            raise trial.problem
        task = load(trial.task)
        task.check([trial.config], 1)
    except InputError as error:
        raise RefusedError(error.what) from None
    return task


def _records(store: TrialStore, trial: Trial) -> Records:
    folder = store.folder_of(trial)
    try:
        return Records.read(folder)
    except InputError as error:
        raise RefusedError(error.what) from None
    except FileNotFoundError as error:
        raise RefusedError(f"{error.filename or folder} is gone") from None


def _may_differ(run: dict[str, Any], again: dict[str, Any]) -> bool:
    """Whether the machine may make other bits of the same numbers: a GPU, or another device,
    torch or Python than trained it, in one of its attempts."""
    on_gpu = any(threads_of(one.get("device")) is None for one in (run, again))
    machine = setting_of(run, MACHINE)
    return on_gpu or machine is None or machine != setting_of(again, MACHINE)


def _said(
    trial: Trial,
    run: dict[str, Any],
    again: dict[str, Any],
    found: Compared,
    tolerance: float | None,
    is_declared: bool,
    seconds: float,
) -> Verification:
    difference = found.difference
    if difference is not None and difference.share is not None:
        difference = replace(difference, share=_finite(difference.share))
    return Verification(
        trial=trial.name,
        fingerprint=trial.fingerprint,
        run=digest_of(run),
        outcome=found.outcome,
        is_declared=is_declared,
        attempts=max(1, len(attempts_of(run))),
        setting=setting_of(run),
        setting_here=setting_of(again),
        recorded={name: run.get(name) for name in _ORIGIN},
        rerun={name: again.get(name) for name in _ORIGIN},
        tolerance=tolerance,
        largest=_finite(found.largest),
        difference=difference,
        columns=found.columns,
        left_out=found.left_out,
        seconds=seconds,
        verified_at=origin.now(),
    )


def _finite(share: float) -> float | None:
    """None for what JSON cannot say: one of the two values is not finite, or all are 0."""
    return share if math.isfinite(share) else None
