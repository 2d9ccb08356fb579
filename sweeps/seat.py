"""The seat of a driver: one process at a time drives a search, or a study.

It is held by a claim on the folder of what is driven. A driver that is a Slurm job, requeued, finds
its own claim from before and takes it over.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurm import environment
from slurm.environment import Child
from sweeps import claim as claims
from sweeps.claim import Claim
from sweeps.scheduler import Scheduler
from trainer.errors import InputError


def leave_job() -> dict[str, Any]:
    """What a claim says of the Slurm job that this runs in; its variables, which would make every
    sbatch a part of it, are taken away."""
    # In an interactive job a person works, who may drive several searches and go on afterwards.
    job = os.environ.get("SLURM_JOB_ID") if os.environ.pop("SWEEPS_DRIVER", None) else None
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    for name in list(os.environ):
        if name.startswith("SLURM_") and environment.is_removed(name, Child.JOB):
            del os.environ[name]
    if job is None:
        return {}
    return {"submission": f"driver-{job}", "job": job, "started": True, "restarts": restarts}


@contextlib.contextmanager
def held(
    folder: Path, job: dict[str, Any], scheduler: Scheduler, what: str, advice: str
) -> Iterator[None]:
    """The claim on a folder while `what` is driven; `job` is leave_job's. Raises InputError where
    another has it, with `advice`, and OSError where the folder cannot be written."""
    wanted = Claim(1, 0, time.time(), "", **job)

    def is_alive(found: Claim) -> bool:
        # A requeued job finds its own claim from before.
        is_own = bool(found.job) and found.job == wanted.job and found.restarts < wanted.restarts
        return not is_own and scheduler.is_alive(found)

    folder.mkdir(parents=True, exist_ok=True)
    taken = claims.take(folder, wanted, is_alive)
    if taken is None:
        found = claims.read(folder)
        who = "another driver" if found is None else f"process {found.pid} on {found.host}"
        if found is not None and found.job:
            who = f"job {found.job}"
        raise InputError(f"{who} drives this {what} already ({folder})", advice)
    try:
        yield
    finally:
        claims.release(folder, taken)
