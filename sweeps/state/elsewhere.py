"""What a machine that is gone still holds, and how a person takes it away from that machine.

Nothing that can be seen from here tells a machine that is gone from one that is out of reach, so a
person has to say it: `python -m sweeps.retry NAME --host-gone HOST`.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from local_machine import clock
from local_machine.errors import EXIT_IO, InputError, nearest
from local_machine.files import matching
from slurm.job_state import Job
from sweeps.run.attempt import BOUND_SECONDS
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.liveness import Liveness
from sweeps.state.plan import PLANS
from trial_records.names import is_name


def way_out(results: Path, sweep: str, host: str) -> str:
    """What to type where a host will not come back, in words."""
    words = ["python", "-m", "sweeps.retry", sweep, "--results", str(results)]
    return f"if {host} is gone for good: {shlex.join([*words, '--host-gone', host])}"


def take_from(host: str, folder: Path, liveness: Liveness) -> tuple[list[str], list[str]]:
    """Break every lease of the host beneath a sweep's folder: those of its trials, of searches and
    of whatever drives or compacts it. What was broken, by name, and in words what was not and why.

    Raises InputError where the host holds nothing there, SlurmError where Slurm does not answer.
    """
    held = dict(_held(folder))
    mine = {place: lease for place, lease in held.items() if lease.host == host}
    if not mine:
        hosts = sorted({lease.host for lease in held.values()})
        raise InputError(
            f"{host} holds nothing in {folder}",
            nearest(host, hosts) if hosts else "no machine holds anything there: leave it out",
        )
    liveness.look(mine.values())
    broken, kept = [], []
    for place, lease in mine.items():
        name = str(place.relative_to(folder.parent))
        if lease.host_gone:
            broken.append(name)
        elif (why := _lives(lease, liveness)) is not None:
            kept.append(f"{name}: {why}")
        elif leases.give_up(place, lease):
            broken.append(name)
    if not broken and kept:
        raise InputError(f"{host} is not gone: {kept[0]}", _advice(folder), exit_code=EXIT_IO)
    return broken, kept


def take_back(host: str, results: Path, name: str, liveness: Liveness) -> bool:
    """Break the leases of a host that a person says is gone, and say so on stderr; whether the
    folder is a sweep's, where what it held can be tried again.

    Waits until what may still run there has ended itself, where it was heard of lately. Raises
    InputError where there is no such folder, and as `take_from` does.
    """
    folder = results / name
    if not is_name(name) or not folder.is_dir():
        raise InputError(f"no sweep or study {name!r} in {results}", "python -m sweeps.status")
    quiet = [leases.silence(place) for place, one in _held(folder) if one.host == host]
    broken, kept = take_from(host, folder, liveness)
    for one in broken:
        print(f"taken from {host}: {one}", file=sys.stderr)
    for one in kept:
        print(f"warning: left as it is: {one}", file=sys.stderr)
    wait = BOUND_SECONDS - min((one for one in quiet if one is not None), default=BOUND_SECONDS)
    if broken and wait > 0:
        print(
            f"{host} was heard of just before: waiting {wait:.0f} s, until what runs there ended",
            file=sys.stderr,
            flush=True,
        )
        clock.sleep(wait)
    return (folder / PLANS).is_dir()


def _lives(lease: Lease, liveness: Liveness) -> str | None:
    """Why a lease is not a person's to break; None where it is."""
    if lease.is_own_process:
        return f"process {lease.pid} runs on this machine"
    if not lease.submission or liveness.queue is None:
        return None
    job: Job | None = liveness.job(lease)
    if job is None or job.state.is_over:
        return None
    return f"job {job.id} holds it, of which Slurm says {job.state}"


def _advice(folder: Path) -> str:
    words = ["python", "-m", "sweeps.cancel", folder.name, "--results", str(folder.parent)]
    return f"stop it instead: {shlex.join([*words, '--yes'])}"


def _held(folder: Path) -> Iterator[tuple[Path, Lease]]:
    """Every folder beneath a sweep's that somebody holds, itself included; what cannot be read is
    left to those who want it."""
    patterns = (CLAIM, f"*/{CLAIM}", f"*/*/{CLAIM}")
    places = (found.parent for pattern in patterns for found in matching(folder, pattern))
    for place in sorted(places):
        try:
            lease = leases.read(place)
        except InputError:
            continue
        if lease is not None:
            yield place, lease
