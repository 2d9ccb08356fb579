"""Trials as jobs of a Slurm cluster: an array with a task a trial, or workers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from local_machine.errors import SlurmError
from slurm.job_state import JobState
from slurm.queue import Queue
from slurm.send import Batch
from sweeps.code.launched import LaunchedCode
from sweeps.execution.backends.backend import Backend, Work
from sweeps.execution.request import LaunchRequest
from sweeps.execution.slurm_submit import Submission
from sweeps.spec.sweep import Trial
from sweeps.state import job_log
from sweeps.state.plan import LOGS, Plan
from sweeps.state.trial_store import TrialStore

# How many jobs a search has in Slurm's queue at once, unless it is told.
JOBS = 8


def jobs_of(request: LaunchRequest, trials: int) -> tuple[int, int, bool]:
    """How many jobs to send for so many trials, of how many workers each, and whether of workers
    at all: else a job runs one trial."""
    per_gpu, site = request.per_gpu, request.site
    size = min(per_gpu if isinstance(per_gpu, int) else 1, max(1, trials))
    if request.workers is None and size == 1:
        return trials, 1, False
    count = math.ceil(min(request.workers or trials, trials) / size)
    if request.workers is None:
        count = min(count, site.max_array_size, site.max_submit)
    return count, size, True


def batch_of(
    request: LaunchRequest,
    store: TrialStore,
    plan: Plan,
    trials: int,
    code: LaunchedCode | None = None,
) -> Batch:
    """The jobs that would be sent first for so many trials of the plan, unsent. Raises SlurmError
    where the site or the resources do not allow them."""
    start = () if code is None else code.words(store.folder)
    submission = Submission(store, plan, 0.0, request.site, request.resources, Queue(), start)
    count, size, of_workers = jobs_of(request, trials)
    token = "0" * 12
    if of_workers:
        return submission.worker_jobs(token, count, [plan], False, size)
    return submission.array(token, min(count, request.site.max_array_size))


class Slurm(Backend):
    seconds: float = 5.0
    goes_on: bool = True

    def __init__(self, store: TrialStore, request: LaunchRequest) -> None:
        self.store = store
        self.request = request
        self.queue = store.liveness.queue or Queue()
        self.trials: list[Trial] = []
        self.workers: list[str] = []
        """The ids of the jobs that run workers."""

    def room(self, trials: Sequence[Trial]) -> int:
        return self.request.workers or JOBS

    def submit(self, work: Work) -> None:
        """Raises SlurmError where Slurm refuses."""
        count, size, of_workers = jobs_of(self.request, len(work.trials))
        if of_workers and not work.apart:
            sender = self._sender(work, work.plans[0])
            self.workers = sender.workers(count, work.plans, retry=work.retry, per_gpu=size)
            what = "workers" if size == 1 else f"jobs of {size} workers"
            self._say(f"sent {len(self.workers)} {what}: {', '.join(self.workers)}", work)
        else:
            names = {trial.name for trial in work.trials}
            for plan in work.plans:
                mine = [trial for trial in plan.trials if trial.name in names]
                names -= {trial.name for trial in mine}
                self._say(f"sent {self._sender(work, plan).trials(mine)} trials", work)
        if not work.apart:
            self.trials += work.trials

    def _sender(self, work: Work, plan: Plan) -> Submission:
        site, resources = self.request.site, self.request.resources
        start = () if self.code is None else self.code.keep(self.store.folder)
        return Submission(self.store, plan, work.launch, site, resources, self.queue, start)

    def _say(self, what: str, work: Work) -> None:
        # Who asks for trials one by one shows them itself.
        if not work.apart:
            print(what, file=sys.stderr, flush=True)

    def poll(self) -> bool:
        """Raises SlurmError where Slurm does not answer."""
        standings = self.store.standings(self.trials)
        # The files know it before Slurm does; a failure may be that of a launch before.
        if all(one.state == "done" for one in standings):
            return False
        if self.workers:
            jobs = self.queue.jobs(self.workers).values()
            return any(job is not None and job.state.is_alive for job in jobs)
        # Not for what processes elsewhere run, of which nothing may be heard again.
        held = [one.state in ("queued", "running") and one.lease for one in standings]
        return any(lease and lease.submission for lease in held)

    def tell_early_ends(self) -> None:
        """Of jobs of workers, a line for each distinct cause."""
        try:
            jobs = self.queue.jobs(self.workers)
        except SlurmError:
            return  # the work is done or not, whatever Slurm has to say of it
        causes: dict[str, list[str]] = {}
        for number, job in jobs.items():
            if job is not None and job.state.is_over and job.state is not JobState.COMPLETED:
                words = [job_log.ending(job), *job_log.last_words(self.store.folder / LOGS, number)]
                causes.setdefault(": ".join(words), []).append(number)
        for cause, numbers in causes.items():
            print(
                f"{len(numbers)} of {len(self.workers)} jobs of workers ended early: {numbers[0]} "
                f"{cause}",
                file=sys.stderr,
            )

    def holds(self, trial: Trial) -> bool:
        return False  # the lease is there before the job

    def detach(self) -> None:
        pass

    def cancel(self) -> None:
        pass
