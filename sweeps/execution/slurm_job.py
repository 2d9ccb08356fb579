"""What a Slurm job runs: one trial on all its ranks, or a worker that takes trial after trial.

    srun python -m sweeps.execution.slurm_job NAME # a worker, in a job that launch did not send:
    sweep.sbatch

`sweeps.execution.job_entry` runs these in the jobs that a launch sends. They hold plain values
only; what there is to resume is found on disk. The warning signal sets a flag that training polls.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from local_machine import clock, origin, signals
from local_machine.errors import EXIT_IO, InputError, SlurmError, run_command
from local_machine.files import matching
from local_machine.json_files import write_json
from slurm import environment
from slurm.commands import describe, requeue
from slurm.environment import Child
from slurm.job_state import JobState
from slurm.queue import Queue
from slurm.rank_info import Place, address, free_port
from sweeps.cli import options
from sweeps.execution import preparation
from sweeps.execution.gpu import mps
from sweeps.execution.process_group import ProcessGroup
from sweeps.execution.rank_meeting import join_ranks, meet
from sweeps.execution.shutdown import Stop
from sweeps.execution.trial_order import read_seconds
from sweeps.execution.worker import (
    MAX_DEATHS,
    Worker,
    begin_origin,
    die_with,
)
from sweeps.execution.worker_log import start_logging
from sweeps.spec.find import find
from sweeps.spec.sweep import Trial
from sweeps.state import lease as leases
from sweeps.state import unsaved
from sweeps.state.lease import WORKER, Lease
from sweeps.state.liveness import Liveness, mark_of, mark_of_array
from sweeps.state.plan import LOGS
from sweeps.state.trial_store import TrialStore
from trial_records import trial_files

log = logging.getLogger("sweeps.execution.slurm_job")

# How long the ranks wait for rank 0 to say where they meet, and a requeued job for its end.
PATIENCE_SECONDS = 180
# The exit code of one of several workers that was stopped while there was more to do.
STOPPED = 128 + signal.SIGTERM
# Of a job that was stopped, saved what it did and cannot be requeued (EX_TEMPFAIL: run me again).
HANDED_BACK = 75


@dataclass(frozen=True)
class TrialJob:
    """One trial, on every rank of a job."""

    folder: str
    """The sweep's folder."""
    plan: str
    trial: str
    submission: str
    """The token in the job's comment and in the trial's lease."""
    task: int
    """Which task of the submission's array."""
    launch: float

    def __call__(self) -> None:
        """Run the trial, or what is left of it; on every rank.

        Leaves the process with HANDED_BACK where it was warned and cannot be requeued.
        """
        place, stop = _enter()
        path = Path(self.folder)
        store = TrialStore(path.parent, path.name, Liveness(Queue()))
        trial = next(one for one in store.plan(self.plan).trials if one.name == self.trial)
        worker = Worker(store, self.launch, _log_name(place), stop=stop)
        start_logging(worker.tail)
        begin_origin(trial, path)
        # Not by the job's number, which a new cluster may give again.
        meeting = path / LOGS / f".meet-{self.submission}-{self.task}-{place.restarts}"
        if place.rank:
            if meet(meeting, place) and worker.follow(trial):
                _await_end()
            return
        lease = self._adopt(worker, trial, place)
        if lease is None:
            log.warning("%s is done, or another attempt holds it: nothing to do", trial.name)
            write_json(meeting, None)
            return
        _describe(trial, self.submission)
        where = {"address": address(place), "port": free_port()}
        write_json(meeting, where)
        join_ranks(place, where)
        try:
            preempted = worker.run_leased(trial, lease)
        finally:
            meeting.unlink(missing_ok=True)
        if preempted and not _start_again():
            _count_unsaved(worker.unsaved)
            store.release(trial, lease)
            sys.exit(HANDED_BACK)

    def _adopt(self, worker: Worker, trial: Trial, place: Place) -> Lease | None:
        """Make the lease that launch took for this job the job's own; None where it is not there.

        A start that got no further than the one before it counts as a death.
        """
        store = worker.store
        folder = store.folder_of(trial)
        held = leases.read(folder)
        if held is None and place.restarts and worker.wants(store.standing(trial)):
            # The start before this one could not know that Slurm would start the job again.
            return store.lease(
                trial, self.launch, _log_name(place), submission=self.submission, task=self.task,
                job=_job_id(), restarts=place.restarts, started=True,
            )  # fmt: skip
        if held is None or (held.submission, held.task) != (self.submission, self.task):
            return None
        if (folder / trial_files.RUN).exists():
            leases.clear(folder)
            return None
        fresh = Lease(
            held.attempt + held.started,
            held.deaths + 1 if held.started and not leases.got_on(folder, held) else 0,
            held.launch, _log_name(place), submission=held.submission, task=held.task,
            job=_job_id(), restarts=place.restarts, started=True, saved=leases.checkpoint(folder),
        )  # fmt: skip
        taken = store.take_over(trial, held, fresh)
        if taken is None and not held.started:
            return self._adopt(worker, trial, place)  # its launch has just noted the job's number
        return taken


