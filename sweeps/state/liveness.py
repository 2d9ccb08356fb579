"""Which leases are alive: the kernel knows of this machine's processes, Slurm of its jobs."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from local_machine.files import matching
from slurm.commands import available, config
from slurm.job_state import Job, JobState
from slurm.queue import Queue
from sweeps.state import job_log
from sweeps.state import lease as leases
from sweeps.state.access import probe
from sweeps.state.lease import WORKER, Lease

# How long after its launch died a submission may still be on its way into the queue; and how long
# where nobody can tell from here whether its launch lives. A job that comes later finds that its
# lease was broken, and does nothing.
IN_FLIGHT_SECONDS = 60
SENT_ELSEWHERE_SECONDS = 600
_TOKEN = re.compile(rf"(?:{WORKER})?[0-9a-f]{{12}}")


@dataclass
class Liveness:
    """Answers for leases, with one question to Slurm for all of them.

    Without a queue (no Slurm on this machine) a lease held by a job counts as alive: nobody can
    tell from here.
    """

    queue: Queue | None = None
    _jobs: dict[str, Job | None] = field(default_factory=dict)  # by job id
    _submitted: dict[str, Job] = field(default_factory=dict)  # by submission and task

    @classmethod
    def here(cls, min_seconds: float = 15.0) -> Liveness:
        """One that asks this machine's Slurm, where it has one, at most once in `min_seconds`."""
        return cls(Queue(min_seconds=min_seconds) if available() else None)

    def look(self, leases: Iterable[Lease]) -> None:
        """Ask about all these leases at once. Raises SlurmError where Slurm does not answer."""
        held = [lease for lease in leases if lease.submission]
        if self.queue is None or not held:
            return
        self._jobs = self.queue.jobs([lease.job for lease in held if lease.job])
        if any(not lease.job for lease in held):
            self._submitted = {
                f"{submission_of(job)} {_task(job.id)}": job for job in self.queue.mine()
            }

    def job(self, lease: Lease) -> Job | None:
        """The job that holds the lease, as `look` found it; None for none, or none any more."""
        if not lease.job:
            return self._submitted.get(f"{lease.submission} {lease.task}")
        job = self._jobs.get(lease.job)
        if job is not None and _TOKEN.fullmatch(word := submission_of(job)):
            # A controller that lost its latest jobs, or a new cluster, gives their numbers again.
            return job if word == lease.submission else None
        return job

    def is_alive(self, lease: Lease, folder: Path) -> bool:
        """False only where the holder of the folder is known to be gone."""
        if not lease.submission or lease.host_gone:
            return not leases.is_dead(folder, lease)
        if self.queue is None or self._is_of_another_cluster(lease):
            return True
        if lease.job and lease.job not in self._jobs:
            self.look([lease])
        job = self.job(lease)
        if job is not None:
            left = _was_left_behind(lease, job) or _died_alone(lease)
            return job.state.is_alive and not left
        # Not in the queue. With a job id, it was; without one, it may still be on its way.
        return not lease.job and _is_on_its_way(lease, folder)

    def _is_of_another_cluster(self, lease: Lease) -> bool:
        """Whether this Slurm knows nothing of the job because another one runs it, on the same
        files."""
        named = lease.started and lease.cluster != ""
        return named and lease.cluster.lower() != self._cluster

    @functools.cached_property
    def _cluster(self) -> str:
        return config().get("ClusterName", "").lower()

    def why_lost(self, lease: Lease) -> str:
        """In words, why the holder of a lease that is not alive is gone."""
        if lease.host_gone:
            return f"its machine {lease.host} was declared gone"
        if not lease.submission:
            return f"process {lease.pid} on {lease.host} is gone"
        job = self.job(lease)
        if job is None:
            if not lease.job:
                return "its launch ended before it sent the job"
            return f"Slurm does not know its job {lease.job} any more"
        if job.state.is_alive and _was_left_behind(lease, job):
            return f"its worker was killed; its job {job.id} was started again, without this trial"
        if job.state.is_alive:
            return f"its worker died; its job {job.id} runs on, without this trial"
        return f"job {job.id}, {job_log.ending(job)}"

    def workers(self, logs: Path) -> list[Job]:
        """A sweep's workers in the queue, by the marks in its log folder; most wait, or start.

        A worker holds a lease only while it runs a trial, so leases alone do not tell of these.
        Workers of an sbatch script are known once the first of their array has begun. Raises
        SlurmError.
        """
        if self.queue is None:
            return []
        known = marks(logs)
        return [job for job in self.queue.mine() if job.state.is_alive and has_mark(job, known)]


def mark_of(submission: str) -> str:
    """The name of the file in the log folder that says whose the workers of a submission are."""
    return f".{WORKER}{submission}"


def mark_of_array(array: str, submitted: float) -> str:
    """The same for an array that no launch sent. A new cluster counts from 1 again."""
    return mark_of(f"{array}-{submitted:.0f}")


def marks(logs: Path) -> set[str]:
    """Of whom this user's marks in the log folder say that they are workers of the sweep."""
    if (ours := probe(logs)) is None:
        return set()
    paths = matching(logs, f".{WORKER}*")
    return {path.name[1:] for path in paths if path.lstat().st_uid == ours.st_uid}


def has_mark(job: Job, marks: set[str]) -> bool:
    """Whether one of the marks is the job's."""
    if submission_of(job) in marks:
        return True
    array = re.match(r"\d+", job.id)
    assert array is not None
    times = [
        float(mark.rpartition("-")[2])
        for mark in marks
        if re.fullmatch(rf"{WORKER}{array[0]}-\d+", mark)
    ]
    # A job that was requeued shows when it was put back.
    return job.submitted is not None and any(
        time == job.submitted or (job.restarts and time < job.submitted) for time in times
    )


def _is_on_its_way(lease: Lease, folder: Path) -> bool:
    """Whether the launch that leased the folder may still send the job, or has just sent it."""
    if lease.is_own_process:
        return True
    quiet = leases.silence(folder)
    limit = IN_FLIGHT_SECONDS if lease.has_died_here else SENT_ELSEWHERE_SECONDS
    return quiet is None or quiet < limit


def _was_left_behind(lease: Lease, job: Job) -> bool:
    """Whether a worker was killed and its job started again: it knows nothing of the trial it had.

    A trial's own job takes its lease over at each start instead. While a job is completing, what
    its last start left may still run.
    """
    return (
        lease.submission.startswith(WORKER)
        and job.restarts is not None
        and job.restarts > lease.restarts
        and job.state is not JobState.COMPLETING
    )


def _died_alone(lease: Lease) -> bool:
    """Whether one of a job's workers is gone, which only its own node can see, and the job is not.

    A trial's own job has other processes, which may still run.
    """
    return lease.started and lease.submission.startswith(WORKER) and lease.has_died_here


def submission_of(job: Job) -> str:
    """The token that its launch gave it: the first word of its comment."""
    return job.comment.partition(" ")[0]


def _task(job_id: str) -> int:
    """The task of an array that `123_4` names; 0 for a job that is not an array."""
    return int(job_id.partition("_")[2] or 0)
