"""The worker: lease, train, record, next.

    python -m sweeps.execution.worker RESULTS/SWEEP --plan ID --launch SECONDS

A worker runs trial after trial of a sweep until none is left. `launch` starts it; any number may
run at once, in any process that sees the folder.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import logging
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from local_machine import clock, origin, processes
from local_machine.code import packages, snapshot
from local_machine.errors import (
    InputError,
    in_words,
    run_command,
    storage_error,
    without_addresses,
)
from slurm import environment
from slurm.environment import Child
from sweeps.code.launched import FOLDER as CODE
from sweeps.execution.shutdown import Stop
from sweeps.execution.trial_order import Order, read_seconds, shape_of
from sweeps.execution.worker_log import start_logging
from sweeps.run.attempt import Attempt
from sweeps.run.ends import LostTrialError, StoppedError
from sweeps.run.handle import Run
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import code_of, load, loaded, own_code_of
from sweeps.state import lease as leases
from sweeps.state.lease import Lease
from sweeps.state.lease_watch import Watch
from sweeps.state.liveness import Liveness
from sweeps.state.trial_store import Standing, State, TrialStore
from trial_records import trial_files

log = logging.getLogger("sweeps.execution.worker")

# A trial whose worker dies so often within one launch is given up until the next.
MAX_DEATHS = 3
LOG_TAIL = 30
# How long a local worker's step may take once it was asked to stop; a launch kills it a bit later.
PATIENCE_SECONDS = 10.0
# How often a running trial looks whether a search has pruned it.
LOOK_SECONDS = 0.5
# What a trial takes beside its epochs as predicted: a slower node, the evaluation at its end.
SAFETY, AROUND_SECONDS = 1.1, 10.0
_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
START = "=== trial"
END = "=== end of"


@dataclass
class Worker:
    """One process's run through a sweep's open trials."""

    store: TrialStore
    launch: float  # whose worker it is: what failed within it is not tried again within it
    log: str  # the file that this process's output goes to, in the sweep's folder
    retry_only: bool = False  # lost and failed trials, not those that never ran
    stop: Stop = field(default_factory=Stop)
    job: dict[str, Any] | None = None  # what its leases say of the Slurm job that it runs in
    slot: int = 0  # which of the workers that start together
    seconds: Mapping[str, float] = field(default_factory=dict)  # predicted, by trial
    ends: float = math.inf  # when its time is up, seconds since 1970
    limit: float = math.inf  # how many seconds it has in all, each time that it starts
    paces: dict[Hashable, float] = field(default_factory=dict)  # its own seconds an epoch, by shape
    has_run: bool = False
    unsaved: Path | None = None  # the folder of the trial that it was stopped in, and did not save
    tail: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=LOG_TAIL))

    def run(self, trials: Iterable[Trial]) -> bool:
        """Run every trial that is open and not held by another worker.

        True where it stopped before that, because `stop` said so or those that are left would not
        be done in its time. A trial is looked at once, before it is run, and again only where
        another had it. Raises InputError where the disk is full or may not be written: that is the
        machine's trouble, so the trial is given back unharmed and no other is begun.
        """
        order = Order(trials, self.seconds, self.slot)
        while True:
            held: list[Trial] = []  # by others, who may lose them or give them back
            too_long: list[Trial] = []
            ran = False
            while (trial := order.next()) is not None:
                if self.stop():
                    return True
                standing = self.store.standing(trial)
                if not self.wants(standing):
                    if not standing.state.is_over:
                        held.append(trial)
                    continue
                if trial.problem is not None:
                    log.error("%s; %s", trial.problem.what, trial.problem.help)
                    continue
                if not self.fits(trial):
                    too_long.append(trial)
                    continue
                lease = self.store.lease(trial, self.launch, self.log, **(self.job or {}))
                if lease is None:
                    held.append(trial)
                    continue
                ran = self.has_run = True
                begin_origin(trial, self.store.folder)
                try:
                    stopped = self.run_leased(trial, lease)
                except LostTrialError:
                    # A job was started again elsewhere, and takes its trials there.
                    if self.job is not None:
                        raise
                    log.warning("another attempt holds %s now", trial.name)
                    held.append(trial)
                    continue
                if stopped:
                    self.store.release(trial, lease)
                    return True
            if self.stop():
                return True
            if not ran:
                if too_long:
                    log.info("%d open trials need more time than is left", len(too_long))
                return bool(too_long)
            # Time has passed: look again at those that were not ours to run.
            order = Order(held + too_long, self.seconds, self.slot)

    def fits(self, trial: Trial) -> bool:
        """Whether the trial would be done before this worker's time is up, as far as one can tell.

        One that takes longer than all the time that a worker has is begun at any time: whoever
        takes it next goes on from its checkpoint.
        """
        pace = self.paces.get(shape_of(trial))
        seconds = self.seconds.get(trial.name) if pace is None else pace * (trial.epochs or 0)
        if seconds is None or not self.has_run:
            return True
        needed = SAFETY * seconds + AROUND_SECONDS
        return needed <= self.ends - clock.now() or needed > self.limit

    def wants(self, standing: Standing) -> bool:
        """Whether this worker should run the trial now."""
        if standing.failure is not None:
            return self.launch not in standing.failure.launches
        if standing.pruned is not None:
            return not self.retry_only and self.launch not in standing.pruned.launches
        if standing.state is State.PENDING:
            return not self.retry_only
        return standing.state is State.LOST

    def run_leased(self, trial: Trial, lease: Lease) -> bool:
        """Run a trial that this process holds. True where it was stopped and is still held."""
        self.tail.clear()
        log.info("%s %s, attempt %d", START, trial.name, lease.attempt)
        try:
            if lease.deaths >= MAX_DEATHS:
                self._give_up(trial, lease)
                return False
            folder = self.store.folder_of(trial)
            with Watch(folder, lease) as watch:
                stopped = self._train(trial, lease, watch)
            self.unsaved = folder if stopped and not leases.got_on(folder, lease) else None
            return stopped
        except BaseException:
            self.store.release(trial, lease)
            raise
        finally:
            self.stop.in_steps = False
            log.info("%s %s", END, trial.name)

    def follow(self, trial: Trial) -> bool:
        """Train as one of the other ranks of a trial that rank 0 holds. True where it was stopped.

        Rank 0 alone writes down what became of it.
        """
        try:
            load(trial.task).train(trial.config, Run(self._attempt(trial), stop=self.stop))
        except StoppedError:
            return not (self.store.folder_of(trial) / trial_files.PRUNED).exists()
        return False

    def _attempt(self, trial: Trial, **known: Any) -> Attempt:
        folder, config = self.store.folder_of(trial), trial.to_json()
        known |= {"limit_seconds": self.limit, "task": trial.task.name}
        return Attempt(folder, trial.fingerprint, config, **known)

    def _train(self, trial: Trial, lease: Lease, watch: Watch) -> bool:
        about = {"attempt": lease.attempt, "launch": lease.launch}
        run: Run | None = None
        try:
            task, config = load(trial.task), trial.config
            self.stop.allow(task.stop_seconds)
            attempt = self._attempt(trial, token=lease.token, number=lease.attempt, facts=about)
            run = Run(
                attempt, stop=self._stop_of(trial, watch), watch=watch,
                on_row=lambda row: log.info("%s", task.row_line(config, row)),
            )  # fmt: skip
            task.read_ahead(config)
            row = run.finish(task.outcome(config, run, task.train(config, run)))
        except StoppedError:
            is_pruned = (self.store.folder_of(trial) / trial_files.PRUNED).exists()
            if run is not None:
                run.end(is_over=is_pruned)
            if not is_pruned:
                return True
            log.info("pruned: a search wants no more of it")
            self.store.release(trial, lease)
        except Exception as error:
            if isinstance(error, OSError) and (storage := storage_error(error)) is not None:
                raise storage from error
            watch.look()  # the failure of an attempt that lost its trial is nothing to the next
            failure = self._failure(error, lease, origin.attempt(**about), trial)
            log.error("%s", failure.traceback.rstrip())
            if run is not None:
                run.end(is_over=True)
            self.store.fail(trial, lease, failure)
        else:
            log.info("done: %s", task.end_line(row))
            if names := snapshot.written():
                log.warning(
                    "the working directory is a copy of the code, which nobody keeps; new files in "
                    "it: %d, such as %s. Write to {folder} (run.folder), or to a whole path",
                    len(names), names[0],
                )  # fmt: skip
            self.store.finish(trial, lease)
            if (budget := row.get("epochs_run") or trial.epochs) and row.get("seconds"):
                self.paces[shape_of(trial)] = row["seconds"] / budget
        finally:
            if run is not None:
                run.files.close()
        return False

    def _stop_of(self, trial: Trial, watch: Watch) -> Callable[[], bool]:
        """What the trial asks between its steps."""
        pruned = self.store.folder_of(trial) / trial_files.PRUNED
        looked = clock.monotonic()

        def should_stop() -> bool:
            nonlocal looked
            self.stop.in_steps = True
            watch.check()
            if self.stop():
                return True
            if clock.monotonic() - looked < LOOK_SECONDS:
                return False
            looked = clock.monotonic()
            return pruned.exists()

        return should_stop

    def _failure(
        self, error: Exception, lease: Lease, about: dict[str, Any] | None, trial: Trial
    ) -> trial_files.Failure:
        exception = "; ".join(one for one in (in_words(error), snapshot.missing(error)) if one)
        trace = _traceback(error)
        if isinstance(error, InputError) and trial.task.command is not None:
            # No line of ours says anything of a program that failed.
            exception, trace = error.what, f"{error.what}\nhelp: {error.help}\n"
        return trial_files.Failure(
            cause=cause_of(error),
            exception=exception,
            traceback=trace,
            # What a program printed is not in our own log.
            log_tail=[*self.tail, *getattr(error, "tail", [])][-LOG_TAIL:],
            attempt=lease.attempt,
            failed_at=clock.now(),
            host=processes.host_name(),
            epoch=getattr(error, "epoch", None),
            origin=about,
        )

    def _give_up(self, trial: Trial, lease: Lease) -> None:
        error = ChildProcessError(
            f"its worker died {lease.deaths} times without a word, or was stopped by the cluster, "
            "before it had saved anything: the kernel kills a process that takes too much memory "
            "(dmesg tells), and a time limit may be shorter than the time between two saves"
        )
        log.error("%s", error)
        self.store.fail(trial, lease, self._failure(error, lease, None, trial))


def begin_origin(trial: Trial, sweep: Path) -> None:
    """Have the attempt that begins say which code it is by: its task's. The packages that it finds
    are listed in the sweep's folder."""
    if (code := code_of(trial.task)) is not None:
        origin.begin(code, *own_code_of(trial.task, trial.values))
    with contextlib.suppress(OSError):  # the disk is full: what the attempt writes will say so
        packages.keep(sweep / CODE)