@dataclass(frozen=True)
class WorkerJob:
    """Workers in a job of one task: trial after trial of a sweep until none is open."""

    folder: str
    plans: tuple[str, ...]
    submission: str
    launch: float
    retry: bool = False
    signal_seconds: int = 90
    """How long before its time limit the job is warned."""
    per_gpu: int = 1
    """So many workers, each a process of its own."""
    mps: bool = False

    def __call__(self) -> None:
        """A warned worker hands its trial back and has itself requeued; so has one whose time is
        too short for all that is left. Leaves with HANDED_BACK where it cannot be requeued."""
        place, stop = _enter()
        more = self._share(stop) if self.per_gpu > 1 else self._work(place, stop, _log_name(place))
        if more and not _start_again():
            sys.exit(HANDED_BACK)

    def _share(self, stop: Stop) -> bool:
        """Run all the workers; whether one was stopped. Raises InputError where one gave up."""
        path = Path(self.folder)
        trials = {
            trial.name
            for plan in self.plans
            for trial in TrialStore(path.parent, path.name).plan(plan).trials
        }
        with mps.running(required=True) if self.mps else contextlib.nullcontext():
            work = functools.partial(self._work_beside, os.getpid())
            codes = ProcessGroup(work, self.per_gpu, MAX_DEATHS * len(trials)).run(stop)
        if bad := [code for code in codes if code not in (0, STOPPED) and not stop()]:
            raise InputError(
                f"{len(bad)} of {self.per_gpu} workers gave up, with exit code {bad[0]}",
                f"their logs say why: {self.folder}/{LOGS}/{_job_id()}_*_log.out",
                exit_code=EXIT_IO,
            )
        # A worker that is killed by the signal before it listens had no trial yet.
        return any(codes)

    def _work_beside(self, parent: int, number: int) -> None:
        """One of several workers, in its own process, with its own log."""
        place, stop = _enter()
        die_with(parent, stop)
        log_name = f"{LOGS}/{_job_id()}_{number}_log.out"
        with (Path(self.folder) / log_name).open("a") as file:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
        threads = int(os.environ.get("SLURM_CPUS_PER_TASK", "1")) // self.per_gpu
        os.environ["OMP_NUM_THREADS"] = str(max(1, threads))
        os.environ[trial_files.PER_GPU] = str(self.per_gpu)
        try:
            stopped = self._work(place, stop, log_name, number)
        except InputError as error:
            log.error("%s\nhelp: %s", error.what, error.help)
            sys.exit(error.exit_code)
        sys.exit(STOPPED if stopped else 0)

    def _work(self, place: Place, stop: Stop, log_name: str, number: int = 0) -> bool:
        """Run trial after trial, as number `number` of the job's workers; whether it was stopped
        before the last."""
        path = Path(self.folder)
        store = TrialStore(path.parent, path.name, Liveness(Queue()))
        job = {
            "submission": f"{WORKER}{self.submission}", "job": _job_id(), "started": True,
            "restarts": place.restarts,
        }  # fmt: skip
        worker = Worker(
            store, self.launch, log_name, self.retry, stop=stop, job=job,
            slot=_slot() * self.per_gpu + number, seconds=read_seconds(store, self.plans),
        )  # fmt: skip
        start_logging(worker.tail)
        worker.ends = _end() - self.signal_seconds
        worker.limit = worker.ends - clock.now()
        more = worker.run([trial for plan in self.plans for trial in store.plan(plan).trials])
        _count_unsaved(worker.unsaved)
        return more


