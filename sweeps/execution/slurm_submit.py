"""Submitting a sweep to Slurm: arrays of trials, or workers.

The intent comes first: each trial is leased for the submission, by a token, before sbatch is
called; the job's id is noted after. A launch that dies in between leaves leases whose job can be
found by the token in its comment, or is known not to exist; and the job finds what it is to run by
the same token, in a note (job_entry.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from local_machine.errors import SlurmError
from slurm.job_state import JobState
from slurm.queue import Queue
from slurm.send import Batch
from slurm.site import Resources, Site
from sweeps.execution import job_entry
from sweeps.execution.job_entry import SentTrial
from sweeps.execution.slurm_job import WorkerJob
from sweeps.spec.sweep import Trial
from sweeps.state import lease as leases
from sweeps.state.lease import WORKER, Lease
from sweeps.state.liveness import mark_of
from sweeps.state.plan import LOGS, Plan
from sweeps.state.trial_store import TrialStore


@dataclass
class Submission:
    """What one launch sends to one site."""

    store: TrialStore
    plan: Plan
    launch: float
    site: Site
    resources: Resources
    queue: Queue
    start: tuple[str, ...] = ()
    """By which the jobs run from the launch's code snapshot."""

    @property
    def logs(self) -> Path:
        return (self.store.folder / LOGS).resolve()

    def array(self, token: str, size: int) -> Batch:
        """Of jobs that run a trial each."""
        words = SentTrial(str(self.logs.parent), self.plan.id, token, self.launch)
        return self._batch(token, words, size)

    def worker_jobs(
        self, token: str, count: int, plans: Sequence[Plan], retry: bool, size: int
    ) -> Batch:
        """Of jobs of `size` workers each. Raises SlurmError where the resources are for more."""
        if self.resources.ranks > 1:
            raise SlurmError(
                "--workers and --per-gpu run each trial on one GPU, and the resources ask for more",
                "leave them out: then each trial is a job of its own, on all its GPUs",
                exit_code=2,
            )
        if count > (most := min(self.site.max_array_size, self.site.max_submit)):
            raise SlurmError(
                f"--workers asks for {count} jobs, and site {self.site.name!r} takes {most} "
                "(max_array_size, max_submit)",
                f"give --workers {most * size}",
                exit_code=2,
            )
        words = WorkerJob(
            str(self.logs.parent), tuple(plan.id for plan in plans), token, self.launch, retry,
            self.site.signal_seconds, size, self.site.mps,
        )  # fmt: skip
        return self._batch(f"{WORKER}{token}", words, count)

    def _batch(self, comment: str, words: SentTrial | WorkerJob, tasks: int) -> Batch:
        return Batch(
            self.site, self.resources, self.plan.sweep, comment, self.logs,
            "sweeps.execution.job_entry", job_entry.words(words), tasks, self.start,
        )  # fmt: skip

    def trials(self, trials: Sequence[Trial]) -> int:
        """Send the trials as arrays, one task a trial; how many were sent.

        Those that another launch leased meanwhile are left out. Raises SlurmError where Slurm
        refuses an array: its leases are given back, and what was sent before stays.
        """
        room = self.site.max_submit - self._queued()
        sent = 0
        while sent < min(len(trials), max(0, room)):
            size = min(self.site.max_array_size, room - sent)
            sent += self._array(trials[sent : sent + size])
        if sent < len(trials):
            raise SlurmError(
                f"{sent} of {len(trials)} trials were sent: the site allows "
                f"{self.site.max_submit} jobs in the queue (max_submit)",
                "launch again, by the same command, once some have ended: it sends the others",
            )
        return sent

    def _queued(self) -> int:
        """This user's jobs as Slurm's limit counts them: those that only clean up are over."""
        states = [job.state for job in self.queue.mine()]
        return sum(state.is_alive and state is not JobState.COMPLETING for state in states)

    def _array(self, trials: Sequence[Trial]) -> int:
        token = uuid.uuid4().hex[:12]
        held: list[tuple[Trial, Lease]] = []
        for trial in trials:
            lease = self.store.lease(trial, self.launch, LOGS, submission=token, task=len(held))
            if lease is not None:
                held.append((trial, lease))
        if not held:
            return len(trials)
        names = [trial.name for trial, _ in held]
        job_entry.write_note(self.store.folder, token, names)
        try:
            ids = self.array(token, len(held)).send()
        except BaseException:
            job_entry.forget_note(self.store.folder, token)
            for trial, lease in held:
                self.store.release(trial, lease)
            raise
        job_entry.write_note(self.store.folder, token, names, ids)
        for (trial, lease), job in zip(held, ids, strict=True):
            # The job may have started and taken the lease over already: then it noted more.
            leases.install(
                self.store.folder_of(trial), lease, replace(lease, token=uuid.uuid4().hex, job=job)
            )
        self.queue.forget()
        return len(trials)

    def workers(
        self, count: int, plans: Sequence[Plan], *, retry: bool, per_gpu: int = 1
    ) -> list[str]:
        """Send jobs of one task, each of `per_gpu` workers that run trial after trial; the ids."""
        token = uuid.uuid4().hex[:12]
        batch = self.worker_jobs(token, count, plans, retry, per_gpu)
        mark = self.logs / mark_of(token)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            ids = batch.send()
        except BaseException:
            mark.unlink()
            raise
        self.queue.forget()
        return ids
