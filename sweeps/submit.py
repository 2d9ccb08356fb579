"""Submitting a sweep to Slurm: arrays of trials, or workers, through submitit.

The intent comes first: each trial is claimed for the submission, by a token, before sbatch is
called; the job's id is noted after. A launch that dies in between leaves claims whose job can be
found by the token in its comment, or is known not to exist; and the job finds what it is to run by
the same token.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from submitit import SlurmExecutor
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError

from slurm.errors import SlurmError
from slurm.queue import JobState, Queue
from slurm.site import Resources, Site, submitit_parameters
from sweeps import claim as claims
from sweeps.claim import WORKER, Claim
from sweeps.job import TrialJob, WorkerJob
from sweeps.ledger import LOGS, Ledger, Plan
from sweeps.scheduler import mark_of
from sweeps.sweep import Trial
from trainer.secrets import masked


@dataclass
class Submission:
    """What one launch sends to one site."""

    ledger: Ledger
    plan: Plan
    launch: float
    site: Site
    resources: Resources
    queue: Queue

    @property
    def logs(self) -> Path:
        return (self.ledger.folder / LOGS).resolve()

    def executor(self, submission: str) -> SlurmExecutor:
        """A submitit executor whose logs and pickles go to the sweep's log folder."""
        executor = SlurmExecutor(self.logs, python=self.site.interpreter)
        parameters = submitit_parameters(
            self.site, self.resources, name=self.plan.sweep, comment=submission
        )
        parameters["setup"].append(_take_pickle(self.logs, submission))
        executor.update_parameters(**parameters)
        return executor

    def script(self, trials: Sequence[Trial]) -> str:
        """The sbatch script that would be sent for the first array of these trials, to be shown:
        without the secrets of the site's environment."""
        executor = self.executor("0" * 12)
        count = min(len(trials), self.site.max_array_size)
        if count > 1:
            executor.parameters["map_count"] = count
        text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
        return masked(text)

    def trials(self, trials: Sequence[Trial]) -> int:
        """Send the trials as arrays, one task a trial; how many were sent.

        Those that another launch claimed meanwhile are left out. Raises SlurmError where Slurm
        refuses an array: its claims are given back, and what was sent before stays.
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
        held: list[tuple[Trial, Claim]] = []
        for trial in trials:
            claim = self.ledger.claim(trial, self.launch, LOGS, submission=token, task=len(held))
            if claim is not None:
                held.append((trial, claim))
        if not held:
            return len(trials)
        jobs = [
            TrialJob(
                str(self.ledger.folder.resolve()), self.plan.id, trial.name, token, task,
                self.launch,
            )
            for task, (trial, _) in enumerate(held)
        ]  # fmt: skip
        try:
            ids = self._send(jobs, token)
        except BaseException:
            for trial, claim in held:
                self.ledger.release(trial, claim)
            raise
        for (trial, claim), job in zip(held, ids, strict=True):
            # The job may have started and taken the claim over already: then it noted more.
            claims.install(self.ledger.folder_of(trial), claim, replace(claim, job=job))
        self.queue.forget()
        return len(trials)

    def workers(
        self, count: int, plans: Sequence[Plan], *, retry: bool, per_gpu: int = 1
    ) -> list[str]:
        """Send jobs of one task, each of `per_gpu` workers that run trial after trial; the ids."""
        if self.resources.ranks > 1:
            raise SlurmError(
                "--workers and --per-gpu run each trial on one GPU, and the resources ask for more",
                "leave them out: then each trial is a job of its own, on all its GPUs",
                exit_code=2,
            )
        token = uuid.uuid4().hex[:12]
        job = WorkerJob(
            str(self.ledger.folder.resolve()), tuple(plan.id for plan in plans), token,
            self.launch, retry, self.site.signal_seconds, per_gpu, self.site.mps,
        )  # fmt: skip
        mark = self.logs / mark_of(token)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            ids = self._send([job] * count, f"{WORKER}{token}")
        except BaseException:
            mark.unlink()
            raise
        self.queue.forget()
        return ids

    def _send(self, jobs: Sequence[Callable[[], None]], submission: str) -> list[str]:
        """Through submitit; the ids, one a job. Raises SlurmError in Slurm's own words."""
        self.logs.mkdir(parents=True, exist_ok=True)
        executor = self.executor(submission)
        try:
            with self._pickles(jobs, submission, executor):
                sent = executor.submit_array(jobs)
        except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
            words = [line for line in str(error).splitlines() if "sbatch: error" in line]
            said = "; ".join(line.partition("error: ")[2] for line in words) or str(error)
            raise SlurmError(
                f"Slurm refused the jobs: {said}",
                f"mend site {self.site.name!r} (--site), then launch again: nothing of this array "
                "was sent",
            ) from None
        finally:
            self._hide_secrets(submission)
        return [job.job_id for job in sent]

    def _hide_secrets(self, submission: str) -> None:
        """In the scripts that submitit leaves in the log folder: Slurm has a copy of its own."""
        for path in self.logs.glob(".submission_file_*.sh"):
            with contextlib.suppress(OSError, ValueError):
                text = path.read_text()
                if submission in text and (shown := masked(text)) != text:
                    # Where it was sent, this is a link to the file with the job's name.
                    path.resolve().write_text(shown)

    @contextlib.contextmanager
    def _pickles(
        self, jobs: Sequence[Callable[[], None]], submission: str, executor: SlurmExecutor
    ) -> Iterator[None]:
        """What the jobs run, under names that are known before their ids are.

        submitit gives its own pickles the jobs' names after sbatch: where we died before that, the
        jobs would find none.
        """
        paths = [self.logs / f".{submission}_{task}.pkl" for task in range(len(jobs))]
        for path, job in zip(paths, jobs, strict=True):
            delayed = DelayedSubmission(job)
            delayed.set_timeout(executor.parameters["time"], executor.max_num_timeout)
            delayed.dump(path)
        try:
            yield
        finally:
            for path in paths:
                path.unlink(missing_ok=True)


def _take_pickle(folder: Path, submission: str) -> str:
    """The line of bash with which a job takes its pickle under the name where submitit looks."""
    quoted = shlex.quote(str(folder))
    job = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    ours = f'{quoted}/".{submission}_${{SLURM_ARRAY_TASK_ID:-0}}.pkl"'
    return f'mv -f {ours} {quoted}/"{job}_submitted.pkl" 2>/dev/null || true'
