"""The lock of a driver: one process at a time drives a search, or a study.

It is held by a lease on the folder of what is driven, and watched as a trial's is. A driver that is
a Slurm job, requeued, finds its own lease from before and takes it over.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from local_machine import clock
from local_machine.errors import EXIT_IO, InputError, SlurmError
from slurm import environment
from slurm.commands import describe
from slurm.environment import Child
from sweeps.state import lease as leases
from sweeps.state.elsewhere import way_out
from sweeps.state.lease import Lease
from sweeps.state.lease_watch import Watch
from sweeps.state.liveness import Liveness


def leave_job() -> dict[str, Any]:
    """What a lease says of the Slurm job that this runs in; its variables, which would make every
    sbatch a part of it, are taken away."""
    # In an interactive job a person works, who may drive several searches and go on afterwards.
    job = os.environ.get("SLURM_JOB_ID") if os.environ.pop("SWEEPS_DRIVER", None) else None
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    name = os.environ.get("SLURM_JOB_NAME", "driver")
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "")
    for key in list(os.environ):
        if key.startswith("SLURM_") and environment.is_removed(key, Child.JOB):
            del os.environ[key]
    if job is None:
        return {}
    submission = f"driver-{job}"
    # By this `cancel` knows the job for what the lease says it is.
    with contextlib.suppress(SlurmError):
        describe(job, name=name, comment=submission)
    return {
        "submission": submission, "job": job, "started": True, "restarts": restarts,
        "cluster": cluster,
    }  # fmt: skip


@contextlib.contextmanager
def held(
    folder: Path, results: Path, job: dict[str, Any], liveness: Liveness, what: str, advice: str
) -> Iterator[Callable[[], None]]:
    """The lease on a folder while `what` is driven; `job` is leave_job's. Raises InputError where
    another has it, with `advice`, and OSError where the folder cannot be written.

    Gives what raises InputError once another driver has taken the lease over.
    """
    wanted = Lease(1, 0, clock.now(), "", **job)

    def is_alive(found: Lease, folder: Path) -> bool:
        # A requeued job finds its own lease from before.
        is_own = bool(found.job) and found.job == wanted.job and found.restarts < wanted.restarts
        return not is_own and liveness.is_alive(found, folder)

    folder.mkdir(parents=True, exist_ok=True)
    taken = leases.take(folder, wanted, is_alive)
    if taken is None:
        found = leases.read(folder)
        who = "another driver" if found is None else f"process {found.pid} on {found.host}"
        if found is not None and found.job:
            who = f"job {found.job}"
        elif found is not None and not found.is_own_process:
            who += leases.since(leases.heard(folder))
            sweep = folder.relative_to(results).parts[0]
            advice += f"; {way_out(results, sweep, found.host)}"
        raise InputError(f"{who} drives this {what} already ({folder})", advice)

    def check() -> None:
        if watch.is_lost:
            raise InputError(
                f"another driver has taken this {what} over ({folder})", advice, exit_code=EXIT_IO
            )

    try:
        with Watch(folder, taken) as watch:
            yield check
    finally:
        leases.leave(folder, taken)