def _enter() -> tuple[Place, Stop]:
    """What every rank does first, before torch is imported."""
    environment.enter(Child.RANK)
    origin.begin()
    place, stop = Place.here(), Stop()
    # What announces an end: of time, and of a preempted job.
    stop.listen(signal.SIGUSR2, signal.SIGTERM)
    # Slurm sends it with SIGTERM to wake a stopped process.
    signals.handle(signal.SIGCONT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    return place, stop


def _start_again() -> bool:
    """Have this job requeued, unless Slurm ends it: cancelled, out of time, or requeued by others.

    A cancelled job gets the same SIGTERM as a preempted one, and to requeue it would bring it back.
    False where Slurm refuses, or does not answer: then nobody goes on with the work.
    """
    try:
        job = Queue().jobs([_job_id()])[_job_id()]
        if job is not None and job.state is not JobState.RUNNING:
            log.warning("not requeueing job %s: it is %s", _job_id(), job.state)
            return True
        log.warning("requeueing job %s", _job_id())
        requeue(_job_id())
    except SlurmError as error:
        log.error(
            "job %s cannot be requeued: %s. What it did is saved: launch again to go on",
            _job_id(), error.what,
        )  # fmt: skip
        return False
    _await_end()
    return True


def _count_unsaved(trial: Path | None) -> None:
    """Of the folder of a trial that saved nothing before a warning, not a person's cancel."""
    with contextlib.suppress(SlurmError):
        job = Queue().jobs([_job_id()])[_job_id()] if trial is not None else None
        if trial is not None and job is not None and job.state is JobState.RUNNING:
            unsaved.add(trial)


def _await_end() -> None:
    """Slurm ends a requeued job's processes; to return before that would end the job as done."""
    clock.sleep(PATIENCE_SECONDS)


def _job_id() -> str:
    """As squeue shows it: `123`, or `123_4` in an array.

    SLURM_JOB_ID will not do: an array's last task has the array's own number, so that what is asked
    for it would be done to all.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def _slot() -> int:
    return int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))


def _end() -> float:
    """When the job's time is up, seconds since 1970. Raises SlurmError where Slurm is not asked."""
    # From Slurm 23.02 on.
    if (told := os.environ.get("SLURM_JOB_END_TIME", "")).isdecimal():
        return float(told)
    job = Queue().jobs([_job_id()])[_job_id()]
    return math.inf if job is None or job.end is None else job.end


def _log_name(place: Place) -> str:
    return f"{LOGS}/{_job_id()}_{place.rank}_log.out"


def _describe(trial: Trial, submission: str) -> None:
    """Show the trial in squeue: its name, and after the submission's token its fingerprint.

    An array has one name and comment for all its tasks until each gives itself its own.
    """
    comment = f"{submission} {trial.fingerprint[:8]}"
    try:
        describe(_job_id(), name=trial.name, comment=comment)
    except SlurmError as error:
        log.warning("the job keeps the sweep's name: %s", error.what)


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="A sweep's name, or a definition file (.py).")],
    scale: options.AtScale = options.ScaleName.FULL,
    settings: options.Settings = None,
    seeds: options.Seeds = None,
    results: options.Results = Path("results"),
    per_gpu: Annotated[
        int, typer.Option("--per-gpu", min=1, max=48, help="Workers that share the job's GPU.")
    ] = 1,
) -> None:
    """Work on a sweep in this Slurm job, trial after trial; slurm/sweep.sbatch starts it."""
    if "SLURM_PROCID" not in os.environ:
        raise InputError(
            "this is not a step of a Slurm job",
            f"sbatch slurm/sweep.sbatch {name}, or on this machine: python -m sweeps.launch {name}",
        )
    sweep_name, sweep = find(name, results)
    store = TrialStore(results, sweep_name)
    command = options.typed_after("sbatch slurm/sweep.sbatch")
    plan = options.plan_of(sweep, store, scale, options.parse_settings(settings), seeds, command)
    preparation.check(plan.trials)
    preparation.prepare(plan.trials)
    store.write_plan(plan)
    log_file = store.folder / _log_name(Place.here())
    log_file.parent.mkdir(parents=True, exist_ok=True)
    array = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    launch = _first_start(log_file.parent, array)
    job = WorkerJob(str(store.folder.resolve()), (plan.id,), array, launch, per_gpu=per_gpu)
    print(f"{sweep_name}: what follows is in {log_file}", file=sys.stderr, flush=True)
    with log_file.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    job()


def _first_start(logs: Path, array: str) -> float:
    """When the first task of the array began, seconds since 1970, by a file that it leaves.

    It is the launch of all of them, and of what Slurm starts again: a trial that failed since is
    not started over by each task that comes later. Raises SlurmError.
    """
    job = Queue().jobs([_job_id()])[_job_id()]
    sent = job.submitted if job is not None else None
    if sent is None:
        raise SlurmError(
            f"Slurm does not say when job {_job_id()} was sent",
            "try `squeue --Format SubmitTime` by hand: a wrapper around it may hide columns",
        )
    mark = logs / mark_of_array(array, sent)
    if job is not None and job.restarts:
        # It says when the job was put back. The array of this number that was sent last is ours.
        mark = max(matching(logs, f"{mark_of(array)}-*"), key=lambda path: path.name, default=mark)
    with contextlib.suppress(FileExistsError):
        mark.touch(exist_ok=False)
    return mark.stat().st_mtime


if __name__ == "__main__":
    run_command(app)