def _traceback(error: BaseException) -> str:
    """From the task's own first line on; a file of the code snapshot as the project has it."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        at = at.tb_next
    lines = traceback.format_exception(type(error), error, at or error.__traceback__)
    return snapshot.in_project(without_addresses("".join(lines)))


def cause_of(error: Exception) -> trial_files.Cause:
    """The word for what ended an attempt."""
    for task in loaded():
        if (own := task.cause(error)) is not None:
            return own
    text = str(error).lower()
    no_memory = ("not enough memory", "can't allocate memory")
    torch = sys.modules.get("torch")
    out_of_memory = (MemoryError, *([torch.OutOfMemoryError] if torch else []))
    if isinstance(error, out_of_memory) or any(word in text for word in no_memory):
        return "OUT_OF_MEMORY"
    # NCCL stands for the talk between ranks, over gloo too: one that died shows itself so.
    talk = ("nccl", "gloo", "connection closed by peer", "connection reset by peer")
    between_ranks = torch is not None and isinstance(error, torch.distributed.DistError)
    return "NCCL" if between_ranks or any(word in text for word in talk) else "ERROR"


def die_with(parent: int, stop: Stop) -> None:
    """Have Linux send SIGTERM when the parent dies, so that a killed launch leaves no worker."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        stop.warned = True  # it died before we asked


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="The sweep's folder, RESULTS/SWEEP.")],
    plan: Annotated[list[str], typer.Option(help="Run the trials of this plan.")],
    launch: Annotated[float, typer.Option(help="When the launch began, seconds since 1970.")],
    log_file: Annotated[str, typer.Option(help="This process's log, in the sweep's folder.")] = "",
    parent: Annotated[int, typer.Option(help="Stop when this process is gone; 0: never.")] = 0,
    retry: Annotated[bool, typer.Option(help="Only trials that failed or were lost.")] = False,
    only: Annotated[str, typer.Option(help="Only the trial of this name.")] = "",
    slot: Annotated[int, typer.Option(help="Which of the workers that start together.")] = 0,
) -> int:
    """Run the open trials of a sweep, one after another.

    Ends with 0 when none is left to run, 143 when it was asked to stop, else as every command.
    """
    environment.enter(Child.WORKER)
    origin.begin()
    stop = Stop(PATIENCE_SECONDS)
    stop.listen(signal.SIGTERM)

    def work() -> bool:
        # It may take over what a job has lost, where there is a Slurm to say so.
        store = TrialStore(folder.parent, folder.name, Liveness.here())
        seconds = read_seconds(store, plan)
        worker = Worker(store, launch, log_file, retry, stop=stop, slot=slot, seconds=seconds)
        start_logging(worker.tail)
        if parent:
            die_with(parent, stop)
        trials = [trial for identity in plan for trial in store.plan(identity).trials]
        return worker.run(one for one in trials if one.name == only or not only)

    if not stop.during(work):
        return 0
    log.info("stopped on request; the trial was given back")
    return 128 + signal.SIGTERM


if __name__ == "__main__":
    run_command(app)
