"""Which claims are alive: the kernel knows of this machine's processes, Slurm of its jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from slurm.queue import Job, Queue, available
from sweeps.claim import Claim

# How long after its launch died a submission may still be on its way into the queue.
IN_FLIGHT_SECONDS = 60


@dataclass
class Scheduler:
    """Answers for claims, with one question to Slurm for all of them.

    Without a queue (no Slurm on this machine) a claim held by a job counts as alive: nobody can
    tell from here.
    """

    queue: Queue | None = None
    _jobs: dict[str, Job | None] = field(default_factory=dict)  # by job id
    _submitted: dict[str, Job] = field(default_factory=dict)  # by submission and task

    @classmethod
    def here(cls, min_seconds: float = 15.0) -> Scheduler:
        """One that asks this machine's Slurm, where it has one, at most once in `min_seconds`."""
        return cls(Queue(min_seconds=min_seconds) if available() else None)

    def look(self, claims: Iterable[Claim]) -> None:
        """Ask about all these claims at once. Raises SlurmError where Slurm does not answer."""
        held = [claim for claim in claims if claim.submission]
        if self.queue is None or not held:
            return
        self._jobs = self.queue.jobs([claim.job for claim in held if claim.job])
        if any(not claim.job for claim in held):
            self._submitted = {
                f"{job.comment.partition(' ')[0]} {_task(job.id)}": job for job in self.queue.mine()
            }

    def job(self, claim: Claim) -> Job | None:
        """The job that holds the claim, as `look` found it; None for none, or none any more."""
        if claim.job:
            return self._jobs.get(claim.job)
        return self._submitted.get(f"{claim.submission} {claim.task}")

    def is_alive(self, claim: Claim) -> bool:
        """False only where the holder is known to be gone."""
        if not claim.submission:
            return claim.has_live_process
        if self.queue is None:
            return True
        if claim.job and claim.job not in self._jobs:
            self.look([claim])
        job = self.job(claim)
        if job is not None:
            return job.state.is_alive
        # Not in the queue. With a job id, it was; without one, it may still be on its way.
        on_its_way = claim.has_live_process or time.time() - claim.claimed_at < IN_FLIGHT_SECONDS
        return not claim.job and on_its_way


def _task(job_id: str) -> int:
    """The task of an array that `123_4` names; 0 for a job that is no array."""
    return int(job_id.partition("_")[2] or 0)
